"""What is made of an index's nearest images: one a group, diverse ones, a later page, a fusion by scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from radsearch.errors import NothingToSearchError
from radsearch.index import Index
from radsearch.index.base import FUSION_DEPTH
from radsearch.study import Hit, SearchFilter, Vectors

Group = Literal["patient", "study", "series"]
_GROUP_DEPTH = 4  # times as many hits are asked for as groups are wanted
_MMR_DEPTH = 10  # candidates for a diverse hit
_LEAST_CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the nearest images become the answer.

    fusion: of several models, by `rank` (reciprocal rank fusion) or by `score` (the mean of the cosine similarities,
        weighted by `weights`, 1 where a model has none). threshold: the least score of a hit (not with fusion by rank).
    diversity: from 0, the nearest, to 1, as unlike each other as the candidates allow (maximal marginal relevance).
    group: only the best hit of a patient, study or series. page: which lot of hits, from 1; no hit comes on two.
    """

    fusion: Literal["rank", "score"] = "rank"
    weights: Mapping[str, float] = field(default_factory=dict)
    threshold: float | None = None
    diversity: float = 0.0
    group: Group | None = None
    page: int = 1


def ranked(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    """The hits of one page.

    Args:
        index: to be searched.
        queries: a (dimension,) vector a model.
        where: which images may be found.
        limit: hits a page.
        ranking: how they are chosen and ordered.

    Raises:
        NothingToSearchError: the ranking asks for what does not go together.
    """
    _check(queries, ranking)
    hits = _one_page(index, queries, where, limit, ranking)
    for _ in range(1, ranking.page):
        if not hits:
            return []
        where = _without(where, hits, ranking.group)
        hits = _one_page(index, queries, where, limit, ranking)
    before = (ranking.page - 1) * limit
    return [replace(hit, rank=before + place) for place, hit in enumerate(hits, 1)]


def _check(queries: Mapping[str, Vectors], ranking: Ranking) -> None:
    if ranking.threshold is not None and len(queries) > 1 and ranking.fusion == "rank":
        raise NothingToSearchError("a threshold needs one model, or fusion by score: ranks have none")
    if not 0 <= ranking.diversity <= 1:
        raise NothingToSearchError("the diversity is a number from 0 to 1")
    if ranking.page < 1:
        raise NothingToSearchError("pages are counted from 1")
    if ranking.weights and ranking.fusion == "rank":
        raise NothingToSearchError("weights need fusion by score: ranks are counted alike")
    strangers = ranking.weights.keys() - queries.keys()
    if strangers:
        raise NothingToSearchError(f"{min(strangers)} has a weight and is not searched by")
    if any(not 0 <= weight < float("inf") for weight in ranking.weights.values()) or (
        queries and not any(ranking.weights.get(name, 1.0) for name in queries)
    ):
        raise NothingToSearchError("weights are 0 or more, and one of them is above 0")


def _one_page(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    if ranking.diversity > 0:
        candidates = _grouped(index, queries, where, max(_LEAST_CANDIDATES, _MMR_DEPTH * limit), ranking)
        return _diverse(index, list(queries), candidates, limit, ranking.diversity)
    return _grouped(index, queries, where, limit, ranking)


def _grouped(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    """The best hit of each group, asked for until there are enough or no more."""
    if ranking.group is None:
        return _nearest(index, queries, where, limit, ranking)
    best: dict[str, Hit] = {}
    while len(best) < limit:
        asked = _GROUP_DEPTH * (limit - len(best))
        hits = _nearest(index, queries, where, asked, ranking)
        # Ranks begin anew without the groups that there are: what comes later is not to be scored higher.
        most = min((hit.score for hit in best.values()), default=np.inf)
        for hit in hits:
            group = getattr(hit.facts, ranking.group) or hit.id
            best.setdefault(group, replace(hit, score=min(hit.score, most)))
        if len(hits) < asked:
            break
        where = _without(where, hits, ranking.group)
    return list(best.values())[:limit]


def _nearest(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    if len(queries) == 1 or ranking.fusion == "rank":
        return index.nearest(queries, where, limit, threshold=ranking.threshold)
    hits = {
        hit.id: hit
        for name, vector in queries.items()
        for hit in index.nearest({name: vector}, where, limit * FUSION_DEPTH)
    }
    stored = {point.id: point.vectors for point in index.retrieve(list(hits), vectors_of=list(queries))}
    weights = {name: ranking.weights.get(name, 1.0) for name in queries}
    scores = {
        point: sum(
            weight * _cosine(queries[name], vectors[name]) for name, weight in weights.items() if name in vectors
        )
        / sum(weights.values())
        for point, vectors in stored.items()
    }
    order = sorted(scores, key=lambda point: (-scores[point], point))[:limit]
    least = -np.inf if ranking.threshold is None else ranking.threshold
    return [replace(hits[point], score=scores[point]) for point in order if scores[point] >= least]


def _diverse(index: Index, models: Sequence[str], candidates: Sequence[Hit], limit: int, diversity: float) -> list[Hit]:
    """Hit by hit the one that is most like the query and least like those before it.

    Two images are as like as the first model says that both have vectors of; without such a one not at all.

    Source: Carbonell and Goldstein, The use of MMR, SIGIR 1998.
    """
    if not candidates:
        return []
    stored = {point.id: point.vectors for point in index.retrieve([hit.id for hit in candidates], vectors_of=models)}
    by_model = [_unit_rows([stored.get(hit.id, {}).get(model) for hit in candidates]) for model in models]
    relevance = np.array([hit.score for hit in candidates])
    spread = float(relevance.max() - relevance.min())
    relevance = (relevance - relevance.min()) / spread if spread > 0 else np.ones_like(relevance)
    likeness = np.zeros(len(candidates))
    taken = np.zeros(len(candidates), bool)
    chosen: list[Hit] = []
    for _ in range(min(limit, len(candidates))):
        gain = (1 - diversity) * relevance - diversity * likeness
        place = int(np.argmax(np.where(taken, -np.inf, gain)))
        chosen.append(candidates[place])
        to_this = np.zeros(len(candidates))
        for vectors, there in reversed(by_model):
            if there[place]:
                to_this = np.where(there, vectors @ vectors[place], to_this)
        likeness = np.maximum(likeness, to_this)
        taken[place] = True
    return chosen


def _unit_rows(vectors: Sequence[Vectors | None]) -> tuple[Vectors, Vectors]:
    """(n, dimension) vectors of unit length, 0 where there is none, and (n,) whether there is one."""
    there = np.array([vector is not None for vector in vectors])
    if not there.any():
        return np.zeros((len(vectors), 1), np.float32), there
    dimension = next(vector.size for vector in vectors if vector is not None)
    rows = np.stack([np.zeros(dimension, np.float32) if vector is None else vector for vector in vectors])
    rows /= np.where(there, np.linalg.norm(rows, axis=1), 1.0)[:, None]
    return rows, there


def _without(where: SearchFilter, hits: Sequence[Hit], group: Group | None) -> SearchFilter:
    """The same filter without these hits, and without their groups."""
    where = replace(where, without_ids=(*where.without_ids, *(hit.id for hit in hits)))
    if group is None:
        return where
    values = {getattr(hit.facts, group) for hit in hits} - {None}
    earlier = where.none_of.get(group, ())
    return replace(where, none_of={**where.none_of, group: tuple(dict.fromkeys((*earlier, *sorted(values))))})


def _cosine(query: Vectors, vector: Vectors) -> float:
    return float(query @ vector / (np.linalg.norm(query) * np.linalg.norm(vector)))
