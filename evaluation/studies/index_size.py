"""The study `index-size`: how good the neighbours are when the index holds only a part of its patients.

Source: Denner et al., arXiv 2403.06567, who study the size of the index too. Patients, and not images, are drawn, as a
hospital's index grows by patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.asking import first_neighbours, hits_of, macro_of, patient_codes
from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.metrics import capped_precision
from evaluation.protocols import Trial, available
from evaluation.settings import SearchSettings

PERCENT = (1, 3, 10, 30, 100)
DRAWS = 5
_CUTS = (1, 3, 5, 10)


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the draws in which a query could find something: their mean and sample standard deviation.

    sd: ddof 1; None of one draw.
    """

    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True)
class OfSize:
    """One size of the index.

    percent: of the index's images that are drawn, at least, as patients are drawn whole. images, lost: of each draw,
    how many it has, and queries of whose classes it has none: they are left out of its means. micro, macro: `P@k`,
    capped by what the draw holds; empty where no draw had an image for any query.
    """

    percent: int
    images: Sequence[int]
    lost: Sequence[int]
    micro: Mapping[str, Spread]
    macro: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class IndexSize:
    """The study. sizes: rising; smaller ones of a draw are parts of its larger ones."""

    queries: int
    index: int
    seed: int
    sizes: Sequence[OfSize]


@dataclass(frozen=True, slots=True)
class _Draw:
    images: int
    lost: int
    micro: Mapping[str, float]
    macro: Mapping[str, float]


def study_index_size(collection: Collection, trial: Trial, settings: SearchSettings) -> IndexSize:
    """Search in 1, 3, 10, 30 and 100 % of the index, in five draws each."""
    sizes = []
    for percent in PERCENT:
        seeds = range(DRAWS) if percent < 100 else range(1)  # noqa: PLR2004 -- the whole index is drawn one way only
        parts = [_part(collection, trial, percent, [settings.seed, draw]) for draw in seeds]
        draws = [_measured(collection, replace(trial, index=part), settings) for part in parts]
        sizes.append(_summed_up(percent, draws * (DRAWS // len(draws))))
    return IndexSize(len(trial.queries), len(trial.index), settings.seed, sizes)


def _part(collection: Collection, trial: Trial, percent: int, seed: Sequence[int]) -> Rows:
    """Rows of the index, of whole patients in an order by lot, until they are enough."""
    codes = patient_codes([collection.images[row] for row in trial.index])
    order = np.random.default_rng(seed).permutation(codes.max() + 1)
    reached = np.bincount(codes)[order].cumsum()
    enough = int(np.searchsorted(reached * 100, percent * len(codes)))
    part: Rows = trial.index[np.isin(codes, order[: enough + 1])]
    return part


def _measured(collection: Collection, trial: Trial, settings: SearchSettings) -> _Draw:
    reachable = available(trial, collection, "label")
    there = reachable > 0
    asked = replace(trial, queries=trial.queries[there])
    lost = int((~there).sum())
    if not len(asked.queries):
        return _Draw(len(trial.index), lost, {}, {})
    blocks = first_neighbours(collection, asked, max(_CUTS), settings)
    hits = np.concatenate([hits_of(trial, rows, found) for rows, found in blocks])
    values = {f"P@{k}": capped_precision(hits, reachable[there], k=k) for k in _CUTS}
    classes = [trial.labels["label"][row] for row in asked.queries]
    micro = {name: float(one.mean()) for name, one in values.items()}
    return _Draw(len(trial.index), lost, micro, {name: macro_of(one, classes) for name, one in values.items()})


def _summed_up(percent: int, draws: Sequence[_Draw]) -> OfSize:
    return OfSize(
        percent=percent,
        images=[draw.images for draw in draws],
        lost=[draw.lost for draw in draws],
        micro=_spreads([draw.micro for draw in draws if draw.micro]),
        macro=_spreads([draw.macro for draw in draws if draw.macro]),
    )


def _spreads(draws: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    spreads = {}
    for name in draws[0] if draws else ():
        values = [draw[name] for draw in draws]
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        spreads[name] = Spread(float(np.mean(values)), sd)
    return spreads
