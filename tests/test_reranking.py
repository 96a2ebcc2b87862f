"""Re-ranking by numbers: against the definitions written out plainly, by hand, and where it has to change the order."""

import numpy as np
import pytest

from radsearch.search.reranking import (
    Likeness,
    diffusion,
    expanded_query,
    k_reciprocal,
    likeness_of,
    study_votes,
)


def cloud(seed: int, count: int, dimension: int = 6) -> tuple["np.ndarray", "np.ndarray"]:
    """A query and pictures around it, as unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(count + 1, dimension))
    vectors[:, 0] += 2
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[0], vectors[1:]


def plane(degrees: list[float]) -> "np.ndarray":
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def k_reciprocal_written_out(query: "np.ndarray", found: "np.ndarray", k1: int, k2: int, share: float) -> list[float]:
    """Picture by picture and set by set, as the paper has it."""
    pictures = np.vstack([query[None], found]).astype(np.float64)
    distance = 1 - pictures @ pictures.T
    order = [
        sorted(range(len(pictures)), key=lambda j, i=i: -1 if j == i else distance[i, j]) for i in range(len(pictures))
    ]
    distance = np.clip(distance, 0, None)
    distance = distance / distance.max(axis=1, keepdims=True)

    def near(one: int, k: int) -> set[int]:
        return {other for other in order[one][: k + 1] if one in order[other][: k + 1]}

    described = []
    for one in range(len(pictures)):
        members = set(near(one, k1))
        for member in near(one, k1):
            half = near(member, (k1 + 1) // 2)
            if len(half & near(one, k1)) >= 2 / 3 * len(half):
                members |= half
        weights = [np.exp(-distance[one, j]) if j in members else 0.0 for j in range(len(pictures))]
        described.append(np.array(weights) / sum(weights))
    averaged = [np.mean([described[j] for j in order[one][:k2]], axis=0) for one in range(len(pictures))]
    scores = []
    for one in range(1, len(pictures)):
        jaccard = 1 - np.minimum(averaged[0], averaged[one]).sum() / np.maximum(averaged[0], averaged[one]).sum()
        scores.append(1 - (1 - share) * jaccard - share * distance[0, one])
    return scores


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.0), (6, 3, 0.7), (1, 1, 0.5), (200, 200, 0.3)])
@pytest.mark.parametrize("seed", range(3))
def test_k_reciprocal_is_that_of_the_paper(seed: int, k1: int, k2: int, share: float) -> None:
    query, found = cloud(seed, 40)
    expected = k_reciprocal_written_out(query, found, k1, k2, share)
    scores = k_reciprocal(likeness_of(query, found), k1=k1, k2=k2, share=share)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_k_reciprocal_with_the_whole_share_on_the_distance_keeps_the_order() -> None:
    query, found = cloud(1, 30)
    likeness = likeness_of(query, found)
    scores = k_reciprocal(likeness, share=1.0)
    assert np.argsort(-scores).tolist() == np.argsort(-likeness.to_query).tolist()


def test_who_counts_the_query_among_his_nearest_passes_who_has_nearer_ones() -> None:
    """The query is none of the three nearest of the one at 10 degrees, and one of those of the ones at -11, -13."""
    degrees = [10, 15, 16, 17, 18, -11, -13, -14]
    query, found = plane([0])[0], plane(degrees)
    likeness = likeness_of(query, found)
    assert degrees[int(np.argmax(likeness.to_query))] == 10
    assert degrees[int(np.argmax(k_reciprocal(likeness, k1=3, k2=1, share=0.1)))] == -11


def diffusion_walked(likeness: Likeness, neighbours: int, sharpness: float, going_on: float) -> "np.ndarray":
    """Step by step until nothing changes."""
    count = len(likeness.to_query)
    affinity = np.maximum(likeness.among, 0) ** sharpness
    near = [
        set(sorted((j for j in range(count) if j != i), key=lambda j, i=i: -likeness.among[i, j])[:neighbours])
        for i in range(count)
    ]
    graph = np.array(
        [[affinity[i, j] if j in near[i] and i in near[j] else 0.0 for j in range(count)] for i in range(count)]
    )
    degree = graph.sum(axis=1)
    steps = np.array(
        [
            [graph[i, j] / np.sqrt(degree[i] * degree[j]) if graph[i, j] > 0 else 0.0 for j in range(count)]
            for i in range(count)
        ]
    )
    nearest = sorted(range(count), key=lambda i: -likeness.to_query[i])[:neighbours]
    start = np.array([max(likeness.to_query[i], 0) ** sharpness if i in nearest else 0.0 for i in range(count)])
    reached = start
    for _ in range(3000):
        reached = start + going_on * steps @ reached
    return reached / reached.max()


@pytest.mark.parametrize(("neighbours", "sharpness", "going_on"), [(10, 3.0, 0.9), (3, 1.0, 0.99), (4, 3.0, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_diffusion_is_where_a_walk_ends_up(seed: int, neighbours: int, sharpness: float, going_on: float) -> None:
    likeness = likeness_of(*cloud(seed, 40))
    scores = diffusion(likeness, neighbours=neighbours, sharpness=sharpness, going_on=going_on)
    np.testing.assert_allclose(scores, diffusion_walked(likeness, neighbours, sharpness, going_on), atol=1e-6)
    assert scores.min() >= 0
    assert scores.max() == pytest.approx(1)


def test_diffusion_follows_a_chain_past_a_picture_that_stands_alone() -> None:
    """From 0 a chain leads by steps of 8 degrees to 40; the one at -30 is nearer, and nobody's neighbour."""
    degrees = [8, 16, 24, 32, 40, -30]
    query, found = plane([0])[0], plane(degrees)
    likeness = likeness_of(query, found)
    assert likeness.to_query[5] > likeness.to_query[4]
    scores = diffusion(likeness, neighbours=2, sharpness=3.0, going_on=0.99)
    assert scores[4] > scores[5]
    assert scores[5] == 0


@pytest.mark.parametrize("rerank", [k_reciprocal, diffusion])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_pictures_and_copies_of_the_query_are_no_trouble(rerank: "object", count: int) -> None:
    query = plane([0])[0]
    for found in (plane([0] * count), plane([90 + 20 * place for place in range(count)])):
        scores = rerank(likeness_of(query, found))
        assert scores.shape == (count,)
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1


def test_votes_by_hand() -> None:
    """Stretched: 1, 0.8, 0.7, 0. The study's vote is 0.5 x (0.8 + 0.35), that of who is alone half his own."""
    scores = study_votes(np.array([0.9, 0.88, 0.87, 0.8]), ["a", "b", "b", None])
    np.testing.assert_allclose(scores, [0.75, 0.4 + 0.2875, 0.35 + 0.2875, 0.0], atol=1e-9)
    whole = study_votes(np.array([0.9, 0.88, 0.87, 0.8]), ["a", "b", "b", None], share=1.0)
    np.testing.assert_allclose(whole, [0.5, 0.575, 0.575, 0.0], atol=1e-9)


def test_a_study_of_several_good_hits_passes_a_lone_one_but_not_by_length_alone() -> None:
    similarities = np.array([1.0, *[0.95] * 3, 0.0])
    assert np.argmax(study_votes(similarities, ["alone", *["several"] * 3, None])) == 1
    many = np.array([1.0, *[0.3] * 95, 0.0])
    assert np.argmax(study_votes(many, ["alone", *["long"] * 95, None])) == 0


def test_who_is_of_no_study_votes_for_nobody_else() -> None:
    similarities = np.array([1.0, 0.95, 0.95, 0.95, 0.0])
    assert np.argmax(study_votes(similarities, ["alone", None, None, None, None])) == 0


def test_alike_hits_all_get_the_same_votes() -> None:
    assert len(set(study_votes(np.full(4, 0.5), [None] * 4).tolist())) == 1


def test_an_expanded_query_by_hand() -> None:
    """0 + 0.6^2 x the first; the second is at more than 90 degrees and counts nothing."""
    query, hits = np.array([1, 0], np.float32), np.array([[0.6, 0.8], [-0.6, 0.8]], np.float32)
    moved = np.array([1 + 0.36 * 0.6, 0.36 * 0.8])
    np.testing.assert_allclose(expanded_query(query, hits, alpha=2.0), moved / np.linalg.norm(moved), atol=1e-6)
    assert expanded_query(query, hits[1:]).tolist() == [1, 0]
    assert expanded_query(query, hits).dtype == np.float32
