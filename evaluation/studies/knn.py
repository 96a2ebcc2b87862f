"""The study `knn`: name an image's class by the vote of its nearest neighbours.

The split val chooses k, and never the true class of the image, whose size the paper's code takes k from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evaluation.asking import first_neighbours
from evaluation.checks import Rows, Values
from evaluation.collection import Collection
from evaluation.labels import majority_vote
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from evaluation.studies.splits import Scores, Splits, Task, splits_of

KS = (1, 3, 5, 10, 20, 50)


@dataclass(frozen=True, slots=True)
class Knn:
    """The study.

    task: whether its shared patients meet is the protocol's. val: k -> accuracy. k: the best of them, of equal ones the
    smallest. test: with that k.
    """

    task: Task
    val: Mapping[str, float]
    k: int
    test: Scores


def study_knn(collection: Collection, trial: Trial, settings: SearchSettings) -> Knn:
    """Every neighbour in train votes for its class; of classes with as many votes that of the nearest voter wins.

    Raises:
        RadSearchError: there are not the splits train, val and test.
    """
    splits = splits_of(collection, trial, "knn")
    known = np.full(len(collection.images), -1, np.int64)  # the class of each image of train
    known[splits.rows["train"]] = splits.codes["train"]
    ks = [k for k in KS if k <= len(splits.rows["train"])]
    right = _right(collection, trial, settings, splits, known, "val", ks)
    val = {k: float(one.mean()) for k, one in right.items()}
    best = max(ks, key=lambda k: (val[k], -k))
    test = _right(collection, trial, settings, splits, known, "test", [best])[best]
    return Knn(splits.task, {str(k): accuracy for k, accuracy in val.items()}, best, splits.scores(test))


def _right(  # noqa: PLR0913, PLR0917 -- private, and called twice
    collection: Collection,
    trial: Trial,
    settings: SearchSettings,
    splits: Splits,
    known: Rows,
    split: str,
    ks: list[int],
) -> dict[int, Values]:
    """By k: (images of the split,) 1 where the vote named the class, else 0."""
    asked = replace(trial, queries=splits.rows[split], index=splits.rows["train"])
    right: dict[int, list[Values]] = {k: [] for k in ks}
    step = max(1, settings.memory_mb * 10**6 // 4 // (40 * len(splits.classes)))
    start = 0
    for rows, found in first_neighbours(collection, asked, max(ks), settings):
        votes = np.where(found < 0, -1, known[found])
        codes = splits.codes[split][start : start + len(rows)]
        start += len(rows)
        for part in (slice(first, first + step) for first in range(0, len(rows), step)):
            for k in ks:
                right[k].append(_named(codes[part], votes[part], len(splits.classes), k))
    return {k: np.concatenate(parts) for k, parts in right.items()}


def _named(codes: Rows, votes: Rows, classes: int, k: int) -> Values:
    """(images,) whether the first k votes name the class. votes: (images, depth) classes, -1 of an absent one."""
    every = np.eye(classes, dtype=bool)  # a row a class: a vote is for a class, not for an image
    return majority_vote(every[codes], every, neighbours=votes, k=k)
