"""NIH ChestX-ray14: a small table in the two forms in which it was published."""

from collections import Counter
from pathlib import Path

import pytest

from evaluation.datasets import nih14
from evaluation.datasets.records import NO_FILE, SEVERAL_LABELS, DatasetError, Image, LeftOut, Reading

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
HEADER += ",OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
PIXELS = "2682,2749,0.143,0.143"
ROWS = [
    "00000001_000.png,Cardiomegaly,0,1,57,M,PA",
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA",
    "00000002_000.png,No Finding,0,2,81,F,AP",
    "00000003_000.png,Pleural_Thickening,0,3,94,F,PA",
    "00000004_000.png,Effusion,0,4,74,M,PA",
    "00000005_000.png,Mass,0,5,74,M,PA",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines = [HEADER, *(f"{row},{PIXELS}" for row in ROWS)]
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines))
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n00000002_000.png\n")
    (tmp_path / "test_list.txt").write_text("00000003_000.png\r\n00000004_000.png\r\n")
    return tmp_path


def images(reading: Reading, *, own_names: bool = False) -> dict[str, Image]:
    outcomes = nih14.read(reading, own_names=own_names)
    return {outcome.filepath.name[:8]: outcome for outcome in outcomes if isinstance(outcome, Image)}


def test_a_row_becomes_an_image_with_all_that_the_table_states(root: Path) -> None:
    found = images(Reading(root, tables_only=True))
    assert found["00000003"] == Image(
        filepath=root / "images" / "00000003_000.png",
        dataset="nih14",
        modality="XR",
        region="chest",
        labels=("Pleural Thickening",),
        patient="3",
        split="test",
        view="PA",
        sex="F",
        age=90,
    )


def test_the_lists_make_the_splits_and_a_file_in_neither_is_left_out(root: Path) -> None:
    outcomes = list(nih14.read(Reading(root, tables_only=True)))
    # Of the patients 1 and 2, the second is val: numpy's RandomState(42).permutation(2) is [1 0].
    splits = [outcome.split if isinstance(outcome, Image) else outcome.reason for outcome in outcomes]
    assert splits == ["train", SEVERAL_LABELS, "val", "test", "test", nih14.NOT_LISTED]


def test_all_labels_keeps_an_image_with_two_in_the_split_of_its_patient(root: Path) -> None:
    kept = [one for one in nih14.read(Reading(root, all_labels=True, tables_only=True)) if isinstance(one, Image)]
    assert [image.labels for image in kept if image.patient == "1"] == [
        ("Cardiomegaly",),
        ("Cardiomegaly", "Emphysema"),
    ]
    assert {image.split for image in kept if image.patient == "1"} == {"train"}


def test_an_effusion_has_the_papers_name_unless_its_own_is_asked_for(root: Path) -> None:
    reading = Reading(root, tables_only=True)
    assert images(reading)["00000004"].labels == ("Pleural Effusion",)
    assert images(reading, own_names=True)["00000004"].labels == ("Effusion",)
    assert images(reading, own_names=True)["00000003"].labels == ("Pleural Thickening",)


def test_pictures_are_found_in_one_folder_and_in_twelve(root: Path) -> None:
    for name in ("images/00000001_000.png", "images_002/images/00000002_000.png", "00000003_000.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    outcomes = list(nih14.read(Reading(root)))
    found = [str(one.filepath.relative_to(root)) for one in outcomes if isinstance(one, Image)]
    assert found == ["images/00000001_000.png", "images_002/images/00000002_000.png", "00000003_000.png"]
    reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, LeftOut))
    assert reasons == {NO_FILE: 1, SEVERAL_LABELS: 1, nih14.NOT_LISTED: 1}


def test_the_table_of_2017_reads_the_same(root: Path) -> None:
    expected = images(Reading(root, tables_only=True))
    (root / "Data_Entry_2017_v2020.csv").unlink()
    lines = [row.split(",") for row in ROWS]
    for cells in lines:
        cells[4] = f"0{cells[4]}Y"
    text = "\n".join([f"{HEADER},", *(f"{','.join(cells)},{PIXELS}," for cells in lines)])
    (root / "Data_Entry_2017.csv").write_text(text)
    assert images(Reading(root, tables_only=True)) == expected


@pytest.mark.parametrize("name", ["train_val_list.txt", "test_list.txt"])
def test_a_missing_list_is_named(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(DatasetError, match=f"there is no {name} .*nihcc.app.box.com"):
        list(nih14.read(Reading(root)))
