"""How sure a mean over queries is: patients are drawn again, as the images of one are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DRAWS = 1000
_PERMUTATIONS = 10_000
_BLOCK = 250  # draws at a time: memory stays below draws x patients of eight bytes


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


def interval_of(values: "np.ndarray", patients: Sequence[str], *, seed: int = 0) -> Interval | None:
    """The interval of the mean over queries.

    Args:
        values: (queries,) a metric of each.
        patients: (queries,) whose they are.
        seed: of the draws.

    Returns:
        None where all are one patient's: nothing can be said.
    """
    sums, counts = _by_patient(values, patients)
    if len(sums) < 2:  # noqa: PLR2004 -- one patient drawn again is always himself
        return None
    means = _drawn_means(sums, counts, seed)
    return Interval(*(float(one) for one in np.percentile(means, [2.5, 97.5])))


def difference_of(first: "np.ndarray", second: "np.ndarray", patients: Sequence[str], *, seed: int = 0) -> Difference:
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
    sums, _ = _by_patient(delta, patients)
    observed = abs(float(sums.sum()))
    random = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, _PERMUTATIONS, _BLOCK):
        signs = random.integers(0, 2, (min(_BLOCK, _PERMUTATIONS - start), len(sums)), np.int8) * 2 - 1
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


def _by_patient(values: "np.ndarray", patients: Sequence[str]) -> tuple["np.ndarray", "np.ndarray"]:
    """(patients,) sums and numbers of queries."""
    _, codes = np.unique(np.asarray(patients), return_inverse=True)
    return np.bincount(codes, weights=values), np.bincount(codes).astype(float)


def _drawn_means(sums: "np.ndarray", counts: "np.ndarray", seed: int) -> "np.ndarray":
    random = np.random.default_rng(seed)
    people = len(sums)
    means = []
    for start in range(0, _DRAWS, _BLOCK):
        drawn = random.multinomial(people, np.full(people, 1 / people), size=min(_BLOCK, _DRAWS - start))
        means.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(means)
