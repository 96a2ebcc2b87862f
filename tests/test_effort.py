"""How much effort a query takes: what its filter leaves of its neighbourhood decides."""

import numpy as np
import pytest

from radsearch.index import Index
from radsearch.index.base import Found, IndexCard, Query
from radsearch.index.effort import NEIGHBOURS, SMALL, Effort, effort_for, scanned
from radsearch.index.schema import Conditions
from radsearch.study import Fingerprint, SearchFilter

MILLION = 1_000_000


@pytest.mark.parametrize("limit", [1, 10, 100, 1000])
def test_in_a_small_index_all_points_are_compared(limit: int) -> None:
    assert effort_for(limit, total=SMALL) == Effort(exact=True)
    assert effort_for(limit, total=SMALL, kept=5, near_kept=0) == Effort(exact=True)
    assert not effort_for(limit, total=SMALL + 1).exact


@pytest.mark.parametrize(("limit", "candidates", "oversampling"), [(1, 256, 160), (10, 256, 16), (100, 400, 4)])
def test_without_a_filter_the_effort_grows_with_the_hits(limit: int, candidates: int, oversampling: float) -> None:
    assert effort_for(limit, total=MILLION) == Effort(candidates=candidates, oversampling=oversampling)


@pytest.mark.parametrize(
    ("kept", "near_kept", "effort"),
    [
        (500_000, 256, Effort(candidates=256, oversampling=16, acorn=True)),  # the query's own kind
        (500_000, 128, Effort(candidates=256, oversampling=16, acorn=True)),  # by chance
        (500_000, 64, Effort(candidates=512, oversampling=16, acorn=True)),
        (500_000, 32, Effort(candidates=1024, oversampling=16, acorn=True)),
        (500_000, 31, Effort(candidates=16_384, oversampling=16)),
        (500_000, 0, Effort(candidates=16_384, oversampling=16)),  # none of the query's kind, and many
        (400_000, 0, Effort(exact=True)),
        (100_000, 0, Effort(exact=True)),  # none of the query's kind
        (100_000, 25, Effort(candidates=262, oversampling=16, acorn=True)),
        (30_000, 2, Effort(candidates=983, oversampling=16, acorn=True)),
    ],
)
def test_the_fewer_neighbours_pass_the_more_is_done(kept: int, near_kept: int, effort: Effort) -> None:
    assert effort_for(10, total=MILLION, kept=kept, near_kept=near_kept) == effort


def test_the_engine_itself_compares_fewer_of_the_longer_vectors() -> None:
    assert scanned(512) == 20_000
    assert scanned(1024) == 10_000


class Counted(Index):
    """An index of a million points that are not there; it remembers what was asked of its engine."""

    location = "nowhere"

    def __init__(self, kept: int, near_kept: int) -> None:
        self.card = IndexCard(models={"first": Fingerprint("first", "w", 512, "8 px", "float32", 1)})
        self.asked: list[tuple[Query, Effort]] = []
        self._kept, self._near_kept = kept, near_kept

    def _find(self, query: Query, effort: Effort) -> list[Found]:
        self.asked.append((query, effort))
        return [Found(str(number), 0.5) for number in range(query.limit)]

    def _estimate(self, conditions: Conditions) -> int:
        return self._kept if conditions else MILLION

    def _exact_count(self, conditions: Conditions) -> int:
        ids = [one.values for one in conditions.must if getattr(one, "field", "") == "id"]
        assert [len(values) for values in ids] == [NEIGHBOURS]
        return self._near_kept

    def _not_needed(self, *_given: object, **_named: object) -> None:
        raise AssertionError

    _add_models = _write = delete = retrieve = having = facets = finish = close = _not_needed


VECTOR = np.eye(512, dtype=np.float32)[0]
XR = SearchFilter(modality=("MR",))


def test_a_search_without_a_filter_asks_once() -> None:
    index = Counted(0, 0)
    assert len(index.nearest({"first": VECTOR}, SearchFilter(), 7)) == 7
    assert [effort for _, effort in index.asked] == [effort_for(7, total=MILLION)]


def test_a_filter_that_keeps_few_is_left_to_the_engine() -> None:
    index = Counted(scanned(512), 0)
    index.nearest({"first": VECTOR}, XR, 7)
    assert [effort for _, effort in index.asked] == [effort_for(7, total=MILLION)]


def test_with_a_filter_the_neighbourhood_is_looked_at_first() -> None:
    index = Counted(300_000, 0)
    hits = index.nearest({"first": VECTOR}, XR, 7)
    (near, cheap), (asked, effort) = index.asked
    assert (near.limit, bool(near.conditions), near.with_payload, cheap) == (NEIGHBOURS, False, False, Effort())
    assert (asked.limit, bool(asked.conditions), asked.with_payload) == (7, True, True)
    assert effort == effort_for(7, total=MILLION, kept=300_000, near_kept=0)
    assert len(hits) == 7
