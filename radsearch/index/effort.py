"""How much effort a query takes, so that a filter costs no recall (figures: docs/benchmarks.md).

HNSW walks a graph of neighbours. Where a filter keeps points near the query, they are met on the way. Where it keeps
only points far from it (chest films asked for with a picture of a knee), the walk ends before it has met them. So its
answer is held against the query's nearest points without the filter: hits as near as those are sure; where there are
fewer of them than the filter's share of all points lets expect, more is done.
"""

from dataclasses import dataclass, replace

NEIGHBOURS = 64  # of the query without its filter, that an answer is held against
SMALL = 20_000  # points that are compared one by one in a few milliseconds
SCANNED_KILOBYTES = 80_000  # of vectors that pass: the engine itself compares so many one by one, by their short codes
GRAPH_LINKS, GRAPH_CANDIDATES = 16, 128  # HNSW's m and ef_construct
_CANDIDATES = 256
_PER_HIT = 4
_RESCORED = 80  # candidates by short codes that are compared once more by the whole vectors
_EXPECTED, _SCARCE = 1.5, 4.0  # times fewer sure hits than the filter's share of all points lets expect
_MORE = 8  # times as many candidates where they are a little fewer
_FEW = 1  # sure hits, where many could be expected: the query's neighbourhood is not of the filter's kind
_COMPARED = 1_000_000  # points that pass, which are rather compared one by one than walked to: a third of a second
_MOST_CANDIDATES = 65_536


@dataclass(frozen=True, slots=True)
class Effort:
    """What the engine is asked to do.

    exact: compare with every point that passes, by whole vectors. candidates: kept while walking the graph (`hnsw_ef`).
    oversampling: candidates by their short codes, for each wanted hit, that are compared by whole vectors; 0: none.
    acorn: look at the neighbours of neighbours that do not pass.
    """

    exact: bool = False
    candidates: int = _CANDIDATES
    oversampling: float = 0.0
    acorn: bool = False


def effort_for(limit: int, *, total: int, filtered: bool = False) -> Effort:
    """The effort for `limit` hits of an index of `total` points."""
    if total <= SMALL:
        return Effort(exact=True)
    return Effort(
        candidates=max(_CANDIDATES, _PER_HIT * limit),
        oversampling=max(_RESCORED, _PER_HIT * limit) / limit,
        acorn=filtered,
    )


def more_effort_for(limit: int, *, total: int, kept: int, sure: int) -> Effort | None:
    """What to do after an answer with the usual effort, if anything.

    Args:
        limit: wanted hits.
        total: points of the index.
        kept: those that pass the filter.
        sure: hits of the answer that are as near as the query's `NEIGHBOURS` nearest without the filter.
    """
    scarcity = kept / total * NEIGHBOURS / max(sure, 0.5)
    if sure >= limit or scarcity <= _EXPECTED:
        return None
    usual = effort_for(limit, total=total, filtered=True)
    if scarcity <= _SCARCE or sure > _FEW:
        return replace(usual, candidates=_MORE * usual.candidates)
    if kept <= _COMPARED:
        return Effort(exact=True)
    return replace(usual, candidates=_MOST_CANDIDATES, acorn=False)


def scanned(dimension: int) -> int:
    """How many points of that dimension the engine surely compares one by one of itself."""
    return SCANNED_KILOBYTES * 1024 // (dimension * 4) * 9 // 10  # its own count is an estimate
