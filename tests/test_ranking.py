"""What is made of the nearest images: pages, groups, diversity, fusion by score; on the real engine."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from radsearch.errors import NothingToSearchError
from radsearch.index import Index, IndexedImage, open_index
from radsearch.search.ranking import Ranking, ranked
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Hit, SearchFilter

FIRST = Fingerprint("first", "sha256:1", 3, "8 px", "float32", 1)
SECOND = Fingerprint("second", "sha256:2", 2, "8 px", "float32", 1)
ANY = SearchFilter()
COUNT = 60


def point(number: int) -> str:
    return str(uuid.UUID(int=number + 1))


def direction(degrees: float) -> "np.ndarray":
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0], np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Sixty images, each a degree further from the query; a patient has four in a row, the last twelve have none.

    By the second model the order is the other way round, and every third image has no vector.
    """
    folder = tmp_path_factory.mktemp("ranking") / "index"
    with open_index(Settings(index=str(folder)), create_for=[FIRST, SECOND]) as opened:
        opened.admit([FIRST, SECOND], "check")
        images = []
        for number in range(COUNT):
            vectors = {"first": direction(number)}
            if number % 3:
                vectors["second"] = direction(COUNT - number)[:2]
            known = {"patient": f"p{number // 4}", "study": f"s{number // 2}"} if number < COUNT - 12 else {}
            images.append(IndexedImage(point(number), vectors, {"models": sorted(vectors), **known}))
        opened.write(images)
        yield opened


def numbers(hits: list[Hit]) -> list[int]:
    return [uuid.UUID(hit.id).int - 1 for hit in hits]


QUERY = {"first": direction(0)}
BOTH = {"first": direction(0), "second": direction(0)[:2]}


def test_by_default_the_hits_are_the_nearest_ones(index: Index) -> None:
    hits = ranked(index, QUERY, ANY, 5, Ranking())
    assert numbers(hits) == [0, 1, 2, 3, 4]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "ranking",
    [
        {},
        {"group": "patient"},
        {"group": "study"},
        {"diversity": 0.4},
        {"rerank": "k-reciprocal"},
        {"rerank": "votes", "group": "patient"},
        {"rerank": "diffusion", "group": "study", "diversity": 0.4},
        {"expand": 3},
        {"expand": 2, "rerank": "votes", "diversity": 0.4},
    ],
)
def test_pages_hold_every_hit_once_and_in_order(index: Index, ranking: dict[str, object]) -> None:
    pages = [ranked(index, QUERY, ANY, 7, Ranking(page=page, **ranking)) for page in range(1, 10)]
    everything = [number for page in pages for number in numbers(page)]
    assert len(everything) == len(set(everything))
    assert [hit.rank for page in pages for hit in page] == list(range(1, len(everything) + 1))
    if "group" in ranking:
        groups = [getattr(hit.facts, str(ranking["group"])) for page in pages for hit in page]
        known = [group for group in groups if group is not None]
        assert len(known) == len(set(known)) == {"patient": 12, "study": 24}[str(ranking["group"])]
        assert groups.count(None) == 12
    else:
        assert len(everything) == COUNT


def test_the_page_behind_the_last_is_empty(index: Index) -> None:
    assert ranked(index, QUERY, ANY, 50, Ranking(page=3)) == []
    assert ranked(index, QUERY, ANY, 50, Ranking(page=10**9)) == []


@pytest.mark.parametrize("fusion", ["rank", "score"])
def test_diversity_leaves_nobody_out_whom_one_model_has_not_seen(index: Index, fusion: str) -> None:
    backwards = {"second": BOTH["second"], "first": BOTH["first"]}  # every third has no vector of `second`
    for queries in (BOTH, backwards):
        pages = [
            numbers(ranked(index, queries, ANY, 25, Ranking(fusion=fusion, diversity=0.5, page=page)))
            for page in (1, 2, 3, 4)
        ]
        assert [len(page) for page in pages] == [25, 25, 10, 0]
        assert sorted(number for page in pages for number in page) == list(range(COUNT))


def test_of_groups_that_are_fused_by_rank_a_later_one_is_not_scored_higher(tmp_path: Path) -> None:
    """A patient of many images: those behind him come in a second round, whose ranks begin anew."""
    with open_index(Settings(index=str(tmp_path / "index")), create_for=[FIRST, SECOND]) as crowded:
        crowded.admit([FIRST, SECOND], "check")
        patients = ["a"] * 380 + [f"p{number:03}" for number in range(120)]
        crowded.write(
            [
                IndexedImage(
                    point(number),
                    {"first": direction(number / 10), "second": direction(number / 10)[:2]},
                    {"patient": patient},
                )
                for number, patient in enumerate(patients)
            ]
        )
        wanted = [0, *range(380, 389)]
        plain = ranked(crowded, BOTH, ANY, 10, Ranking(group="patient"))
        assert numbers(plain) == wanted
        scores = [hit.score for hit in plain]
        assert scores == sorted(scores, reverse=True)
        assert numbers(ranked(crowded, BOTH, ANY, 10, Ranking(group="patient", diversity=0.001))) == wanted


def test_of_each_patient_comes_the_best_and_who_is_unknown_comes_alone(index: Index) -> None:
    assert numbers(ranked(index, QUERY, ANY, 5, Ranking(group="patient"))) == [0, 4, 8, 12, 16]
    all_of_them = numbers(ranked(index, QUERY, ANY, 100, Ranking(group="patient")))
    assert all_of_them == [*range(0, 48, 4), *range(48, 60)]


def test_a_group_of_many_does_not_crowd_out_the_others(tmp_path: Path) -> None:
    with open_index(Settings(index=str(tmp_path / "index")), create_for=[FIRST]) as crowded:
        crowded.admit([FIRST], "check")
        patients = ["a"] * 200 + ["b"] * 10
        crowded.write(
            [
                IndexedImage(point(number), {"first": direction(number / 10)}, {"patient": patient})
                for number, patient in enumerate(patients)
            ]
        )
        assert numbers(ranked(crowded, QUERY, ANY, 3, Ranking(group="patient"))) == [0, 200]


def test_a_threshold_ends_the_pages(index: Index) -> None:
    least = float(np.cos(np.radians(9.5)))
    assert numbers(ranked(index, QUERY, ANY, 6, Ranking(threshold=least))) == [0, 1, 2, 3, 4, 5]
    assert numbers(ranked(index, QUERY, ANY, 6, Ranking(threshold=least, page=2))) == [6, 7, 8, 9]


def test_diversity_takes_hits_that_are_unlike_each_other(index: Index) -> None:
    nearest = numbers(ranked(index, QUERY, ANY, 3, Ranking()))
    diverse = numbers(ranked(index, QUERY, ANY, 3, Ranking(diversity=0.9)))
    assert nearest == [0, 1, 2]
    assert diverse[0] == 0
    assert max(diverse) > 30
    assert numbers(ranked(index, QUERY, ANY, 2, Ranking(diversity=1.0)))[1] == COUNT - 1


def test_diversity_is_that_of_the_definition(index: Index) -> None:
    """Step by step, with the relevance of all candidates stretched to 0 .. 1."""
    diversity = 0.3
    vectors = np.stack([direction(number) for number in range(COUNT)])
    relevance = vectors @ direction(0)
    relevance = (relevance - relevance.min()) / (relevance.max() - relevance.min())
    chosen: list[int] = []
    while len(chosen) < 6:
        scores = {
            number: (1 - diversity) * relevance[number]
            - diversity * max([vectors[number] @ vectors[other] for other in chosen], default=0.0)
            for number in range(COUNT)
            if number not in chosen
        }
        chosen.append(max(scores, key=scores.__getitem__))
    assert numbers(ranked(index, QUERY, ANY, 6, Ranking(diversity=diversity))) == chosen


@pytest.mark.parametrize("weights", [{}, {"second": 3.0}, {"first": 0.5, "second": 0.25}, {"second": 0.0}])
def test_fusion_by_score_is_the_weighted_mean_of_the_cosines(index: Index, weights: dict[str, float]) -> None:
    first, second = weights.get("first", 1.0), weights.get("second", 1.0)
    expected = {
        number: (
            first * np.cos(np.radians(number)) + (second * np.cos(np.radians(COUNT - number)) if number % 3 else 0)
        )
        / (first + second)
        for number in range(COUNT)
    }
    order = sorted(expected, key=lambda number: -expected[number])
    hits = ranked(index, BOTH, ANY, 20, Ranking(fusion="score", weights=weights))
    # Images at equal angles on both sides have equal scores: their order among each other is left open.
    assert [hit.score for hit in hits] == pytest.approx([expected[number] for number in order[:20]], abs=1e-5)
    assert [hit.score for hit in hits] == pytest.approx([expected[number] for number in numbers(hits)], abs=1e-5)
    assert len(set(numbers(hits))) == 20
    between = (hits[7].score + next(hit.score for hit in hits[8:] if hit.score < hits[7].score - 1e-4)) / 2
    above = ranked(index, BOTH, ANY, 20, Ranking(fusion="score", weights=weights, threshold=between))
    assert numbers(above) == [number for hit, number in zip(hits, numbers(hits), strict=True) if hit.score > between]
    assert 8 <= len(above) < 20


def test_a_filter_holds_for_every_page_and_group(index: Index) -> None:
    where = SearchFilter(any_of={"patient": ("p1", "p2")})
    assert numbers(ranked(index, QUERY, where, 5, Ranking(page=2))) == [9, 10, 11]
    assert numbers(ranked(index, QUERY, where, 5, Ranking(group="patient"))) == [4, 8]


@pytest.mark.parametrize(
    ("queries", "ranking", "said"),
    [
        (BOTH, {"threshold": 0.5}, "a threshold needs one model"),
        (QUERY, {"diversity": 1.5}, "from 0 to 1"),
        (QUERY, {"diversity": float("nan")}, "from 0 to 1"),
        (QUERY, {"page": 0}, "counted from 1"),
        (QUERY, {"expand": -1}, "first 1 to 100 hits"),
        (QUERY, {"expand": 101}, "first 1 to 100 hits"),
        (QUERY, {"rerank": "by chance"}, "no re-ranking 'by chance'; there are k-reciprocal, diffusion, votes"),
        (BOTH, {"weights": {"first": 2.0}}, "weights need fusion by score"),
        (BOTH, {"weights": {"third": 1.0}, "fusion": "score"}, "third has a weight and is not searched by"),
        (BOTH, {"weights": {"first": -1.0}, "fusion": "score"}, "weights are 0 or more"),
        (BOTH, {"weights": {"first": float("nan")}, "fusion": "score"}, "weights are 0 or more"),
        (BOTH, {"weights": {"first": 0.0, "second": 0.0}, "fusion": "score"}, "one of them is above 0"),
    ],
)
def test_what_does_not_go_together_is_refused(
    index: Index, queries: dict[str, "np.ndarray"], ranking: dict[str, object], said: str
) -> None:
    with pytest.raises(NothingToSearchError, match=said):
        ranked(index, queries, ANY, 5, Ranking(**ranking))
