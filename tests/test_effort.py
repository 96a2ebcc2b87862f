"""How much effort a query takes: what its filter leaves of its neighbourhood decides."""

import numpy as np
import pytest

from radsearch.index import Index
from radsearch.index.effort import NEIGHBOURS, SMALL, Effort, effort_for, more_effort_for, scanned
from radsearch.index.records import Found, IndexCard, Query
from radsearch.index.schema import Conditions
from radsearch.study import Fingerprint, SearchFilter

MILLION = 1_000_000
USUAL = Effort(candidates=256, oversampling=8, acorn=True)
MORE = Effort(candidates=2048, oversampling=8, acorn=True)
MOST = Effort(candidates=65_536, oversampling=8)
ALL = Effort(exact=True)


@pytest.mark.parametrize("limit", [1, 10, 100, 1000])
def test_in_a_small_index_all_points_are_compared(limit: int) -> None:
    assert effort_for(limit, total=SMALL) == ALL
    assert not effort_for(limit, total=SMALL + 1).exact


@pytest.mark.parametrize(("limit", "candidates", "oversampling"), [(1, 256, 80), (10, 256, 8), (100, 400, 4)])
def test_the_effort_grows_with_the_hits(limit: int, candidates: int, oversampling: float) -> None:
    assert effort_for(limit, total=MILLION) == Effort(candidates=candidates, oversampling=oversampling)
    assert effort_for(limit, total=MILLION, filtered=True).acorn


@pytest.mark.parametrize(
    ("kept", "sure", "more"),
    [
        (500_000, 10, None),  # all hits are of the neighbourhood
        (100_000, 10, None),
        (100_000, 6, None),  # as many as one can expect: a tenth of 64
        (100_000, 5, None),
        (100_000, 4, MORE),
        (100_000, 2, MORE),
        (100_000, 1, ALL),
        (100_000, 0, ALL),  # none of the query's kind
        (500_000, 9, MORE),
        (500_000, 2, MORE),  # at the border of the filter's region
        (500_000, 1, ALL),
        (40_000, 1, MORE),
    ],
)
def test_the_fewer_hits_are_sure_the_more_is_done(kept: int, sure: int, more: Effort | None) -> None:
    assert more_effort_for(10, total=MILLION, kept=kept, sure=sure) == more


def test_of_very_many_not_all_are_compared() -> None:
    assert more_effort_for(10, total=2 * MILLION, kept=MILLION, sure=0) == ALL
    assert more_effort_for(10, total=2 * MILLION, kept=MILLION + 1, sure=0) == MOST


def test_the_engine_itself_compares_fewer_of_the_longer_vectors() -> None:
    assert scanned(512) == 36_000
    assert scanned(1024) == 18_000


class Counted(Index):
    """An index of a million points that are not there; it remembers what was asked of its engine.

    Without a filter the scores of its hits fall from 0.9 by a hundredth; with one `near` of them begin there, and the
    others at 0.1.
    """

    location = "nowhere"

    def __init__(self, kept: int, near: int = 0, strictest: int = 0) -> None:
        self.card = IndexCard(models={"first": Fingerprint("first", "w", 512, "8 px", "float32", 1)})
        self.asked: list[tuple[Query, Effort]] = []
        self._kept, self._near, self._strictest = kept, near, strictest or kept

    def _find(self, query: Query, effort: Effort) -> list[Found]:
        self.asked.append((query, effort))
        near = self._near if query.conditions else query.limit
        scores = [(0.9 if number < near else 0.1) - number / 100 for number in range(query.limit)]
        return [Found(str(number), score) for number, score in enumerate(scores)]

    def _count(self, conditions: Conditions, *, exact: bool) -> int:
        """As the engine's fast count: of several conditions at once it knows little."""
        if exact or not conditions:
            return self._kept if conditions else MILLION
        assert len(conditions.must) == 1
        assert not conditions.must_not
        return self._strictest

    def _not_needed(self, *_given: object, **_named: object) -> None:
        raise AssertionError

    _add_models = _write = delete = retrieve = having = _facets = finish = close = pages = sample = _not_needed
    _store_card = _drop_vector = _set_models = _list = _draw = _not_needed


VECTOR = np.eye(512, dtype=np.float32)[0]
MR = SearchFilter(modality=("MR",))


def efforts(index: Counted, where: SearchFilter, limit: int = 10, threshold: float | None = None) -> list[Effort]:
    assert len(index.nearest({"first": VECTOR}, where, limit, threshold=threshold)) == limit
    return [effort for _, effort in index.asked]


def test_a_search_without_a_filter_asks_once() -> None:
    assert efforts(Counted(0), SearchFilter()) == [effort_for(10, total=MILLION)]


def test_a_filter_that_keeps_few_is_left_to_the_engine() -> None:
    assert efforts(Counted(scanned(512)), MR) == [USUAL]


def test_hits_that_are_the_querys_neighbours_need_no_second_search() -> None:
    index = Counted(500_000, near=10)
    assert efforts(index, MR) == [USUAL, Effort(candidates=NEIGHBOURS)]
    (asked, _), (near, _) = index.asked
    assert (asked.limit, bool(asked.conditions), asked.with_payload) == (10, True, True)
    assert (near.limit, bool(near.conditions), near.with_payload) == (NEIGHBOURS, False, False)


@pytest.mark.parametrize(
    ("kept", "near", "last"), [(500_000, 8, MORE), (500_000, 0, ALL), (100_000, 0, ALL), (100_000, 3, MORE)]
)
def test_hits_that_are_not_are_searched_for_with_more_effort(kept: int, near: int, last: Effort) -> None:
    index = Counted(kept, near)
    assert efforts(index, MR) == [USUAL, Effort(candidates=NEIGHBOURS), last]
    assert index.asked[2][0].conditions


CORRELATED = SearchFilter(modality=("MR",), region=("head",), dataset=("one",), without_patients=("p",))


def test_conditions_that_go_together_are_counted_together() -> None:
    """Each keeps a tenth, and so do all: independent ones would keep a thousandth, which the engine compares."""
    assert efforts(Counted(100_000, near=0), CORRELATED) == [USUAL, Effort(candidates=NEIGHBOURS), ALL]
    assert efforts(Counted(100_000, near=6), CORRELATED) == [USUAL, Effort(candidates=NEIGHBOURS)]


def test_conditions_that_leave_little_together_are_no_reason_for_more() -> None:
    """Each keeps a half, all of them a hundredth: six of 64 neighbours are more than enough."""
    index = Counted(10_000, near=6, strictest=500_000)
    assert efforts(index, CORRELATED) == [USUAL, Effort(candidates=NEIGHBOURS)]


def test_a_model_that_few_images_have_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an ingest adds it to a large index."""
    monkeypatch.setattr(Counted, "_find", lambda *_: [Found(str(number), 0.5) for number in range(10)])
    assert len(Counted(500_000).nearest({"first": VECTOR}, MR, 10)) == 10


def test_hits_that_a_threshold_leaves_out_are_not_searched_for() -> None:
    assert efforts(Counted(500_000, near=10), MR, threshold=0.5) == [USUAL, Effort(candidates=NEIGHBOURS)]
