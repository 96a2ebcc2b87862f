"""Ask the queries of a trial, a block at a time, and score what they find."""

from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.checks import Flags, Rows, Values
from evaluation.collection import Collection, Image, codes_of
from evaluation.neighbours import nearest
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from radsearch.study import Vectors

_BLOCK = 8192  # queries at once, at most


def first_neighbours(
    collection: Collection, trial: Trial, depth: int, settings: SearchSettings
) -> Iterator[tuple[Rows, Rows]]:
    """The nearest images of the index, by exact search, as the trial allows.

    Where images that are not in the index lie between those that are, the index's vectors are copied.

    Args:
        collection: the images.
        trial: who is asked, and among whom; the rows of its index are rising.
        depth: neighbours of each query.
        settings: device and memory of the search.

    Returns:
        Blocks: (block,) rows of queries, in the trial's order, and (block, depth) rows of the collection, the best
        first, -1 where there is no more.
    """
    groups = None if trial.own_patient else patient_codes(collection.images)
    return neighbours_among(collection.vectors, trial.queries, trial.index, groups, depth, settings)


def neighbours_among(  # noqa: PLR0913, PLR0917 -- who asks, among whom, and who may not meet whom
    vectors: Vectors, queries: Rows, among: Rows, groups: Rows | None, depth: int, settings: SearchSettings
) -> Iterator[tuple[Rows, Rows]]:
    """The nearest of some rows to others, by exact search; a row never meets itself.

    Args:
        vectors: (images, dimension) of all.
        queries: (m,) rows that ask.
        among: (n,) rows that may be found, rising.
        groups: (images,) whole numbers; nobody meets a row of its own group. None lets all meet.
        depth: neighbours of each query.
        settings: device and memory of the search.

    Yields:
        As `first_neighbours`.
    """
    index = _vectors_of(vectors, among)
    of_query = 4 * vectors.shape[1] + 32 * depth
    step = min(_BLOCK, max(1, settings.memory_mb * 10**6 // 4 // of_query))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        found = nearest(
            vectors[rows],
            index,
            min(depth, len(index)),
            query_groups=None if groups is None else groups[rows],
            index_groups=None if groups is None else groups[among],
            query_positions=_own_positions(rows, among),
            device=settings.device,
            memory_mb=max(1, settings.memory_mb // 2),
        ).positions
        found = np.pad(found, ((0, 0), (0, depth - found.shape[1])), constant_values=-1)
        yield rows, np.where(found < 0, -1, among[found])


def hits_of(trial: Trial, rows: Rows, found: Rows) -> Flags:
    """(queries, depth) whether query and neighbour share a label path; an absent neighbour is no hit."""
    labels = trial.labels["label"]
    flags = (
        near >= 0 and not labels[row].isdisjoint(labels[near])
        for row, nears in zip(rows.tolist(), found.tolist(), strict=True)
        for near in nears
    )
    return np.fromiter(flags, bool, found.size).reshape(found.shape)


def macro_of(values: Values | Flags, classes: Sequence[frozenset[str]]) -> float:
    """Mean over the classes of the class mean; a query of several classes counts in each of them."""
    sums: dict[str, list[float]] = {}
    for value, names in zip(values.tolist(), classes, strict=True):
        for name in names:
            of_class = sums.setdefault(name, [0.0, 0.0])
            of_class[0] += value
            of_class[1] += 1
    return sum(total / count for total, count in sums.values()) / len(sums)


def patient_codes(images: Sequence[Image]) -> Rows:
    """(images,) whole numbers, the same for images of one patient."""
    return codes_of([image.patient for image in images])


def trial_rows(trial: Trial) -> Rows:
    """Rows of the collection that are a query, in the index, or both; rising."""
    return np.union1d(trial.queries, trial.index)


def _vectors_of(vectors: Vectors, rows: Rows) -> Vectors:
    """The rows' vectors; without a copy where the rows, which are rising, lie side by side."""
    if rows[-1] - rows[0] + 1 == len(rows):
        return vectors[rows[0] : rows[-1] + 1]
    return vectors[rows]


def _own_positions(rows: Rows, index: Rows) -> Rows:
    places = np.searchsorted(index, rows).clip(max=len(index) - 1)
    own: Rows = np.where(index[places] == rows, places, -1)
    return own
