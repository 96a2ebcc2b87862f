"""What the studies that classify share: images of one label, by the splits train, val and test."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.checks import Rows, Values
from evaluation.collection import Collection
from evaluation.protocols import Trial
from radsearch.errors import RadSearchError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Scores:
    """On the split test. accuracy: part of the images. macro_accuracy: mean over the classes that test has."""

    accuracy: float
    macro_accuracy: float


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to be named, whoever names it.

    classes: of train. images: split -> number. left_out: reason -> images of the collection. shared_patients: of train,
    with images in val or test. commonest: what naming train's commonest class comes to.
    """

    classes: int
    images: Mapping[str, int]
    left_out: Mapping[str, int]
    shared_patients: int
    commonest: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Images of exactly one label.

    classes: of train, in order; a class's code is its place. rows: split -> (images,) rows of the collection, rising.
    codes: split -> (images,) the class of each. left_out, shared_patients: as in a task.
    """

    classes: Sequence[str]
    rows: Mapping[str, Rows]
    codes: Mapping[str, Rows]
    left_out: Mapping[str, int]
    shared_patients: int

    @property
    def task(self) -> Task:
        """The same in numbers."""
        guess = np.bincount(self.codes["train"]).argmax()
        commonest = self.scores((self.codes["test"] == guess).astype(np.float64))
        images = {split: len(rows) for split, rows in self.rows.items()}
        return Task(len(self.classes), images, self.left_out, self.shared_patients, commonest)

    def scores(self, right: Values) -> Scores:
        """right: (test,) 1 where the class was found, else 0."""
        codes = self.codes["test"]
        counts = np.bincount(codes)
        of_class = np.bincount(codes, weights=right)[counts > 0] / counts[counts > 0]
        return Scores(float(right.mean()), float(of_class.mean()))


def splits_of(collection: Collection, trial: Trial, study: str) -> Splits:
    """The images that a study can classify; those whose class train does not have are left out, and counted.

    Raises:
        RadSearchError: a split has no such image, or train has one class only.
    """
    left_out: Counter[str] = Counter()
    named = _single_labelled(collection, trial, left_out)
    classes = sorted({name for split, _, name in named if split == "train"})
    code = {name: place for place, name in enumerate(classes)}
    left_out["class not in train"] = sum(name not in code for _, _, name in named)
    of_split = {
        split: [(row, code[name]) for at, row, name in named if at == split and name in code] for split in SPLITS
    }
    _require(collection, {split: len(images) for split, images in of_split.items()}, classes, study)
    rows = {split: np.array([row for row, _ in images], np.int64) for split, images in of_split.items()}
    codes = {split: np.array([one for _, one in images], np.int64) for split, images in of_split.items()}
    told = {reason: number for reason, number in left_out.items() if number}
    return Splits(classes, rows, codes, told, _shared_patients(collection, rows))


def _single_labelled(collection: Collection, trial: Trial, left_out: Counter[str]) -> list[tuple[str, int, str]]:
    """(split, row, class) of the images that have one of each."""
    named = []
    for row, (image, names) in enumerate(zip(collection.images, trial.labels["label"], strict=True)):
        split = image.facts.get("split", "")
        if not names:
            left_out["no label"] += 1
        elif len(names) > 1:
            left_out["several labels"] += 1
        elif split not in SPLITS:
            left_out["of no split train, val or test"] += 1
        else:
            named.append((split, row, next(iter(names))))
    return named


def _require(collection: Collection, images: Mapping[str, int], classes: Sequence[str], study: str) -> None:
    missing = [split for split in SPLITS if not images[split]]
    if missing:
        raise RadSearchError(
            f"{collection.source} has no image of one label, of a class that train has, in the split "
            f"{', '.join(missing)}: the study {study!r} needs train, val and test (name the splits at ingest: --split, "
            "or a column of the manifest)"
        )
    if len(classes) < 2:  # noqa: PLR2004 -- of one class there is nothing to be told apart
        raise RadSearchError(
            f"the split train of {collection.source} has one class only: the study {study!r} has nothing to tell apart"
        )


def _shared_patients(collection: Collection, rows: Mapping[str, Rows]) -> int:
    patients = {split: {collection.images[row].patient for row in of_split} for split, of_split in rows.items()}
    return len(patients["train"] & (patients["val"] | patients["test"]))
