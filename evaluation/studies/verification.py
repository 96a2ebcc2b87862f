"""Of the study `relink`: are two images of different studies one patient's? Told from their cosine alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.checks import Rows, Values
from evaluation.intervals import Interval, interval_of
from radsearch.study import Vectors

PAIRS = 200_000  # of one patient, and as many of two
_BLOCK = 4096  # pairs at once


@dataclass(frozen=True, slots=True)
class Verification:
    """How well a cosine tells one patient's pairs of images from pairs of two patients.

    same, same_of: pairs of one patient and two studies that were looked at, and how many there are; where they are
    fewer, those are drawn with the seed. different, different_of: those of two patients. roc_auc: the part of
    (same, different) in which the first has the larger cosine, an equal one counting half. interval: its 95 % interval,
    the patients of the same pairs drawn with replacement. equal_error_rate: the part of wrong answers at the cosine
    where as large a part of either kind is answered wrongly.
    """

    same: int
    same_of: int
    different: int
    different_of: int
    roc_auc: float
    interval: Interval | None
    equal_error_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class _Ranges:
    """Pairs as places of one list: each place with those from `starts` to before `ends`."""

    starts: Rows
    ends: Rows

    @property
    def total(self) -> int:
        """How many pairs there are."""
        return int((self.ends - self.starts).sum())

    def drawn(self, generator: np.random.Generator) -> tuple[Rows, Rows]:
        """(pairs,) places of both, of all pairs or of as many as are looked at, in rising order."""
        total = self.total
        numbers = np.arange(total) if total <= PAIRS else np.sort(generator.choice(total, PAIRS, replace=False))
        before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        firsts = np.searchsorted(before, numbers, side="right") - 1
        return firsts, self.starts[firsts] + numbers - before[firsts]


def verify(  # noqa: PLR0913 -- whose vectors, and three codes that tell which pairs there are
    vectors: Vectors, rows: Rows, *, sites: Rows, patients: Rows, studies: Rows, seed: int
) -> Verification | None:
    """Compare pairs of one site, each pair once.

    Args:
        vectors: (all, dimension) float32, unit vectors.
        rows: (images,) those of the images.
        sites: (images,) codes: only images of one site are compared.
        patients: (images,) codes of patients.
        studies: (images,) codes of studies; a study is one patient's.
        seed: of the draw.

    Returns:
        None where there are no pairs of one kind.
    """
    order = np.lexsort((studies, patients, sites))
    ends_of = [
        _run_ends(*(codes[order] for codes in keys))
        for keys in ((sites,), (sites, patients), (sites, patients, studies))
    ]
    of_site, of_patient, of_study = ends_of
    same, different = _Ranges(of_study, of_patient), _Ranges(of_patient, of_site)
    if not same.total or not different.total:
        return None
    generator = np.random.default_rng(seed)
    first, second = (order[places] for places in same.drawn(generator))
    alike = _cosines(vectors, rows[first], rows[second])
    apart = np.sort(_cosines(vectors, *(rows[order[places]] for places in different.drawn(generator))))
    below = parts_below(alike, apart)
    interval = interval_of(below, [str(code) for code in patients[first]])
    return Verification(
        len(alike),
        same.total,
        len(apart),
        different.total,
        float(below.mean()),
        interval,
        equal_error_rate(alike, apart),
    )


def parts_below(same: Values, different: Values) -> Values:
    """(same,) of each same pair the part of the different ones, which rise, with a smaller cosine; equal ones half.

    Their mean is the ROC-AUC (Mann and Whitney, Ann Math Statist 18, 1947).
    """
    smaller = np.searchsorted(different, same, side="left")
    not_larger = np.searchsorted(different, same, side="right")
    parts: Values = (smaller + not_larger) / (2 * len(different))
    return parts


def equal_error_rate(same: Values, different: Values) -> float:
    """Mean of both rates of error at that cosine, of those there are, where they are closest; of several the least.

    Args:
        same: (pairs,) cosines; one below the bound is taken for two patients'.
        different: (pairs,) cosines, rising; one at the bound or above is taken for one patient's.
    """
    bounds = np.unique(np.concatenate([same, different]))
    missed = np.searchsorted(np.sort(same), bounds, side="left") / len(same)
    let_in = 1 - np.searchsorted(different, bounds, side="left") / len(different)
    apart = np.abs(missed - let_in)
    return float(((missed + let_in) / 2)[apart == apart.min()].min())


def _run_ends(*keys: Rows) -> Rows:
    """(places,) behind which place the run of equal keys ends that each place is in."""
    count = len(keys[0])
    changes = np.zeros(count - 1, bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    ends = np.append(np.flatnonzero(changes) + 1, count)
    return np.repeat(ends, np.diff(ends, prepend=0))


def _cosines(vectors: Vectors, firsts: Rows, seconds: Rows) -> NDArray[np.float64]:
    cosines = np.empty(len(firsts))
    for start in range(0, len(firsts), _BLOCK):
        part = slice(start, start + _BLOCK)
        one, other = (vectors[rows[part]].astype(np.float64) for rows in (firsts, seconds))
        cosines[part] = np.einsum("ij,ij->i", one, other)
    return cosines
