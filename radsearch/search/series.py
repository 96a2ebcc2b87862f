"""A series as a query: its slices are searched by, each alone, and series are scored by how well theirs match them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum

import numpy as np

from radsearch.errors import NothingToSearchError
from radsearch.index import Index, Stored
from radsearch.search.examples import canonical_id
from radsearch.search.ranking import Ranking, check, nearest
from radsearch.study import Hit, SearchFilter, Vectors

MOST_SLICES = 32  # of a series, that are searched by
_DEPTH = 100  # nearest images of each slice


def evenly(count: int, most: int = MOST_SLICES) -> list[int]:
    """At most so many places of `count`, evenly spaced, from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})


def in_order(points: Sequence[Stored]) -> list[Stored]:
    """As far as is known as the scanner made them: by slice, then by frame."""
    return sorted(points, key=lambda point: (_slice(point), point.payload.get("frame") or 0, point.id))


def _slice(point: Stored) -> float:
    try:
        return float(point.payload.get("extra", {}).get("slice", "inf"))
    except ValueError:
        return float("inf")


def slices_of(index: Index, series: str, models: Sequence[str]) -> list[Stored]:
    """The slices of an indexed series that stand for it, with their vectors: at most 32, evenly spaced, in order.

    Args:
        index: that holds them.
        series: its pseudonym, or the id of an image of it.
        models: by which every slice has to have a vector.

    Raises:
        NothingToSearchError: there is no such series, the image is of none, or no slice has the vectors.
    """
    points = index.having("series", [series]) or _beside(index, series)
    seen = [point for point in points if {*models} <= {*point.payload.get("models", ())}]
    if not seen:
        raise NothingToSearchError(f"no image of the series {series} has a vector of {', '.join(models)}")
    chosen = in_order(seen)
    ids = [chosen[place].id for place in evenly(len(chosen))]
    found = {point.id: point for point in index.retrieve(ids, vectors_of=models)}
    return [found[point] for point in ids if point in found]


def _beside(index: Index, point: str) -> list[Stored]:
    """All images of the series of an image."""
    written = canonical_id(point)
    found = index.retrieve([written]) if written else []
    if not found:
        raise NothingToSearchError(f"no indexed series {point}, and no indexed image of that id")
    series = found[0].payload.get("series")
    if not isinstance(series, str):
        raise NothingToSearchError(f"the image {written} is of no known series; search by it alone with --id")
    return index.having("series", [series])


def nearest_series(
    index: Index, slices: Sequence[Mapping[str, Vectors]], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    """The series most like a set of slices, each as its best slice; images of no series are passed over.

    A series scores the mean, over the query's slices, of the best cosine of its own slices (MaxSim). Of each slice the
    100 nearest images are looked at: a series that is not among them counts with the lowest cosine that is. Several
    models are fused by their mean cosine.

    Args:
        index: to be searched.
        slices: of the query, a (dimension,) vector a model each.
        where: which images may be found.
        limit: series a page.
        ranking: threshold (of a series' score), weights and page.

    Raises:
        NothingToSearchError: the ranking asks for more than these.

    Source: Khattab and Zaharia, ColBERT, SIGIR 2020, equation 3, as a mean.
    """
    _refuse_more(ranking)
    by_score = replace(ranking, fusion="score")
    check(slices[0], by_score)
    where = replace(where, present=tuple(dict.fromkeys((*where.present, "series"))))
    plain = replace(by_score, threshold=None)
    answers = [hits for query in slices if (hits := nearest(index, query, where, _DEPTH, plain))]
    least = -np.inf if ranking.threshold is None else ranking.threshold
    scored = [hit for hit in _by_series(answers) if hit.score >= least]
    before = (ranking.page - 1) * limit
    return [replace(hit, rank=rank) for rank, hit in enumerate(scored[before : before + limit], before + 1)]


def _refuse_more(ranking: Ranking) -> None:
    if ranking.group not in {None, "series"} or ranking.diversity or ranking.rerank or ranking.expand:
        raise NothingToSearchError(
            "a search by a series gives series as they are: no diversity, re-ranking, expansion or other group"
        )


def _by_series(answers: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The best hit of each series, with the series' score, best first. Args: answers: of each slice its nearest."""
    floors = [min(hit.score for hit in hits) for hits in answers]
    best: dict[str, Hit] = {}
    cosines: dict[str, list[float]] = {}
    for place, hits in enumerate(answers):
        for hit in hits:
            series = hit.facts.series or hit.id
            row = cosines.setdefault(series, list(floors))
            row[place] = max(row[place], hit.score)
            best[series] = min(best.get(series, hit), hit, key=lambda one: (-one.score, one.id))
    scores = {series: fsum(row) / len(row) for series, row in cosines.items()}  # in whatever order the slices asked
    order = sorted(scores, key=lambda series: (-scores[series], series))
    return [replace(best[series], score=scores[series]) for series in order]
