"""Figures of merit: tables worked out by hand, a second reckoning in plain loops, and trec_eval by ir-measures."""

import math
import statistics
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import pytest

from evaluation.labels import label_overlap, majority_vote, share_label
from evaluation.metrics import average_precision, capped_precision, ndcg, precision, r_precision, reciprocal_rank
from evaluation.summary import ClassSummary, Summary, summarise

NEAR = {"rel": 0, "abs": 1e-12}
DEPTH = 40

# By hand: four queries, their neighbours from the best to the fifth, and how many could have been found.
HITS = np.array([[1, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
AVAILABLE = np.array([2, 4, 1, 7])

# By hand: images of the labels a, b, c.
A, B, B_TOO, C, A_TOO, A_AND_B, NONE = range(7)
LABELS = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)


def labelled(*images: int) -> "np.ndarray":
    return LABELS[list(images)]


def test_precision_divides_by_k_however_few_could_be_found() -> None:
    assert precision(HITS, 3) == pytest.approx([2 / 3, 2 / 3, 0, 1], **NEAR)
    assert precision(HITS, 5) == pytest.approx([2 / 5, 3 / 5, 0, 1], **NEAR)


def test_capped_precision_looks_at_as_many_as_could_be_found() -> None:
    # First query: two could be found, so only the first two count, and one of them is a hit.
    assert capped_precision(HITS, AVAILABLE, k=3) == pytest.approx([1 / 2, 2 / 3, 0, 1], **NEAR)
    assert capped_precision(HITS, AVAILABLE, k=5) == pytest.approx([1 / 2, 3 / 4, 0, 1], **NEAR)
    assert capped_precision(HITS, AVAILABLE, k=1) == pytest.approx([1, 0, 0, 1], **NEAR)


def test_r_precision_looks_at_as_many_as_could_be_found_without_a_cap() -> None:
    assert r_precision(HITS, np.array([2, 4, 1, 5])) == pytest.approx([1 / 2, 3 / 4, 0, 1], **NEAR)


def test_average_precision_sums_the_precision_at_each_hit() -> None:
    # First: (1/1 + 2/3) / 2. Second: (1/2 + 2/3) / 3 at 3, and (1/2 + 2/3 + 3/4) / 4 at 5.
    assert average_precision(HITS, AVAILABLE, k=3) == pytest.approx([5 / 6, 7 / 18, 0, 1], **NEAR)
    assert average_precision(HITS, AVAILABLE, k=5) == pytest.approx([5 / 6, 23 / 48, 0, 1], **NEAR)


def test_reciprocal_rank_is_that_of_the_first_hit() -> None:
    assert reciprocal_rank(HITS) == pytest.approx([1, 1 / 2, 0, 1], **NEAR)


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    gains, ideal = np.array([[0.5, 0.0, 1.0]]), np.array([[1.0, 0.5, 0.5]])
    # DCG: 0.5 / 1 + 0 / 1.58496 + 1 / 2 = 1. Ideal: 1 / 1 + 0.5 / 1.58496 + 0.5 / 2 = 1.565465.
    assert ndcg(gains, ideal, k=3) == pytest.approx([0.638788], abs=1e-6)
    assert ndcg(gains, ideal, k=1) == pytest.approx([0.5], **NEAR)
    # DCG: 3 + 2 / 1.58496 + 3 / 2 + 0 + 1 / 2.58496 + 2 / 2.80735 = 6.861127. Ideal: 3 + 1.892789 + 1.5 + 0.861353
    # + 0.773706 + 0.712414 = 8.740262.
    gains, ideal = np.array([[3.0, 2, 3, 0, 1, 2]]), np.array([[3.0, 3, 3, 2, 2, 2]])
    assert ndcg(gains, ideal, k=6) == pytest.approx([6.861127 / 8.740262], abs=1e-6)


def test_label_overlap_is_common_labels_by_all_labels() -> None:
    neighbours = np.array([[A, A_AND_B, C, NONE, -1], [A_AND_B, A, NONE, B, -1]])
    expected = np.array([[1 / 2, 1, 0, 0, 0], [1 / 2, 1, 0, 0, 0]], np.float32)
    overlap = label_overlap(labelled(A_AND_B, A), LABELS, neighbours=neighbours)
    assert overlap.dtype == np.float32
    assert overlap.tolist() == expected.tolist()
    three = np.array([[0, 1, 1]], bool)  # of b and c, one is shared with a and b: of three
    assert label_overlap(three, LABELS, neighbours=np.array([[A_AND_B]])) == pytest.approx(1 / 3)


def test_one_label_in_common_is_enough_to_share_one() -> None:
    neighbours = np.array([[A, A_AND_B, C, NONE, -1], [B, A_AND_B, -1, B_TOO, C]])
    assert share_label(labelled(A_AND_B, B), LABELS, neighbours=neighbours).tolist() == [
        [True, True, False, False, False],
        [True, True, False, True, False],
    ]


@pytest.mark.parametrize(
    ("query", "neighbours", "value"),
    [
        (A, [A, B, A_TOO], 1),  # two of three
        (A, [A, B, B_TOO], 0),
        (A, [A, B], 1),  # a tie: a is nearer
        (A, [B, A], 0),
        (A, [A, B, B_TOO, A_TOO], 1),  # a tie: the best carrier counts, not how near the others are
        (A, [C, B, A, B_TOO, A_TOO], 0),  # a tie of the best two, while the nearest of all has fewer votes
        (B, [C, B, A, B_TOO, A_TOO], 1),
        (A, [A_AND_B, B], 0),  # an image votes for each of its labels
        (B, [A_AND_B, B], 1),
        (A_AND_B, [B, C], 1),  # one of the query's labels is enough
        (A, [A_AND_B], 1 / 2),  # one image brought both: as by lot
        (A_AND_B, [A_AND_B], 1),
        (C, [A_AND_B], 0),
        (A, [NONE, -1, A], 1),  # neither has a vote
        (A, [NONE, -1, -1], 0),
    ],
)
def test_majority_vote_takes_the_label_of_most_neighbours(query: int, neighbours: list[int], value: float) -> None:
    ranking = np.array([[*neighbours, C, C, C, C, C]])  # behind k nobody is asked
    assert majority_vote(labelled(query), LABELS, neighbours=ranking, k=len(neighbours)).tolist() == [value]


def test_summary_of_queries_that_may_be_in_several_classes() -> None:
    values = np.array([1, 0, 0.5, 0.5, 1])
    classes = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], bool)
    summary = summarise(values, classes, names=["x", "nobody", "y", "z"])
    assert summary.micro == pytest.approx(0.6, **NEAR)
    # Deviations 0.4, -0.6, -0.1, -0.1, 0.4: their squares sum to 0.7, by 4.
    assert summary.micro_sd == pytest.approx(math.sqrt(0.175), **NEAR)
    assert summary.macro == pytest.approx((0.5 + 0.75 + 1) / 3, **NEAR)
    assert summary.macro_sd == pytest.approx((0.5 + math.sqrt(0.125)) / 2, **NEAR)  # z has one query and no spread
    assert list(summary.per_class) == ["x", "y", "z"]
    assert summary.per_class["x"] == ClassSummary(3, 0.5, 0.5)
    assert summary.per_class["z"] == ClassSummary(1, 1.0, None)


def test_a_spread_that_nothing_has_is_none() -> None:
    alone = summarise(np.array([0.25]), np.array([[True]]), names=["x"])
    assert alone == Summary(0.25, None, 0.25, None, {"x": ClassSummary(1, 0.25, None)})
    two = summarise(np.array([0.0, 1.0]), np.eye(2, dtype=bool), names=["x", "y"])
    assert (two.micro_sd, two.macro_sd) == (math.sqrt(0.5), None)


def test_a_mean_of_float32_is_made_in_float64() -> None:
    values = np.full(10_001, 0.1, np.float32)
    summary = summarise(values, np.ones((10_001, 1), bool), names=["x"])
    assert summary.micro == pytest.approx(float(np.float32(0.1)), **NEAR)


@dataclass(frozen=True)
class Draw:
    """Rankings by chance.

    gains: (queries, DEPTH) whole numbers as float. judged: (queries, images) gains of the whole index, best first.
    """

    gains: "np.ndarray"
    judged: "np.ndarray"

    @property
    def hits(self) -> "np.ndarray":
        return self.gains > 0

    @property
    def available(self) -> "np.ndarray":
        return np.count_nonzero(self.judged, axis=1)


@pytest.fixture(params=range(5))
def draw(request: pytest.FixtureRequest) -> Draw:
    """Fifty queries of 60 images: from 1 to about 25 can be found, and some rankings begin with many misses."""
    random = np.random.default_rng(request.param)
    often = random.uniform(0, 0.4, (50, 1))
    judged = np.where(random.random((50, 60)) < often, random.integers(1, 5, (50, 60)), 0).astype(float)
    judged[judged.sum(axis=1) == 0, 0] = 2
    judged[:, -1] = np.where(judged[:, :-1].any(axis=1), judged[:, -1], 1)
    ranked = random.permuted(judged, axis=1)[:, :DEPTH]
    return Draw(ranked, -np.sort(-judged, axis=1))


def by_hand_precision(hits: list[bool], counted: int) -> float:
    found = 0
    for place in range(counted):
        found += 1 if hits[place] else 0
    return found / counted


def by_hand_average_precision(hits: list[bool], available: int, k: int) -> float:
    return sum(by_hand_precision(hits, place + 1) for place in range(k) if hits[place]) / min(k, available)


def by_hand_reciprocal_rank(hits: list[bool]) -> float:
    return 1 / (hits.index(True) + 1) if True in hits else 0.0


def by_hand_ndcg(gains: list[float], ideal: list[float], k: int) -> float:
    reached = best = 0.0
    for rank in range(1, k + 1):
        reached += gains[rank - 1] / math.log2(rank + 1)
        best += ideal[rank - 1] / math.log2(rank + 1)
    return reached / best


def by_hand_majority_vote(query: set[int], neighbours: list[set[int]]) -> float:
    carriers: dict[int, list[int]] = {}
    for rank, labels in enumerate(neighbours):
        for label in labels:
            carriers.setdefault(label, []).append(rank)
    if not carriers:
        return 0.0
    best = min((-len(ranks), ranks[0]) for ranks in carriers.values())
    winners = {label for label, ranks in carriers.items() if (-len(ranks), ranks[0]) == best}
    return len(winners & query) / len(winners)


@pytest.mark.parametrize("k", [1, 2, 5, 10, DEPTH])
def test_the_same_comes_out_of_plain_loops(draw: Draw, k: int) -> None:
    rows = list(zip(draw.hits.tolist(), draw.available.tolist(), strict=True))
    pairs = [
        (precision(draw.hits, k), [by_hand_precision(hits, k) for hits, _ in rows]),
        (
            capped_precision(draw.hits, draw.available, k=k),
            [by_hand_precision(hits, min(k, available)) for hits, available in rows],
        ),
        (
            average_precision(draw.hits, draw.available, k=k),
            [by_hand_average_precision(hits, available, k) for hits, available in rows],
        ),
        (r_precision(draw.hits, draw.available), [by_hand_precision(*row) for row in rows]),
        (reciprocal_rank(draw.hits), [by_hand_reciprocal_rank(hits) for hits, _ in rows]),
        (
            ndcg(draw.gains, draw.judged, k=k),
            [by_hand_ndcg(*row, k) for row in zip(draw.gains.tolist(), draw.judged.tolist(), strict=True)],
        ),
    ]
    for values, expected in pairs:
        assert values.dtype == np.float64
        assert values == pytest.approx(expected, **NEAR)


@pytest.mark.parametrize("labels", [1, 3, 8, 9, 30])
def test_labels_are_compared_as_sets_are(labels: int) -> None:
    random = np.random.default_rng(labels)
    index = random.random((200, labels)) < 2 / labels * random.random((200, 1))
    queries = random.random((40, labels)) < 0.3
    queries[np.arange(40), random.integers(labels, size=40)] = True
    neighbours = np.array([random.permutation(np.arange(-1, 200))[:12] for _ in range(40)])
    sets = [set(np.flatnonzero(row).tolist()) for row in index] + [set()]  # -1, the last one, is absent
    asked = [set(np.flatnonzero(row).tolist()) for row in queries]
    overlap = label_overlap(queries, index, neighbours=neighbours)
    shared = share_label(queries, index, neighbours=neighbours)
    for place, query in enumerate(asked):
        found = [sets[image] for image in neighbours[place]]
        jaccard = [len(query & one) / len(query | one) for one in found]
        assert overlap[place].tolist() == np.array(jaccard, np.float32).tolist()
        assert shared[place].tolist() == [not query.isdisjoint(one) for one in found]
    for k in (1, 2, 5, 12):
        expected = [
            by_hand_majority_vote(query, [sets[image] for image in neighbours[place, :k]])
            for place, query in enumerate(asked)
        ]
        assert majority_vote(queries, index, neighbours=neighbours, k=k) == pytest.approx(expected, **NEAR)


@pytest.mark.parametrize("tallied", [1, 10, 77, 350])
def test_votes_counted_block_by_block_are_the_same(tallied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(11)
    index = random.random((60, 5)) < 0.4
    queries = np.eye(5, dtype=bool)[random.integers(5, size=70)]
    neighbours = random.integers(-1, 60, (70, 9))
    at_once = majority_vote(queries, index, neighbours=neighbours, k=7)
    monkeypatch.setattr("evaluation.labels._TALLIED", tallied)  # one query, two, fifteen, all of them
    assert majority_vote(queries, index, neighbours=neighbours, k=7).tolist() == at_once.tolist()


@pytest.mark.parametrize(("queries", "labels"), [(200_000, 200), (2_000_000, 1), (20, 100_000)])
def test_votes_take_memory_that_does_not_grow(queries: int, labels: int) -> None:
    index = np.eye(2, labels, dtype=bool)
    index[:, 0] = True
    asked, neighbours = np.ones((queries, labels), bool), np.zeros((queries, 5), np.int8)
    tracemalloc.start()
    try:
        majority_vote(asked, index, neighbours=neighbours, k=5)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - 24 * queries < 16e6  # some numbers a query, and a block's tables


def test_a_summary_is_that_of_the_statistics_module() -> None:
    random = np.random.default_rng(7)
    values, classes = random.random(300), random.random((300, 6)) < [0.5, 0.1, 0.1, 0.01, 0, 0]
    classes[:, 4] = ~classes.any(axis=1)
    classes[17, 5] = True
    names = list("abcdef")
    summary = summarise(values, classes, names=names)
    members = {name: values[classes[:, place]].tolist() for place, name in enumerate(names)}
    assert len(members["f"]) == 1
    spreads = [statistics.stdev(members[name]) for name in names if len(members[name]) > 1]
    assert summary.micro == pytest.approx(statistics.fmean(values), **NEAR)
    assert summary.micro_sd == pytest.approx(statistics.stdev(values.tolist()), **NEAR)
    assert summary.macro == pytest.approx(statistics.fmean(map(statistics.fmean, members.values())), **NEAR)
    assert summary.macro_sd == pytest.approx(statistics.fmean(spreads), **NEAR)


def by_trec_eval(draw: Draw, measure: Any) -> "np.ndarray":
    """(queries,) what ir-measures has trec_eval say; what was not found is judged, too."""
    judgements, run = [], []
    for query, (gains, judged) in enumerate(zip(draw.gains.tolist(), draw.judged.tolist(), strict=True)):
        for place, gain in enumerate(gains):
            judgements.append(ir_measures.Qrel(str(query), f"found{place}", int(gain)))
            run.append(ir_measures.ScoredDoc(str(query), f"found{place}", float(DEPTH - place)))  # no two are equal
        missed = sorted(judged)
        for gain in gains:
            missed.remove(gain)
        judgements += [ir_measures.Qrel(str(query), f"missed{n}", int(gain)) for n, gain in enumerate(missed)]
    values = {int(one.query_id): one.value for one in ir_measures.iter_calc([measure], judgements, run)}
    return np.array([values[query] for query in range(len(draw.gains))])


@pytest.mark.parametrize("k", [1, 5, 10, 30])
def test_precision_and_ndcg_are_those_of_trec_eval(draw: Draw, k: int) -> None:
    assert precision(draw.hits, k) == pytest.approx(by_trec_eval(draw, ir_measures.P @ k), **NEAR)
    assert ndcg(draw.gains, draw.judged, k=k) == pytest.approx(by_trec_eval(draw, ir_measures.nDCG @ k), **NEAR)


def test_reciprocal_rank_and_r_precision_are_those_of_trec_eval(draw: Draw) -> None:
    assert reciprocal_rank(draw.hits) == pytest.approx(by_trec_eval(draw, ir_measures.RR), **NEAR)
    assert r_precision(draw.hits, draw.available) == pytest.approx(by_trec_eval(draw, ir_measures.Rprec), **NEAR)


@pytest.mark.parametrize("k", [1, 5, 10, 30])
def test_average_precision_differs_from_trec_eval_by_its_divisor_only(draw: Draw, k: int) -> None:
    ours, theirs = average_precision(draw.hits, draw.available, k=k), by_trec_eval(draw, ir_measures.AP @ k)
    divisor = np.minimum(k, draw.available)
    assert ours * divisor / draw.available == pytest.approx(theirs, **NEAR)
    few = draw.available <= k
    assert ours[few] == pytest.approx(theirs[few], **NEAR)
    assert (ours[~few] >= theirs[~few]).all()


MEASURES: dict[str, Callable[[Draw], "np.ndarray"]] = {
    "precision": lambda draw: precision(draw.hits, 10),
    "capped precision": lambda draw: capped_precision(draw.hits, draw.available, k=10),
    "R-precision": lambda draw: r_precision(draw.hits, draw.available),
    "average precision": lambda draw: average_precision(draw.hits, draw.available, k=10),
    "nDCG": lambda draw: ndcg(draw.gains, draw.judged, k=10),
    "reciprocal rank": lambda draw: reciprocal_rank(draw.hits),
}
measures = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "precision"])
def test_a_perfect_ranking_reaches_one_exactly(draw: Draw, name: str) -> None:
    assert (MEASURES[name](Draw(draw.judged[:, :DEPTH], draw.judged)) == 1).all()


@measures
def test_a_query_is_judged_alike_among_other_queries(draw: Draw, measure: Callable[[Draw], "np.ndarray"]) -> None:
    order = np.random.default_rng(3).permutation(len(draw.gains))
    shuffled = measure(Draw(draw.gains[order], draw.judged[order]))
    assert shuffled.tolist() == measure(draw)[order].tolist()
    alone = [measure(Draw(draw.gains[[place]], draw.judged[[place]])).item() for place in range(5)]
    assert alone == measure(draw)[:5].tolist()


@measures
def test_a_hit_that_moves_up_makes_no_value_lower(draw: Draw, measure: Callable[[Draw], "np.ndarray"]) -> None:
    before = measure(draw)
    for place in range(DEPTH - 1):
        pair = draw.gains[:, [place, place + 1]]
        gains = draw.gains.copy()
        gains[:, [place, place + 1]] = -np.sort(-pair, axis=1)
        assert (measure(Draw(gains, draw.judged)) >= before - 1e-12).all()


@measures
def test_of_no_queries_there_are_no_values(measure: Callable[[Draw], "np.ndarray"]) -> None:
    assert measure(Draw(np.zeros((0, DEPTH)), np.zeros((0, DEPTH)))).shape == (0,)


@pytest.mark.parametrize("labels", [0, 3])
def test_of_no_queries_there_are_no_overlaps_and_no_votes(labels: int) -> None:
    queries, index, neighbours = np.zeros((0, labels), bool), np.zeros((4, labels), bool), np.zeros((0, 5), int)
    assert label_overlap(queries, index, neighbours=neighbours).shape == (0, 5)
    assert share_label(queries, index, neighbours=neighbours).shape == (0, 5)
    assert majority_vote(queries, index, neighbours=neighbours, k=5).shape == (0,)


def test_an_absent_neighbour_is_a_miss_and_shrinks_no_divisor() -> None:
    """A search by approximation brought three neighbours for five; all are hits, and a fourth one was there."""
    labels, neighbours = labelled(A), np.array([[A, A_TOO, A_AND_B, -1, -1]])
    hits = share_label(labels, LABELS, neighbours=neighbours)
    assert precision(hits, 5).tolist() == [3 / 5]
    assert capped_precision(hits, np.array([4]), k=5).tolist() == [3 / 4]
    assert average_precision(hits, np.array([4]), k=5).tolist() == [3 / 4]
    gains = label_overlap(labels, LABELS, neighbours=neighbours)
    assert ndcg(gains, np.array([[1, 1, 0.5, 0, 0]]), k=5).tolist() == [1]


def test_a_rounding_difference_lifts_no_ndcg_above_one() -> None:
    third = np.full((1, 3), 1 / 3, np.float32)  # in float32 a little above 1/3
    assert ndcg(third, np.full((1, 3), 1 / 3), k=3).tolist() == [1]


def test_gains_too_large_to_be_summed_are_refused() -> None:
    huge = np.full((1, 3), 1e308)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match="gain more than the ideal"):
        ndcg(huge, huge, k=3)


ONE = np.array([[True, False, False]])
IDEAL = np.array([[1.0, 0.5, 0.0]])
TWO = np.array([[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (lambda: precision(ONE, 0), "k is at least 1, not 0"),
        (lambda: precision(ONE, 4), "k is 4 and hits go to 3"),
        (lambda: precision(ONE[0], 1), r"hits are to be \(queries, depth\) of bool"),
        (lambda: precision(ONE.astype(float), 1), "of bool, and are .* of float64"),
        (lambda: capped_precision(ONE, np.array([1]), k=4), "k is 4 and hits go to 3"),
        (lambda: capped_precision(ONE, np.array([0]), k=1), r"query 0 of 1 \(0\): no image is available"),
        (lambda: capped_precision(ONE, np.array([1, 1]), k=1), "there are 1 queries, and available are of 2"),
        (lambda: capped_precision(ONE, np.array([1.0]), k=1), "available are to be .* of signed whole numbers"),
        (lambda: capped_precision(HITS, np.array([2, 3, 1, 4]), k=1), r"query 3 of 4 \(5\): it has more hits"),
        (lambda: average_precision(ONE, np.array([0]), k=1), "no image is available"),
        (lambda: average_precision(ONE, np.array([1]), k=0), "k is at least 1"),
        (lambda: average_precision(ONE, np.array([1]), k=9), "k is 9 and hits go to 3"),
        (lambda: average_precision(HITS, np.array([1, 3, 1, 5]), k=1), r"query 0 of 4 \(2\): it has more hits"),
        (lambda: r_precision(ONE, np.array([4])), r"query 0 of 1 \(4\): R is beyond the depth of the ranking, 3"),
        (lambda: r_precision(ONE, np.array([-1])), "no image is available"),
        (lambda: reciprocal_rank(np.zeros((2, 0), bool)), "hits go to 0"),
        (lambda: ndcg(IDEAL, IDEAL, k=4), "k is 4 and gains go to 3"),
        (lambda: ndcg(IDEAL, IDEAL[:, :2], k=3), "k is 3 and ideal go to 2"),
        (lambda: ndcg(IDEAL, IDEAL, k=0), "k is at least 1"),
        (lambda: ndcg(IDEAL, IDEAL[:, ::-1], k=3), "the ideal gains rise"),
        (lambda: ndcg(IDEAL, IDEAL * 0, k=3), "the ideal gain is 0: drop the query"),
        (lambda: ndcg(IDEAL * 1.1, IDEAL, k=3), "gain more than the ideal"),
        (lambda: ndcg(IDEAL, np.repeat(IDEAL, 2, axis=0), k=3), "there are 1 queries, and ideal gains are of 2"),
        (lambda: ndcg(IDEAL * np.nan, IDEAL, k=3), "gains are finite and at least 0"),
        (lambda: ndcg(-IDEAL, IDEAL, k=3), "gains are finite and at least 0"),
        (lambda: ndcg(IDEAL, IDEAL + np.inf, k=3), "ideal are finite"),
        (lambda: ndcg(ONE, IDEAL, k=3), "gains are to be .* of floating-point numbers"),
        (lambda: summarise(np.zeros(0), np.zeros((0, 1), bool), names=["x"]), "there is no query"),
        (lambda: summarise(np.array([np.nan]), np.ones((1, 1), bool), names=["x"]), "values are finite"),
        (lambda: summarise(TWO, np.ones((2, 1), bool), names=["x"]), "values are to be"),
        (lambda: summarise(TWO[0], np.ones((3, 1), bool), names=["x"]), "2 queries, and classes are of 3"),
        (lambda: summarise(TWO[0], np.ones((2, 1), bool), names=["x", "y"]), "of 1 classes there are 2 names"),
        (lambda: summarise(TWO[0], np.ones((2, 2), bool), names=["x", "x"]), "2 names, 1 different"),
        (lambda: summarise(TWO[0], np.array([[1], [0]], bool), names=["x"]), "query 1 of 2: it belongs to no class"),
        (lambda: summarise(TWO[0], np.ones((2, 1), int), names=["x"]), "classes are to be .* of bool"),
    ],
)
def test_what_contradicts_itself_is_refused(measure: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        measure()


@pytest.mark.parametrize(
    ("queries", "index", "neighbours", "said"),
    [
        (labelled(NONE), LABELS, [[0]], "it has no label: drop the query"),
        (labelled(A), LABELS, [[7]], "neighbours are rows of the index, 0 to 6, or -1"),
        (labelled(A), LABELS, [[-2]], "neighbours are rows of the index"),
        (labelled(A), LABELS, [[0], [1]], "there are 1 queries, and neighbours are of 2"),
        (labelled(A), LABELS, [0], "neighbours are to be"),
        (labelled(A), LABELS, [[0.0]], "neighbours are to be .* of signed whole numbers"),
        (labelled(A), LABELS[:, :2], [[0]], "queries have 3 labels to choose from and the index has 2"),
        (labelled(A), LABELS[:0], [[-1]], "the index holds no image"),
        (labelled(A).astype(int), LABELS, [[0]], "query_labels are to be"),
        (labelled(A), LABELS[0], [[0]], "index_labels are to be"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    queries: "np.ndarray", index: "np.ndarray", neighbours: list[object], said: str
) -> None:
    places = np.array(neighbours)
    for measure in (
        label_overlap,
        share_label,
        lambda *both, neighbours: majority_vote(*both, neighbours=neighbours, k=1),
    ):
        with pytest.raises(ValueError, match=said):
            measure(queries, index, neighbours=places)


def test_a_vote_of_more_neighbours_than_there_are_is_refused() -> None:
    for k, said in ((0, "k is at least 1"), (3, "k is 3 and neighbours go to 2")):
        with pytest.raises(ValueError, match=said):
            majority_vote(labelled(A), LABELS, neighbours=np.array([[A, B]]), k=k)
