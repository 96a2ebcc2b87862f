"""MedMNIST's .npz files of flat pictures: written out as PNG files, with the official splits and labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from evaluation.arrays import NO_ARCHIVE
from evaluation.datasets.records import DatasetError, Image, Outcome, Reading
from evaluation.datasets.tables import rows_of

SOURCE = "https://medmnist.com/"
SPLITS = ("train", "val", "test")
_COLOURS = 3
_FLAT, _COLOURED = 3, 4  # axes of (pictures, rows, columns) and of (pictures, rows, columns, colours)


@dataclass(frozen=True, slots=True)
class Naming:
    """What the file does not say of its pictures: modality, region, the classes' names, and that of no class at all.

    classes: name by number; a class without one is `label-<number>`. unlabelled: the label of a picture that has none,
    empty where such pictures are left out.
    """

    modality: str = ""
    region: str = ""
    classes: Mapping[int, str] = field(default_factory=dict)
    unlabelled: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One split's arrays.

    pictures: (n, rows, columns) or (n, rows, columns, 3) uint8. labels: (n, 1) numbers, or (n, classes) of 0 and 1.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]


def read(reading: Reading, pictures: Path, naming: Naming) -> Iterator[Outcome]:
    """One outcome for each picture; those for the manifest are written to `pictures`/SPLIT/ on the way.

    Args:
        reading: its root is the .npz file, or a folder that holds only one. Missing files are not asked for.
        pictures: the folder to write to, made where it is not there. Files of the same name are written over.
        naming: what the file does not say.

    Raises:
        DatasetError: the file is missing, damaged, or holds something else than flat pictures.
    """
    archive = find_archive(reading.root)
    for name in SPLITS:
        split = _load(archive, name)
        folder = pictures / name
        for number, (pixels, labels) in enumerate(zip(split.pictures, split.labels, strict=True)):
            image = Image(
                filepath=folder / f"{archive.stem}-{name}-{number:06}.png",
                dataset=archive.stem,
                modality=naming.modality,
                region=naming.region,
                labels=_named(labels, naming),
                split=name,
            )
            outcome = reading.judge_labels(image)
            if isinstance(outcome, Image):
                _write(pixels, outcome.filepath)
            yield outcome


def find_archive(root: Path) -> Path:
    """The .npz file itself, or the only one of a folder.

    Raises:
        DatasetError: there is none, or several.
    """
    found = [root] if root.is_file() else sorted(root.glob("*.npz"))
    if len(found) != 1:
        words = "is no .npz file" if not found else f"are {len(found)} .npz files, name one of them"
        raise DatasetError(f"there {words} in {root}; get MedMNIST's from {SOURCE}")
    return found[0]


def read_classes(table: Path) -> dict[int, str]:
    """The classes' names by number, of a CSV file with the columns `label` and `name`.

    Raises:
        DatasetError: the file cannot be used.
    """
    classes = {}
    for row in rows_of(table, ("label", "name"), "the data set's own description"):
        if not row["label"].isdecimal() or not row["name"] or ";" in row["name"]:
            raise DatasetError(f"{table} needs a number under label and a name without ; under name in each row")
        classes[int(row["label"])] = row["name"]
    return classes


def _named(labels: NDArray[np.integer[Any]], naming: Naming) -> tuple[str, ...]:
    numbers = labels.tolist() if len(labels) == 1 else np.flatnonzero(labels).tolist()
    names = tuple(naming.classes.get(number, f"label-{number}") for number in numbers)
    return names or ((naming.unlabelled,) if naming.unlabelled else ())


def _write(pixels: NDArray[np.uint8], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(pixels).save(path)
    except OSError as error:
        raise DatasetError(f"no picture can be written to {path.parent} ({error.strerror})") from error


def _load(archive: Path, name: str) -> Split:
    wanted = (f"{name}_images", f"{name}_labels")
    try:
        # A pickled array could run code when it is read; the official files hold none.
        with np.load(archive, allow_pickle=False) as arrays:
            found = [arrays[one] for one in wanted if one in arrays.files]
    except NO_ARCHIVE as error:
        raise DatasetError(f"{archive} cannot be read ({type(error).__name__}); get it from {SOURCE}") from error
    if len(found) < len(wanted):
        raise DatasetError(f"{archive} lacks {' or '.join(wanted)}; get it from {SOURCE}")
    if not all(isinstance(one, np.ndarray) for one in found):  # numpy hands on the bytes of any other file
        raise DatasetError(f"{archive} holds files that are no arrays; get it from {SOURCE}")
    split = Split(*found)
    _check(split, archive)
    return split


def _check(split: Split, archive: Path) -> None:
    pictures, labels = split.pictures, split.labels
    flat = pictures.ndim == _FLAT or (pictures.ndim == _COLOURED and pictures.shape[-1] == _COLOURS)
    if not flat or pictures.dtype != np.uint8:
        raise DatasetError(f"{archive} holds no flat 8-bit pictures; MedMNIST's volumes (...mnist3d) cannot be read")
    if labels.ndim != len(("pictures", "classes")) or len(labels) != len(pictures) or labels.dtype.kind not in "iu":
        raise DatasetError(f"{archive} has not one row of whole numbers as labels for each picture")
    if labels.shape[1] > 1 and not np.isin(labels, (0, 1)).all():
        raise DatasetError(f"{archive} has several labels for each picture that are not 0 or 1")
