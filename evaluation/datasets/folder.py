"""A plain folder of pictures: a folder a class, or MODALITY/region/finding, under split folders or without them."""

import os
from collections.abc import Iterator
from pathlib import Path

from evaluation.datasets.records import DatasetError, Image, LeftOut, Outcome, Reading
from radsearch.reading.vocabulary import MODALITIES

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".dcm", ".nii", ".nii.gz")
NO_PICTURE = "no picture by its name"
NO_CLASS = "not in CLASS/ or MODALITY/region/finding/"
UNSAYABLE = "name that a manifest cannot hold"


def read(reading: Reading, *, modality: str = "", region: str = "") -> Iterator[Outcome]:
    """One outcome for each file below the root, in the order of their paths; links to folders are not followed.

    A first folder named train, val, test or the like is the split; then comes the folder of the class, or three whose
    first is a DICOM modality. The class is the folder's name as it is. A folder states no patient.

    Args:
        reading: what to read; the folder has one label for each image, and all files are there.
        modality: of the images whose folders name none.
        region: likewise.

    Raises:
        DatasetError: there is no such folder.
    """
    if not reading.root.is_dir():
        raise DatasetError(f"there is no folder {reading.root}")
    for path in _walked(reading.root):
        yield _outcome(reading, path, modality, region)


def _outcome(reading: Reading, path: Path, modality: str, region: str) -> Outcome:
    if not path.name.lower().endswith(PICTURES):
        return LeftOut(NO_PICTURE)
    relative = path.relative_to(reading.root)
    if not _is_sayable(relative):
        return LeftOut(UNSAYABLE)
    folders = list(relative.parts[:-1])
    split = SPLITS.get(folders[0].lower(), "") if folders else ""
    match folders[bool(split) :]:
        case [finding]:
            pass
        case [first, region, finding] if first.upper() in MODALITIES:
            modality = first.upper()
        case _:
            return LeftOut(NO_CLASS)
    name = reading.root.name
    return reading.judge(Image(path, name, modality=modality, region=region, labels=(finding,), split=split))


def _is_sayable(relative: Path) -> bool:
    """Cells are UTF-8, stripped when they are read, and a semicolon parts two labels."""
    text = str(relative)
    printable = text.encode("utf-8", "replace").decode() == text and "\n" not in text and "\r" not in text
    return printable and all(part == part.strip() and ";" not in part for part in relative.parts)


def _walked(root: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(root):
        inner.sort()
        yield from (Path(folder, name) for name in sorted(files))
