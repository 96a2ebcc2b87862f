"""Patients dealt out to folds, so that nobody is scored by what was learned from himself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.checks import Rows
from evaluation.collection import Collection
from radsearch.errors import NothingToSearchError

FOLDS = 5


def folds_of(
    classes: Sequence[frozenset[str]], patients: Sequence[str], rows: Sequence[int], *, seed: int = 0
) -> NDArray[np.int64]:
    """(images,) the fold of each row, -1 of those that are not asked for; all of a patient's are in one.

    The patients of each label (of several, the most frequent of his) are dealt out in turn, the fold with the fewest
    images of it first, of equal ones that with the fewest of all, so that every fold has some of each.

    Args:
        classes: of every image, its labels.
        patients: of every image.
        rows: the images to deal out.
        seed: of the order in which a label's patients come.

    Raises:
        NothingToSearchError: there are fewer patients than folds.
    """
    of_patient: dict[str, list[int]] = {}
    for row in rows:
        of_patient.setdefault(patients[row], []).append(row)
    if len(of_patient) < FOLDS:
        raise NothingToSearchError(
            f"cross-validation needs {FOLDS} patients with labels or more, not {len(of_patient)}"
        )
    draw = np.random.default_rng(seed)
    order = [sorted(of_patient)[place] for place in draw.permutation(len(of_patient))]
    main = {
        patient: min(Counter(name for row in of_patient[patient] for name in classes[row]).items(), key=_first)[0]
        for patient in order
    }
    found = np.full(len(patients), -1, np.int64)
    in_all = [0] * FOLDS
    for name in sorted(set(main.values())):
        held = [0] * FOLDS
        for patient in (one for one in order if main[one] == name):
            fold = min(range(FOLDS), key=lambda one: (held[one], in_all[one], one))
            found[of_patient[patient]] = fold
            held[fold] += len(of_patient[patient])
            in_all[fold] += len(of_patient[patient])
    return found


def whole_patients(patients: Sequence[str], rows: Rows, most: int) -> Rows:
    """Rows of as many patients by chance, always the same, as have so many of them at most; rising."""
    if len(rows) <= most:
        return rows
    of_patient: dict[str, list[int]] = {}
    for row in rows.tolist():
        of_patient.setdefault(patients[row], []).append(row)
    names = sorted(of_patient)
    taken: list[int] = []
    for place in np.random.default_rng(0).permutation(len(names)).tolist():
        if len(taken) + len(of_patient[names[place]]) <= most:
            taken += of_patient[names[place]]
    return np.array(sorted(taken), np.int64)


def some_images(collection: Collection, rows: Sequence[int]) -> Collection:
    """Some of a collection's images, with their vectors; rows rising."""
    return replace(collection, images=[collection.images[row] for row in rows], vectors=collection.vectors[list(rows)])


def _first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]
