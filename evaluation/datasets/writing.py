"""Outcomes -> the manifest, and the account of every row."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from evaluation.datasets.records import DatasetError, Image, LeftOut, Outcome
from radsearch.cells import as_cell

COLUMNS = (
    "filepath", "patient", "modality", "region", "labels", "study", "dataset", "split", "view", "sex", "age",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """Where the rows went. images: how many are in the manifest, by split. left_out: how many are not, by reason."""

    images: Counter[str]
    left_out: Counter[str]


def write_manifest(outcomes: Iterable[Outcome], manifest: Path) -> Account:
    """Write the images' rows, paths relative to the manifest's folder, and count the others.

    The file appears under its name when it is complete; a run that fails leaves what was there before.

    Raises:
        DatasetError: no image is left, or the file cannot be written.
    """
    try:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with _whole_or_not(manifest) as stream:
            account = _write_rows(outcomes, csv.writer(stream, lineterminator="\n").writerow, manifest.parent.resolve())
            if not account.images:
                reasons = in_words(account.left_out) or "the tables are empty"
                raise DatasetError(f"no image is left for the manifest: {reasons}")
    except OSError as error:
        raise DatasetError(f"the manifest {manifest} cannot be written ({error.strerror})") from error
    return account


def in_words(counts: Mapping[str, int]) -> str:
    """The counts, the largest first: `20000 more than one label, 3 no label`."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


@contextmanager
def _whole_or_not(path: Path) -> Iterator[TextIO]:
    """A stream whose file takes its name at the end of the block, and goes if that fails."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as stream:
        try:
            yield stream
            stream.flush()
            unfinished.replace(path)
        except BaseException:  # Ctrl-C as well
            unfinished.unlink(missing_ok=True)
            raise


def _write_rows(outcomes: Iterable[Outcome], write: Callable[[Iterable[str]], object], folder: Path) -> Account:
    account = Account(Counter(), Counter())

    @lru_cache(maxsize=1 << 10)
    def relative(inner: Path) -> Path:
        # Many images share a folder, and working out the way to it takes long.
        return Path(os.path.relpath(inner, folder))

    write(COLUMNS)
    for outcome in outcomes:
        if isinstance(outcome, LeftOut):
            account.left_out[outcome.reason] += 1
        else:
            path = relative(outcome.filepath.parent) / outcome.filepath.name
            write(_cells(outcome, path.as_posix()))
            account.images[outcome.split] += 1
    return account


def _cells(image: Image, filepath: str) -> tuple[str, ...]:
    age = "" if image.age is None else str(image.age)
    if any(";" in label for label in image.labels):
        raise DatasetError("a label has a semicolon in it, which parts two labels in a manifest: give it another name")
    labels = ";".join(image.labels)
    facts = (image.study, image.dataset, image.split, image.view, image.sex, age)
    rest = (image.patient, image.modality, image.region, labels, *facts)
    path = f"./{filepath}" if as_cell(filepath) != filepath else filepath  # the same file, and no formula
    return (path, *(as_cell(cell) for cell in rest))
