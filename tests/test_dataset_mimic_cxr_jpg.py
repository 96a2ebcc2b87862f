"""MIMIC-CXR-JPG: three tables, joined by study and image."""

import gzip
from pathlib import Path

import pytest

from evaluation.datasets import mimic_cxr_jpg
from evaluation.datasets.chexpert import FINDINGS
from evaluation.datasets.records import NO_LABEL, SEVERAL_LABELS, DatasetError, Image, LeftOut, Reading

LABELS = sorted([*FINDINGS, "Support Devices"])


def study(number: int, **labels: float) -> str:
    return f"10000032,{number}," + ",".join(str(labels.get(name.replace(" ", "_"), "")) for name in LABELS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    chexpert = [
        "subject_id,study_id," + ",".join(LABELS),
        study(50414267, No_Finding=1.0, Support_Devices=1.0),
        study(50414268, Edema=1.0, Pneumonia=-1.0, Fracture=0.0),
        study(50414269, Edema=1.0, Pneumonia=1.0),
        study(50414270, Pneumonia=-1.0),
    ]
    metadata = [
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns",
        "aaa-1,10000032,50414267,CHEST,LATERAL,3056,2544",
        "aaa-2,10000032,50414267,CHEST,,3056,2544",
        "aaa-3,10000032,50414268,CHEST,PA,3056,2544",
    ]
    split = [
        "dicom_id,study_id,subject_id,split",
        "aaa-1,50414267,10000032,train",
        "aaa-2,50414267,10000032,validate",
        "aaa-3,50414268,10000032,test",
        "aaa-4,50414269,10000032,train",
        "aaa-5,50414270,10000032,train",
        "aaa-6,50414271,10000032,train",
        "aaa-7,50414267,10000032,later",
    ]
    for name, lines in (("chexpert", chexpert), ("metadata", metadata), ("split", split)):
        with gzip.open(tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt") as stream:
            stream.write("\n".join(lines))
    return tmp_path


def test_an_image_has_the_labels_of_its_study_and_its_own_view_and_split(root: Path) -> None:
    first, second, third, *others = mimic_cxr_jpg.read(Reading(root, tables_only=True))
    assert first == Image(
        filepath=root / "files/p10/p10000032/s50414267/aaa-1.jpg",
        dataset="mimic-cxr-jpg",
        modality="XR",
        region="chest",
        labels=("No Finding",),
        patient="p10000032",
        study="s50414267",
        split="train",
        view="LAT",
    )
    assert isinstance(second, Image)
    assert isinstance(third, Image)
    assert (second.split, second.view) == ("val", "")
    assert (third.split, third.view, third.labels) == ("test", "PA", ("Edema",))  # the uncertain pneumonia is absent
    reasons = [outcome.reason if isinstance(outcome, LeftOut) else "kept" for outcome in others]
    assert reasons == [SEVERAL_LABELS, NO_LABEL, mimic_cxr_jpg.NO_STUDY, mimic_cxr_jpg.OTHER_SPLIT]


def test_files_are_looked_for_where_physionet_has_them(root: Path) -> None:
    picture = root / "files/p10/p10000032/s50414267/aaa-1.jpg"
    picture.parent.mkdir(parents=True)
    picture.touch()
    kept = [one for one in mimic_cxr_jpg.read(Reading(root)) if isinstance(one, Image)]
    assert [one.filepath for one in kept] == [picture]


@pytest.mark.parametrize("kind", ["chexpert", "metadata", "split"])
def test_a_missing_table_is_named(root: Path, kind: str) -> None:
    (root / f"mimic-cxr-2.0.0-{kind}.csv.gz").unlink()
    with pytest.raises(DatasetError, match=rf"mimic-cxr-2\.0\.0-{kind}\.csv .*physionet\.org"):
        list(mimic_cxr_jpg.read(Reading(root)))
