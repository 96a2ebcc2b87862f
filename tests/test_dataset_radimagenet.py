"""RadImageNet: what a path says, and the official lists."""

from pathlib import Path

import pytest

from evaluation.datasets import radimagenet
from evaluation.datasets.radimagenet import Shown, shown_by
from evaluation.datasets.records import Image, LeftOut, Reading


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("radiology_ai/CT/abd/normal/abd-normal000001.png", Shown("CT", "abd", "normal")),
        ("radiology_ai/MR/hip/muscle_strain/a.png", Shown("MR", "hip", "muscle strain")),
        ("radiology_ai/US/gb/usn309850.png", Shown("US", "gb", "normal")),
        ("radiology_ai/US/portal_vein/usn1.png", Shown("US", "portal vein", "normal")),
        ("radiology_ai/US/thyroid/usn1.png", Shown("US", "thyroid", "normal")),
        ("radiology_ai/US/thyroid_nodule/usn1.png", Shown("US", "thyroid", "nodule")),
        ("US/thyroid_nodule/usn1.png", Shown("US", "thyroid", "nodule")),
        ("radiology_ai/CT/abd/a.png", None),
        ("radiology_ai/PET/abd/normal/a.png", None),
        ("radiology_ai/US/usn1.png", None),
        ("a.png", None),
        ("CT", None),
        ("radiology_ai/CT", None),
        ("radiology_ai/US/", None),
        ("radiology_ai", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_path_says_modality_region_and_finding(name: str, shown: Shown | None) -> None:
    assert shown_by(name) == shown


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, names in (
        ("train", ["radiology_ai/CT/abd/normal/1.png", "radiology_ai/CT/abd/normal/1.png"]),
        ("val", ["radiology_ai/US/gb/2.png", "radiology_ai/other.png"]),
        ("test", ["radiology_ai/MR/hip/bone_marrow_edema/3.png", "radiology_ai/CT/abd/normal/4.png"]),
    ):
        lines = "\n".join(f"{name},whatever" for name in names)
        (tmp_path / f"RadiologyAI_{split}.csv").write_text(f"filename,label\n{lines}\n")
    return tmp_path


def test_the_official_lists_make_the_splits_and_no_patient_is_invented(root: Path) -> None:
    outcomes = list(radimagenet.read(Reading(root, tables_only=True)))
    assert outcomes[0] == Image(
        root / "radiology_ai/CT/abd/normal/1.png", "radimagenet", "CT", "abd", ("normal",), split="train"
    )
    said = [one.split if isinstance(one, Image) else one.reason for one in outcomes]
    assert said == ["train", radimagenet.TWICE, "val", radimagenet.UNCLEAR, "test", "test"]


def test_a_file_of_two_splits_is_left_out_of_both_and_each_row_is_counted(root: Path) -> None:
    """The train list has 1.png twice, the test list once; 2.png is in val and on the list of bad files."""
    for split, name in (("test", "CT/abd/normal/1.png"), ("train", "US/gb/2.png")):
        with (root / f"RadiologyAI_{split}.csv").open("a") as table:
            table.write(f"radiology_ai/{name},whatever\n")
    (root / "bad.txt").write_text("radiology_ai/US/gb/2.png\n")
    outcomes = list(radimagenet.read(Reading(root, tables_only=True), ignore=root / "bad.txt"))
    said = [one.split if isinstance(one, Image) else one.reason for one in outcomes]
    twice, ignored = radimagenet.SEVERAL_SPLITS, radimagenet.IGNORED
    assert said == [twice, twice, ignored, ignored, radimagenet.UNCLEAR, "test", "test", twice]


def test_a_path_that_ends_with_its_modality_is_counted_and_not_a_crash(root: Path) -> None:
    (root / "RadiologyAI_val.csv").write_text("filename,label\nCT,whatever\nradiology_ai/CT,whatever\n")
    outcomes = list(radimagenet.read(Reading(root)))
    assert outcomes.count(LeftOut(radimagenet.UNCLEAR)) == 2


def test_what_the_list_of_bad_files_names_is_left_out(root: Path) -> None:
    (root / "bad.txt").write_text("radiology_ai/CT/abd/normal/4.png\n")
    outcomes = list(radimagenet.read(Reading(root, tables_only=True), ignore=root / "bad.txt"))
    assert outcomes[-1] == LeftOut(radimagenet.IGNORED)
    assert isinstance(outcomes[0], Image)


@pytest.mark.parametrize("folder", ["radiology_ai", "."])
def test_the_root_is_the_folder_above_the_images_or_theirs(root: Path, folder: str) -> None:
    picture = root / folder / "CT/abd/normal/4.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    assert [one.filepath for one in radimagenet.read(Reading(root)) if isinstance(one, Image)] == [picture]
