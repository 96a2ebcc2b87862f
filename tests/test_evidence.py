"""The cosine of two images taken apart: sums that are exact, and pairs of patches that were planted."""

import numpy as np
import pytest

from radsearch.errors import EmbeddingError
from radsearch.evidence import evidence


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1.0, shape).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_what_the_patches_of_either_side_add_is_the_cosine() -> None:
    query, hit = drawn(7, 5, 32), drawn(3, 4, 32, seed=1)
    found = evidence(query, hit)
    expected = cosine(query.mean(axis=(0, 1)), hit.mean(axis=(0, 1)))
    assert abs(expected) > 0.1
    assert (found.query.shape, found.hit.shape) == ((7, 5), (3, 4))
    assert [found.cosine, float(found.query.sum()), float(found.hit.sum())] == pytest.approx([expected] * 3, abs=1e-6)


def test_two_patches_by_hand() -> None:
    """The means are (1/2, 1/2) and (1, 0): the cosine is 1/sqrt(2), and the query's second patch adds nothing."""
    query = np.array([[[1, 0], [0, 1]]], np.float32)
    hit = np.array([[[1, 0]], [[1, 0]]], np.float32)
    found = evidence(query, hit)
    root = 1 / np.sqrt(2)
    assert found.query.tolist() == [pytest.approx([root, 0])]
    assert found.hit.ravel().tolist() == pytest.approx([root / 2, root / 2])
    assert found.best_query.tolist() == [[[0, 0]], [[0, 0]]]
    (pair,) = found.pairs  # the only patch of the query that is like any of the hit
    assert (pair.query, pair.likeness) == ((0, 0), pytest.approx(1))
    assert pair.share == pytest.approx(root / 2)


def planted(places: list[tuple[int, int]]) -> np.ndarray:
    """(6, 6, 4) with a feature of its own at each place, the first the strongest, and little elsewhere."""
    features = np.zeros((6, 6, 4), np.float32)
    features[..., 3] = 0.05
    for number, place in enumerate(places):
        features[place] = np.eye(4)[number] * (5 - number)
    return features


def test_the_three_pairs_are_those_that_were_planted_the_strongest_first() -> None:
    of_query, of_hit = [(0, 0), (0, 5), (5, 2)], [(4, 4), (1, 1), (0, 4)]
    found = evidence(planted(of_query), planted(of_hit))
    assert [pair.query for pair in found.pairs] == of_query
    assert [pair.hit for pair in found.pairs] == of_hit
    assert [pair.likeness for pair in found.pairs] == pytest.approx([1, 1, 1])
    assert found.best_hit[0, 5].tolist() == [1, 1]
    assert found.best_query[4, 4].tolist() == [0, 0]


def test_no_pair_touches_another_on_either_side() -> None:
    same = np.ones((6, 6, 4), np.float32)
    found = evidence(same, same)
    assert len(found.pairs) == 3
    for side in ("query", "hit"):
        places = [getattr(pair, side) for pair in found.pairs]
        apart = [max(abs(a - c), abs(b - d)) for n, (a, b) in enumerate(places) for c, d in places[:n]]
        assert min(apart) > 1


def test_a_patch_that_shows_no_picture_matches_nothing() -> None:
    seen = np.ones((6, 6), bool)
    seen[4, 4] = False
    found = evidence(planted([(0, 0), (0, 5)]), planted([(4, 4), (1, 1)]), hit_seen=seen)
    assert (4, 4) not in [pair.hit for pair in found.pairs]
    assert found.best_hit[0, 0].tolist() != [4, 4]
    assert found.hit[4, 4] > 0  # what it adds to the cosine is not hidden


def test_how_bright_a_model_is_as_a_whole_does_not_count() -> None:
    query, hit = drawn(4, 4, 8), drawn(4, 4, 8, seed=1)
    assert evidence(query * 100, hit).query == pytest.approx(evidence(query, hit).query, abs=1e-6)


@pytest.mark.parametrize(
    ("query", "hit", "words"),
    [
        (drawn(2, 2, 4), drawn(2, 2, 5), "4 and of 5 dimensions"),
        (np.zeros((2, 2, 4), np.float32), drawn(2, 2, 4), "zero or not finite"),
        (drawn(2, 2, 4), np.full((2, 2, 4), np.nan, np.float32), "zero or not finite"),
        (drawn(2, 4), drawn(2, 2, 4), "not the shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(query: np.ndarray, hit: np.ndarray, words: str) -> None:
    with pytest.raises(EmbeddingError, match=words):
        evidence(query, hit)
