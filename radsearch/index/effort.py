"""How much effort a query takes, so that a filter costs no recall (figures: docs/benchmarks.md).

HNSW walks a graph of neighbours. Where a filter keeps points near the query, they are met on the way. Where it keeps
only points far from it (chest films asked for with a picture of a knee), the walk ends before it has met them. So
whoever plans looks first which of the query's nearest points pass, and compares these with the part of all that do.
"""

from dataclasses import dataclass

NEIGHBOURS = 256  # of the query without its filter, that are looked at for how many pass
SMALL = 20_000  # points that are compared one by one in a few milliseconds
SCANNED_KILOBYTES = 40_000  # of vectors that pass: the engine itself compares so many one by one, by their short codes
GRAPH_LINKS, GRAPH_CANDIDATES = 16, 128  # HNSW's m and ef_construct
_CANDIDATES = 256
_PER_HIT = 4
_RESCORED = 160  # candidates by short codes that are compared once more by the whole vectors
_MOST_CANDIDATES = 16_384
_FAR = 4.0  # times fewer neighbours pass than of all points: the graph is of little help
_COMPARED = 400_000  # points that are rather compared one by one than walked to


@dataclass(frozen=True, slots=True)
class Effort:
    """What the engine is asked to do.

    exact: compare with every point that passes, by whole vectors. candidates: kept while walking the graph (`hnsw_ef`).
    oversampling: candidates by their short codes, for each wanted hit, that are compared by whole vectors.
    acorn: look at the neighbours of neighbours that do not pass.
    """

    exact: bool = False
    candidates: int = _CANDIDATES
    oversampling: float = 1.0
    acorn: bool = False


def effort_for(limit: int, *, total: int, kept: int | None = None, near_kept: int = NEIGHBOURS) -> Effort:
    """The effort for `limit` hits.

    Args:
        limit: wanted hits.
        total: points of the index.
        kept: those that pass the filter; None without one.
        near_kept: those that pass of the query's `NEIGHBOURS` nearest.
    """
    if total <= SMALL:
        return Effort(exact=True)
    usual = max(_CANDIDATES, _PER_HIT * limit)
    oversampling = max(_RESCORED, _PER_HIT * limit) / limit
    if kept is None:
        return Effort(candidates=usual, oversampling=oversampling)
    scarcity = (kept / total) * NEIGHBOURS / max(near_kept, 0.5)
    if scarcity <= _FAR:
        candidates = min(_MOST_CANDIDATES, round(usual * max(1.0, scarcity)))
        return Effort(candidates=candidates, oversampling=oversampling, acorn=True)
    if kept <= _COMPARED:
        return Effort(exact=True)
    return Effort(candidates=_MOST_CANDIDATES, oversampling=oversampling)


def scanned(dimension: int) -> int:
    """How many points of that dimension the engine compares one by one of itself."""
    return SCANNED_KILOBYTES * 1024 // (dimension * 4)
