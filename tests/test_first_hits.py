"""Re-ranked and expanded searches on the real engine: what moves, what stays, and who is never asked."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from radsearch.index import Index, IndexedImage, open_index
from radsearch.search import Ranking, Searcher, Wanted
from radsearch.search.ranking import ranked
from radsearch.search.reranking import RERANKINGS, Likeness, expanded_query, k_reciprocal, study_votes
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Hit, SearchFilter

FIRST = Fingerprint("first", "sha256:1", 6, "8 px", "float32", 1)
SECOND = Fingerprint("second", "sha256:2", 4, "8 px", "float32", 1)
ANY = SearchFilter()
COUNT = 130  # more than are re-ranked


def point(number: int) -> str:
    return str(uuid.UUID(int=number + 1))


def numbers(hits: list[Hit]) -> list[int]:
    return [uuid.UUID(hit.id).int - 1 for hit in hits]


def unit_rows(seed: int, count: int, dimension: int) -> "np.ndarray":
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    rows[:, 0] += 2
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


OF_FIRST, OF_SECOND = unit_rows(1, COUNT, 6), unit_rows(2, COUNT, 4)
QUERY = {"first": unit_rows(3, 1, 6)[0]}
BOTH = {**QUERY, "second": unit_rows(4, 1, 4)[0]}
NEAREST = np.argsort(-(OF_FIRST @ QUERY["first"])).tolist()


def has_second(number: int) -> bool:
    return number % 4 != 0


def facts(number: int) -> dict[str, str]:
    """Patients of three in a row; of every second one the studies are known; of the last ten images nothing is."""
    if number >= COUNT - 10:
        return {}
    known = {"patient": f"p{number // 3}", "sex": "F" if number % 2 else "M"}
    return known | ({"study": f"s{number // 2}"} if number // 3 % 2 else {})


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("first-hits") / "index"
    with open_index(Settings(index=str(folder), quantization="none"), create_for=[FIRST, SECOND]) as opened:
        opened.admit([FIRST, SECOND], "check")
        images = []
        for number in range(COUNT):
            vectors = {"first": 3 * OF_FIRST[number]}  # cosines do not care for length
            if has_second(number):
                vectors["second"] = OF_SECOND[number]
            images.append(IndexedImage(point(number), vectors, {"models": sorted(vectors), **facts(number)}))
        opened.write(images)
        yield opened


def likeness(found: list[int]) -> Likeness:
    rows = OF_FIRST[found].astype(np.float64)
    return Likeness(rows @ QUERY["first"], rows @ rows.T)


def by_scores(found: list[int], scores: "np.ndarray") -> list[int]:
    return [found[place] for place in np.argsort(-scores, kind="stable")]


def test_the_first_hundred_are_reordered_and_the_rest_goes_on_as_it_was(index: Index) -> None:
    head = by_scores(NEAREST[:100], k_reciprocal(likeness(NEAREST[:100])))
    assert head != NEAREST[:100]
    assert numbers(ranked(index, QUERY, ANY, COUNT, Ranking(rerank="k-reciprocal"))) == [*head, *NEAREST[100:]]


@pytest.mark.parametrize("limit", [7, 30, 64])
def test_pages_of_a_reranked_search_are_lots_of_one_list(index: Index, limit: int) -> None:
    whole = ranked(index, QUERY, ANY, COUNT, Ranking(rerank="diffusion"))
    pages = [
        ranked(index, QUERY, ANY, limit, Ranking(rerank="diffusion", page=page))
        for page in range(1, COUNT // limit + 3)
    ]
    assert [(hit.id, hit.rank) for page in pages for hit in page] == [(hit.id, hit.rank) for hit in whole]
    assert pages[-1] == []


@pytest.mark.parametrize("rerank", RERANKINGS)
def test_a_score_stays_the_cosine_to_the_query(index: Index, rerank: str) -> None:
    hits = ranked(index, QUERY, ANY, COUNT, Ranking(rerank=rerank))
    scores = [hit.score for hit in hits]
    np.testing.assert_allclose(scores, OF_FIRST[numbers(hits)] @ QUERY["first"], atol=1e-5)
    assert scores != sorted(scores, reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, COUNT + 1))


def test_votes_are_those_of_the_study_or_else_of_the_patient(index: Index) -> None:
    found = NEAREST[:100]
    groups = [facts(number).get("study") or facts(number).get("patient") for number in found]
    expected = by_scores(found, study_votes(likeness(found).to_query, groups))
    assert numbers(ranked(index, QUERY, ANY, 100, Ranking(rerank="votes"))) == expected


def test_a_threshold_is_on_the_cosine_and_what_is_below_has_no_say(index: Index) -> None:
    cosines = OF_FIRST[NEAREST] @ QUERY["first"]
    least = float((cosines[39] + cosines[40]) / 2)
    expected = by_scores(NEAREST[:40], k_reciprocal(likeness(NEAREST[:40])))
    assert numbers(ranked(index, QUERY, ANY, COUNT, Ranking(rerank="k-reciprocal", threshold=least))) == expected


def test_a_filter_chooses_who_has_a_say(index: Index) -> None:
    women = [number for number in NEAREST if facts(number).get("sex") == "F"]
    assert len(women) < 100
    hits = ranked(index, QUERY, SearchFilter(any_of={"sex": ("F",)}), COUNT, Ranking(rerank="k-reciprocal"))
    assert numbers(hits) == by_scores(women, k_reciprocal(likeness(women)))


def test_of_a_group_the_best_of_the_new_order_comes(index: Index) -> None:
    whole = numbers(ranked(index, QUERY, ANY, 100, Ranking(rerank="k-reciprocal")))
    seen: dict[str, int] = {}
    for number in whole:
        seen.setdefault(facts(number).get("patient", f"alone {number}"), number)
    grouped = numbers(ranked(index, QUERY, ANY, COUNT, Ranking(rerank="k-reciprocal", group="patient")))
    assert grouped[: len(seen)] == list(seen.values())
    rest = [facts(number).get("patient", f"alone {number}") for number in grouped]
    assert (
        len(rest) == len(set(rest)) == len({facts(number).get("patient", f"alone {number}") for number in range(COUNT)})
    )


def test_diversity_starts_from_the_new_order_and_keeps_the_score(index: Index) -> None:
    first = numbers(ranked(index, QUERY, ANY, 1, Ranking(rerank="votes")))
    assert first != NEAREST[:1]
    slightly = ranked(index, QUERY, ANY, 100, Ranking(rerank="votes", diversity=1e-9))
    assert numbers(slightly) == numbers(ranked(index, QUERY, ANY, 100, Ranking(rerank="votes")))
    hits = ranked(index, QUERY, ANY, 10, Ranking(rerank="votes", diversity=0.5))
    assert numbers(hits)[:1] == first
    assert numbers(hits) != numbers(slightly)[:10]
    np.testing.assert_allclose([hit.score for hit in hits], OF_FIRST[numbers(hits)] @ QUERY["first"], atol=1e-5)


@pytest.mark.parametrize("weights", [{}, {"second": 3.0}, {"first": 0.5, "second": 0.25}])
def test_several_models_say_the_mean_of_what_those_say_that_saw_both(index: Index, weights: dict[str, float]) -> None:
    plain = ranked(index, BOTH, ANY, 100, Ranking(fusion="score", weights=weights))
    found = numbers(plain)
    first, second = weights.get("first", 1.0), weights.get("second", 1.0)

    def mean(of_first: float, of_second: float, *, both: bool) -> float:
        total = first + (second if both else 0)
        return (first * of_first + (second * of_second if both else 0)) / total if total else 0.0

    to_query = [mean(OF_FIRST[n] @ BOTH["first"], OF_SECOND[n] @ BOTH["second"], both=has_second(n)) for n in found]
    among = [
        [
            mean(OF_FIRST[n] @ OF_FIRST[m], OF_SECOND[n] @ OF_SECOND[m], both=has_second(n) and has_second(m))
            for m in found
        ]
        for n in found
    ]
    expected = by_scores(found, k_reciprocal(Likeness(np.array(to_query), np.array(among))))
    hits = ranked(index, BOTH, ANY, 100, Ranking(fusion="score", weights=weights, rerank="k-reciprocal"))
    assert numbers(hits) == expected
    scores = {hit.id: hit.score for hit in plain}
    assert [hit.score for hit in hits] == [scores[hit.id] for hit in hits]


def test_what_follows_a_reranked_fusion_by_rank_is_not_scored_higher(index: Index) -> None:
    hits = ranked(index, BOTH, ANY, COUNT, Ranking(rerank="votes"))
    assert sorted(numbers(hits)) == list(range(COUNT))
    assert max(hit.score for hit in hits[100:]) <= min(hit.score for hit in hits[:100])


def test_an_expanded_query_asks_the_index_anew(index: Index) -> None:
    moved = expanded_query(QUERY["first"], OF_FIRST[NEAREST[:5]])
    expected = np.argsort(-(OF_FIRST @ moved)).tolist()
    assert expected != NEAREST
    hits = ranked(index, QUERY, ANY, COUNT, Ranking(expand=5))
    assert numbers(hits) == expected
    np.testing.assert_allclose([hit.score for hit in hits], OF_FIRST[expected] @ moved, atol=1e-5)


def test_one_hit_a_group_expands_the_query(index: Index) -> None:
    best: dict[str, int] = {}
    for number in NEAREST:
        best.setdefault(facts(number).get("patient", f"alone {number}"), number)
    assert list(best.values())[:20] != NEAREST[:20]
    moved = expanded_query(QUERY["first"], OF_FIRST[list(best.values())[:20]])
    (first, *_) = ranked(index, QUERY, ANY, 5, Ranking(expand=20, group="patient"))
    assert first.score == pytest.approx(float((OF_FIRST @ moved).max()), abs=1e-5)


def test_what_is_below_the_threshold_does_not_move_the_query(index: Index) -> None:
    cosines = OF_FIRST[NEAREST] @ QUERY["first"]
    moved = expanded_query(QUERY["first"], OF_FIRST[NEAREST[:2]])
    (first, *_) = ranked(index, QUERY, ANY, 5, Ranking(expand=5, threshold=float(cosines[1] + cosines[2]) / 2))
    assert first.score == pytest.approx(float((OF_FIRST @ moved).max()), abs=1e-5)
    assert ranked(index, QUERY, ANY, 5, Ranking(expand=5, threshold=1.1)) == []


def test_of_several_models_each_query_moves_by_who_has_its_vector(index: Index) -> None:
    found = numbers(ranked(index, BOTH, ANY, 100, Ranking()))
    assert not all(map(has_second, found))
    moved = {
        "first": expanded_query(BOTH["first"], OF_FIRST[found]),
        "second": expanded_query(BOTH["second"], OF_SECOND[[number for number in found if has_second(number)]]),
    }
    expected = ranked(index, moved, ANY, 20, Ranking())
    assert numbers(ranked(index, BOTH, ANY, 20, Ranking(expand=100))) == numbers(expected)


@pytest.mark.parametrize("allowed", [False, True])
def test_the_querys_own_patient_never_moves_it(tmp_path: Path, *, allowed: bool) -> None:
    """The patient's other image lies to one side, that of another patient to the other."""
    rows = {"query": 0, "own": 10, "other": -20, "far left": -80, "far right": 85}
    vectors = {
        name: np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0, 0, 0, 0], np.float32)
        for name, angle in rows.items()
    }
    with open_index(Settings(index=str(tmp_path / "index")), create_for=[FIRST]) as opened:
        opened.admit([FIRST], "check")
        opened.write(
            [
                IndexedImage(
                    point(number),
                    {"first": vectors[name]},
                    {"patient": "ann" if number < 2 else name, "models": ["first"]},
                )
                for number, name in enumerate(rows)
            ]
        )
        wanted = Wanted(10, models=("first",), allow_same_patient=allowed, ranking=Ranking(expand=1))
        hits = Searcher(opened, Settings()).by_id(point(0), wanted)
    moved = expanded_query(vectors["query"], vectors["other"][None])
    expected = sorted(range(1 if allowed else 2, 5), key=lambda number: -float(list(vectors.values())[number] @ moved))
    assert numbers(hits) == expected
    assert hits[0].score == pytest.approx(float(list(vectors.values())[expected[0]] @ moved), abs=1e-5)
