"""How sure a mean over queries is: patients are drawn again, as the images of one are not independent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.checks import Values
from evaluation.collection import codes_of

_DRAWS = 1000
_PERMUTATIONS = 10_000
_AT_ONCE = 2**22  # swaps of a patient at a time: numbers of eight bytes


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval: the 2.5th and the 97.5th percentile over the draws."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two runs over the same queries: second less first.

    interval: 95 %, patients drawn with replacement. p: of the two-sided permutation test that swaps the runs patient by
        patient; at least 1 / (permutations + 1).
    """

    mean: float
    interval: Interval
    p: float


def intervals_of(values: Mapping[str, Values], patients: Sequence[str], *, seed: int = 0) -> dict[str, Interval]:
    """The intervals of the means over queries; the same patients are drawn for every metric.

    Args:
        values: metric -> (queries,) of each.
        patients: (queries,) whose they are.
        seed: of the draws.

    Returns:
        By metric; empty where all queries are one patient's, as nothing can be said.
    """
    codes = codes_of(patients)
    counts = np.bincount(codes).astype(float)
    if len(counts) < 2:  # noqa: PLR2004 -- one patient drawn again is always himself
        return {}
    sums = np.stack([np.bincount(codes, weights=of_query) for of_query in values.values()], axis=1)
    means = np.stack([(drawn @ sums) / (drawn @ counts) for drawn in _draws(len(counts), seed)])
    bounds = np.percentile(means, [2.5, 97.5], axis=0)
    return {name: Interval(float(low), float(high)) for name, (low, high) in zip(values, bounds.T, strict=True)}


def interval_of(values: Values, patients: Sequence[str], *, seed: int = 0) -> Interval | None:
    """The interval of one metric's mean over queries; None where all are one patient's."""
    return intervals_of({"": values}, patients, seed=seed).get("")


def difference_of(first: Values, second: Values, patients: Sequence[str], *, seed: int = 0) -> Difference:
    """The paired difference of two runs over the same queries.

    Args:
        first: (queries,) a metric of each, by one run.
        second: (queries,) by the other run.
        patients: (queries,) whose they are.
        seed: of the draws and the swaps.

    Raises:
        ValueError: of fewer than two patients, or of other lengths.
    """
    if first.shape != second.shape:
        raise ValueError("the two runs have other numbers of queries")
    delta = second - first
    interval = interval_of(delta, patients, seed=seed)
    if interval is None:
        raise ValueError("a difference needs queries of two patients or more")
    sums = np.bincount(codes_of(patients), weights=delta)
    observed = abs(float(sums.sum()))
    random = np.random.default_rng(seed)
    extreme, step = 0, max(1, _AT_ONCE // len(sums))
    for start in range(0, _PERMUTATIONS, step):
        signs = random.integers(0, 2, (min(step, _PERMUTATIONS - start), len(sums)), np.int8) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= observed - 1e-9 * max(1.0, observed)).sum())
    return Difference(float(delta.mean()), interval, (extreme + 1) / (_PERMUTATIONS + 1))


def corrected(p_values: Sequence[float]) -> list[float]:
    """Of several tests at once, by Holm's step-down method (Scand J Statist 6, 1979): each still at most 1."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _draws(people: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each patient is drawn, of as many draws with replacement as there are patients."""
    random = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        yield np.bincount(random.integers(people, size=people), minlength=people).astype(float)
