"""CheXpert: which rows stay, in which split, and where their files are looked for."""

from pathlib import Path

import pytest

from evaluation.datasets import chexpert
from evaluation.datasets.records import NO_LABEL, SEVERAL_LABELS, UNCERTAIN, DatasetError, Image, LeftOut, Reading

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join([*chexpert.FINDINGS, "Support Devices"])
FOLDER = "CheXpert-v1.0-small"


def row(patient: int, split: str = "train", facts: str = "Female,68,Frontal,AP", **labels: float) -> str:
    """One line of a table; a finding is named with _ for a space."""
    cells = [str(labels.get(name.replace(" ", "_"), "")) for name in [*chexpert.FINDINGS, "Support Devices"]]
    return f"{FOLDER}/{split}/patient{patient:05}/study1/view1_frontal.jpg,{facts},{','.join(cells)}"


def write(folder: Path, train: list[str], valid: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_text("\n".join([HEADER, *train]))
    (folder / "valid.csv").write_text("\n".join([HEADER, *valid]))
    return folder


def said(root: Path, *, all_labels: bool = False) -> list[str]:
    outcomes = chexpert.read(Reading(root, all_labels=all_labels, tables_only=True))
    return [outcome.reason if isinstance(outcome, LeftOut) else ";".join(outcome.labels) for outcome in outcomes]


def test_a_row_becomes_an_image_with_all_that_the_table_states(tmp_path: Path) -> None:
    root = write(tmp_path, [], [row(7, "valid", Pleural_Effusion=1.0, Edema=0.0)])
    assert list(chexpert.read(Reading(root, tables_only=True))) == [
        Image(
            filepath=root / "valid/patient00007/study1/view1_frontal.jpg",
            dataset="chexpert",
            modality="XR",
            region="chest",
            labels=("Pleural Effusion",),
            patient="patient00007",
            study="patient00007/study1",
            split="test",
            view="AP",
            sex="F",
            age=68,
        )
    ]


def test_exactly_one_finding_and_none_uncertain_stays_and_support_devices_do_not_count(tmp_path: Path) -> None:
    train = [
        row(1, No_Finding=1.0, Support_Devices=1.0),
        row(2, Support_Devices=1.0),
        row(3, Edema=1.0, Fracture=1.0),
        row(4, Edema=1.0, Fracture=1.0, Pneumonia=-1.0),
        row(5, Edema=1.0, Pneumonia=-1.0),
        row(6, Pneumonia=1.0, Support_Devices=-1.0),
    ]
    root = write(tmp_path, train, [])
    assert said(root) == ["No Finding", NO_LABEL, SEVERAL_LABELS, UNCERTAIN, UNCERTAIN, "Pneumonia"]
    assert said(root, all_labels=True) == ["No Finding", NO_LABEL, "Edema;Fracture", UNCERTAIN, UNCERTAIN, "Pneumonia"]


def test_an_uncertain_label_of_the_test_split_counts_as_absent(tmp_path: Path) -> None:
    assert said(write(tmp_path, [], [row(1, "valid", Edema=1.0, Pneumonia=-1.0)])) == ["Edema"]


def test_train_and_val_are_drawn_among_the_patients_whose_labels_sum_up_to_one(tmp_path: Path) -> None:
    # Of ten patients the ninth is val (see test_datasets.py). The one in front of them, whose sum is 0, does not count;
    # the third, whose sum is 1 by way of a -1, does.
    train = [row(99, Edema=1.0, Fracture=-1.0), *(row(number, Edema=1.0) for number in range(1, 11))]
    train[3] = row(3, Edema=1.0, Fracture=1.0, Pneumonia=-1.0)
    outcomes = chexpert.read(Reading(write(tmp_path, train, []), tables_only=True))
    splits = {one.patient: one.split for one in outcomes if isinstance(one, Image)}
    assert [patient for patient, split in splits.items() if split == "val"] == ["patient00009"]
    assert len(splits) == 9


def test_the_papers_patients_keep_their_split_when_all_labels_stay(tmp_path: Path) -> None:
    train = [row(number, Edema=1.0, **({"Fracture": 1.0} if number % 2 else {})) for number in range(1, 41)]
    root = write(tmp_path, train, [])
    paper, everybody = (
        {one.patient: one.split for one in chexpert.read(reading) if isinstance(one, Image)}
        for reading in (Reading(root, tables_only=True), Reading(root, all_labels=True, tables_only=True))
    )
    assert (len(paper), len(everybody)) == (20, 40)
    assert everybody.items() >= paper.items()
    assert list(everybody.values()).count("val") == 4


@pytest.mark.parametrize(
    ("facts", "view", "sex"),
    [
        ("Male,68,Frontal,PA", "PA", "M"),
        ("Male,68,Lateral,", "LAT", "M"),
        ("Male,68,Frontal,LL", "LL", "M"),
        ("Unknown,0,Frontal,", "", ""),
    ],
)
def test_views_and_sexes(tmp_path: Path, facts: str, view: str, sex: str) -> None:
    (image,) = chexpert.read(Reading(write(tmp_path, [row(1, facts=facts, Edema=1.0)], []), tables_only=True))
    assert isinstance(image, Image)
    assert (image.view, image.sex) == (view, sex)


@pytest.mark.parametrize(("tables", "files"), [(".", "."), (".", FOLDER), (FOLDER, FOLDER)])
def test_tables_and_files_lie_in_the_root_or_in_its_official_folder(tmp_path: Path, tables: str, files: str) -> None:
    write(tmp_path / tables, [row(1, Edema=1.0)], [])
    picture = tmp_path / files / "train/patient00001/study1/view1_frontal.jpg"
    picture.parent.mkdir(parents=True)
    picture.touch()
    (image,) = chexpert.read(Reading(tmp_path))
    assert isinstance(image, Image)
    assert image.filepath == picture


def test_a_path_of_another_depth_names_no_patient(tmp_path: Path) -> None:
    root = write(tmp_path, [row(1, Edema=1.0).replace("/study1", "")], [])
    assert said(root) == [chexpert.NO_PATIENT]


def test_a_label_that_is_none_of_its_numbers_stops_the_run_and_names_no_patient(tmp_path: Path) -> None:
    root = write(tmp_path, [row(1, Edema=2.0)], [])
    with pytest.raises(DatasetError, match=r"a label is '2\.0', none of 1, 0 and -1") as caught:
        said(root)
    assert "patient" not in str(caught.value)
