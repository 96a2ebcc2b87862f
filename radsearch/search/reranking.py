"""Re-rank the first hits of a search by what they say of each other; numbers in, numbers out, no index.

Every function scores the n candidates that a search has found first; higher is better, and the order of equal scores is
left to the caller. None of them looks beyond the candidates. The candidates of a search never hold the query itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from radsearch.study import Vectors

Scores: TypeAlias = NDArray[np.float64]
Rerank = Literal["k-reciprocal", "diffusion", "votes"]
RERANKINGS: tuple[Rerank, ...] = get_args(Rerank)


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Cosine similarities, by which all re-rankings go: one model's, or the mean of several.

    to_query: (n,) of the candidates to the query. among: (n, n) of the candidates to each other, symmetric.
    """

    to_query: Scores
    among: Scores


def likeness_of(query: Vectors, candidates: Vectors) -> Likeness:
    """The cosines of one model.

    Args:
        query: (dimension,) of unit length.
        candidates: (n, dimension) of unit length.
    """
    rows = candidates.astype(np.float64)
    return Likeness(rows @ query.astype(np.float64), rows @ rows.T)


def k_reciprocal(likeness: Likeness, *, k1: int = 10, k2: int = 3, share: float = 0.3) -> Scores:
    """Near is what shares its neighbours: who counts the query among the nearest, and is counted by it.

    Each of the n + 1 pictures is described by its k-reciprocal neighbours; two are as far apart as the Jaccard distance
    of these sets, whose members count by their nearness. The score is 1 less the mean of that and the plain distance.

    Args:
        likeness: of the candidates.
        k1: neighbours that are looked at for reciprocity.
        k2: nearest ones (itself included) whose descriptions a picture's own is averaged with; 1 for none.
        share: of the plain distance in the mean, the paper's lambda, from 0 to 1.

    Returns:
        (n,) from 0 to 1. Distances are parts of the picture's largest one, so scores of two queries do not compare.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017 (arXiv 1701.08398),
    equations 3 to 12, within the candidates only; there k1 = 20 and k2 = 6 (docs/searching.md has why not here).
    """
    cosines = _with_query(likeness)
    distances = np.maximum(1 - cosines, 0)
    np.fill_diagonal(distances, 0)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), np.finfo(float).tiny)
    order = _nearest_first(cosines)
    described = np.where(_reciprocal_sets(order, k1), np.exp(-distances), 0.0)
    described /= described.sum(axis=1, keepdims=True)
    described = _first(order, k2) @ described / min(k2, len(order))
    common = np.minimum(described[0], described[1:]).sum(axis=1)
    jaccard = 1 - common / np.maximum(described[0], described[1:]).sum(axis=1)
    scores: Scores = 1 - (1 - share) * jaccard - share * distances[0, 1:]
    return scores.clip(0, 1)


def _with_query(likeness: Likeness) -> Scores:
    """(n + 1, n + 1) cosines of the query, which comes first, and the candidates."""
    count = len(likeness.to_query)
    cosines = np.ones((count + 1, count + 1))
    cosines[0, 1:] = cosines[1:, 0] = likeness.to_query
    cosines[1:, 1:] = likeness.among
    return cosines


def _nearest_first(cosines: Scores) -> NDArray[np.int64]:
    """(n, n) places of the nearest of each, itself first; of equal ones the one that comes first."""
    cosines = cosines.copy()
    np.fill_diagonal(cosines, np.inf)
    order: NDArray[np.int64] = np.argsort(-cosines, axis=1, kind="stable")
    return order


def _first(order: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """(n, n) whether a column is among the first `count` of its row."""
    among = np.zeros(order.shape, bool)
    np.put_along_axis(among, order[:, :count], values=True, axis=1)
    return among


def _reciprocal_sets(order: NDArray[np.int64], k1: int) -> NDArray[np.bool_]:
    """(n, n) the sets R*: neighbours of each other, and the smaller sets of those that lie in it by two thirds."""
    near, nearer = _first(order, k1 + 1), _first(order, (k1 + 1) // 2 + 1)
    whole, half = near & near.T, nearer & nearer.T
    inside = whole.astype(np.int64) @ half.T.astype(np.int64)
    taken = whole & (3 * inside >= 2 * half.sum(axis=1))
    sets: NDArray[np.bool_] = whole | ((taken.astype(np.int64) @ half.astype(np.int64)) > 0)
    return sets


def diffusion(likeness: Likeness, *, neighbours: int = 10, sharpness: float = 10.0, going_on: float = 0.9) -> Scores:
    """Near is what a walk from the query along neighbours comes by: a personalised PageRank on the candidates' graph.

    `(I - a S)^-1 y`, solved and not iterated: S is the symmetric, normalised affinity of candidates that are
    each among the other's nearest, y the query's affinity to its own nearest.

    Args:
        likeness: of the candidates.
        neighbours: of each candidate, and of the query.
        sharpness: an affinity is `max(cosine, 0) ** sharpness`.
        going_on: how likely a walk takes a further step, the a above, from 0 to below 1.

    Returns:
        (n,) from 0 to 1, as parts of the largest; 0 of what no walk comes by.

    Source: Iscen et al., Efficient Diffusion on Region Manifolds, CVPR 2017 (arXiv 1611.05113), equations 4 to 9,
    truncated to the first candidates; there the sharpness is 3 and a = 0.99 (docs/searching.md has why not here).
    """
    affinity = np.maximum(likeness.among, 0) ** sharpness
    near = _first(_nearest_first(likeness.among), neighbours + 1)
    graph = np.where(near & near.T, affinity, 0.0)
    np.fill_diagonal(graph, 0)
    roots = np.sqrt(graph.sum(axis=1))
    steps = graph / np.where(np.outer(roots, roots) > 0, np.outer(roots, roots), 1.0)
    start = np.maximum(likeness.to_query, 0) ** sharpness
    start[np.argsort(-likeness.to_query, kind="stable")[neighbours:]] = 0
    reached: Scores = np.linalg.solve(np.eye(len(start)) - going_on * steps, start).clip(min=0)
    most = reached.max(initial=0.0)
    return reached / most if most > 0 else reached


def study_votes(
    similarities: Scores, groups: Sequence[str | None], *, fading: float = 0.5, share: float = 0.5
) -> Scores:
    """The hits of one study vote for each other, so that a study with several good hits goes up.

    Similarities are stretched so that the least is 0 and the largest is 1. A group's vote is
    `(1 - fading) * (s1 + fading * s2 + fading^2 * s3 + ...)` of its hits, the best first: many of them count for no
    more than 1 / (1 - fading) times the best, so that a long series does not win by its length. A hit's score is
    `(1 - share) * own + share * vote`.

    Args:
        similarities: (n,) of the candidates to the query.
        groups: of each candidate its study, or its patient where the study is not known; None votes for itself alone.
        fading: what each further hit of a group counts less, from 0 (the best alone) to below 1.
        share: of the group's vote in a score, from 0 to 1.

    Returns:
        (n,) from 0 to 1.

    Source: rank-biased precision's weights (Moffat and Zobel, TOIS 2008) in place of CombSUM's (Fox and Shaw, TREC-2).
    """
    spread = float(np.ptp(similarities)) if len(similarities) else 0.0
    own = (similarities - similarities.min()) / spread if spread > 0 else np.ones(len(similarities))
    votes = (1 - fading) * own
    by_group: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        if group is not None:
            by_group.setdefault(group, []).append(place)
    for places in by_group.values():
        best_first = np.sort(own[places])[::-1]
        votes[places] = (1 - fading) * float(best_first @ fading ** np.arange(len(places)))
    return (1 - share) * own + share * votes


def expanded_query(query: Vectors, hits: Vectors, *, alpha: float = 10.0) -> Vectors:
    """The query moved towards its first hits: `query + sum of max(cosine, 0) ** alpha * hit`, of unit length.

    Args:
        query: (dimension,) of unit length.
        hits: (m, dimension) of unit length, of other patients than the query.
        alpha: how much less a hit counts that is less alike; 0 counts all alike.

    Returns:
        (dimension,) float32.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2018 (arXiv 1711.02512),
    with the query's own weight of 1; there alpha = 3 (docs/searching.md has why not here).
    """
    weights = np.maximum(hits @ query, 0) ** alpha
    moved = query + weights @ hits
    return np.asarray(moved / np.linalg.norm(moved), np.float32)
