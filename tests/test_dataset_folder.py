"""A plain folder: class, split, modality and region from the folders' names."""

from pathlib import Path

import pytest

from evaluation.datasets import folder
from evaluation.datasets.records import DatasetError, Image, LeftOut, Reading


def said(root: Path, name: str, modality: str = "", region: str = "") -> "tuple[str, ...] | str":
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (outcome,) = folder.read(Reading(root), modality=modality, region=region)
    if isinstance(outcome, LeftOut):
        return outcome.reason
    return (outcome.split, outcome.modality, outcome.region, *outcome.labels)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Lung_Opacity/1.png", ("", "DX", "thorax", "Lung_Opacity")),
        ("train/mass/1.PNG", ("train", "DX", "thorax", "mass")),
        ("Validation/mass/1.jpg", ("val", "DX", "thorax", "mass")),
        ("ct/head/bleed/1.dcm", ("", "CT", "head", "bleed")),
        ("test/MR/head/bleed/1.nii.gz", ("test", "MR", "head", "bleed")),
        ("test/1.png", folder.NO_CLASS),
        ("1.png", folder.NO_CLASS),
        ("mass/deep/1.png", folder.NO_CLASS),
        ("no/modality/here/1.png", folder.NO_CLASS),
        ("train/ct/head/bleed/deep/1.png", folder.NO_CLASS),
        ("mass/notes.txt", folder.NO_PICTURE),
        ("mass;edema/1.png", folder.UNSAYABLE),
        (" mass/1.png", folder.UNSAYABLE),
        ("mass/one\nline.png", folder.UNSAYABLE),
        ("mass/\udcff.png", folder.UNSAYABLE),
    ],
)
def test_folders_say_what_an_image_is_and_the_options_what_they_do_not(
    tmp_path: Path, name: str, expected: "tuple[str, ...] | str"
) -> None:
    assert said(tmp_path, name, "DX", "thorax") == expected


def test_files_come_in_a_fixed_order_and_the_data_set_has_the_folders_name(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/9.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = [one for one in folder.read(Reading(tmp_path)) if isinstance(one, Image)]
    assert [str(one.filepath.relative_to(tmp_path)) for one in images] == ["a/9.png", "b/1.png", "b/2.png"]
    assert {one.dataset for one in images} == {tmp_path.name}


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="there is no folder"):
        list(folder.read(Reading(tmp_path / "file")))
