"""What is made of an index's nearest images: re-ranked, one a group, diverse, a later page, a fusion by scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from radsearch.errors import NothingToSearchError
from radsearch.index import Index
from radsearch.index.base import FUSION_DEPTH
from radsearch.search.first_hits import diverse, expanded, rescored
from radsearch.search.reranking import RERANKINGS, Rerank
from radsearch.study import Hit, SearchFilter, Vectors

Group = Literal["patient", "study", "series"]
_GROUP_DEPTH = 4  # times as many hits are asked for as groups are wanted
_MMR_DEPTH = 10  # candidates for a diverse hit
_LEAST_CANDIDATES = 100
MOST_RERANKED = 100  # the first hits, which are re-ranked; the query is expanded by so many at most


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the nearest images become the answer.

    fusion: of several models, by `rank` (reciprocal rank fusion) or by `score` (the mean of the cosine similarities,
        weighted by `weights`, 1 where a model has none). threshold: the least score of a hit (not with fusion by rank).
    diversity: from 0, the nearest, to 1, as unlike each other as the candidates allow (maximal marginal relevance).
    group: only the best hit of a patient, study or series. page: which lot of hits, from 1; no hit comes on two.
    rerank: in which order the first 100 come, by what they say of each other (`radsearch.search.reranking`). Their
        scores stay what they were, and all that comes after them stays where it was.
    expand: so many first hits move the query, by which the index is asked anew; 0 for none. Only hits that the
        threshold lets pass do, and one a group.
    """

    fusion: Literal["rank", "score"] = "rank"
    weights: Mapping[str, float] = field(default_factory=dict)
    threshold: float | None = None
    diversity: float = 0.0
    group: Group | None = None
    page: int = 1
    rerank: Rerank | None = None
    expand: int = 0


def ranked(  # noqa: PLR0913 -- one question, in the terms of the search
    index: Index,
    queries: Mapping[str, Vectors],
    where: SearchFilter,
    limit: int,
    ranking: Ranking,
    *,
    expanded_within: SearchFilter | None = None,
) -> list[Hit]:
    """The hits of one page.

    Args:
        index: to be searched.
        queries: a (dimension,) vector a model.
        where: which images may be found.
        limit: hits a page.
        ranking: how they are chosen and ordered.
        expanded_within: which images may expand the query: those that may be found, without the query's own patient
            where that one may be found. By default as `where`.

    Raises:
        NothingToSearchError: the ranking asks for what does not go together.
    """
    check(queries, ranking)
    if ranking.expand:
        first = _grouped(index, queries, expanded_within or where, ranking.expand, ranking)
        queries = expanded(index, queries, first)
    head, where = _reranked(index, queries, where, ranking)
    least = min((hit.score for hit in head), default=np.inf)
    before, hits = 0, _lot(index, queries, where, limit, ranking, head)
    for _ in range(1, ranking.page):
        if not hits:
            return []
        before, head = before + limit, head[limit:]
        where = _without(where, hits, ranking.group)
        hits = _lot(index, queries, where, limit, ranking, head)
    # What comes after the first hits is not to be scored higher: ranks begin anew without those that there are.
    scores = [*(hit.score for hit in head[:limit]), *(min(hit.score, least) for hit in hits[len(head) :])]
    return [
        replace(hit, score=score, rank=before + place)
        for place, (hit, score) in enumerate(zip(hits, scores, strict=True), 1)
    ]


def _reranked(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, ranking: Ranking
) -> tuple[list[Hit], SearchFilter]:
    """The first hits in their new order, none without a re-ranking, and the filter for those that come after them."""
    found = [] if ranking.rerank is None else nearest(index, queries, where, MOST_RERANKED, ranking)
    if ranking.rerank is None or not found:
        return [], where
    scores = rescored(index, queries, found, ranking.rerank, ranking.weights)
    order = [int(place) for place in np.argsort(-scores, kind="stable")]
    if ranking.group is not None:
        best: dict[str, int] = {}
        for place in order:
            best.setdefault(getattr(found[place].facts, ranking.group) or found[place].id, place)
        order = list(best.values())
    head = [found[place] for place in order]
    if ranking.diversity > 0:
        head = diverse(index, list(queries), head, len(head), ranking.diversity, relevance=scores[order])
    return head, _without(where, found, ranking.group)


def check(queries: Mapping[str, Vectors], ranking: Ranking) -> None:
    """Raises NothingToSearchError where a ranking asks for what does not go together, or for what there is not."""
    if ranking.threshold is not None and len(queries) > 1 and ranking.fusion == "rank":
        raise NothingToSearchError("a threshold needs one model, or fusion by score: ranks have none")
    if not 0 <= ranking.diversity <= 1:
        raise NothingToSearchError("the diversity is a number from 0 to 1")
    if ranking.page < 1:
        raise NothingToSearchError("pages are counted from 1")
    if not 0 <= ranking.expand <= MOST_RERANKED:
        raise NothingToSearchError(f"a query is expanded by its first 1 to {MOST_RERANKED} hits, or by 0: not at all")
    if ranking.rerank not in (None, *RERANKINGS):
        raise NothingToSearchError(f"there is no re-ranking {ranking.rerank!r}; there are {', '.join(RERANKINGS)}")
    if ranking.weights and ranking.fusion == "rank":
        raise NothingToSearchError("weights need fusion by score: ranks are counted alike")
    strangers = ranking.weights.keys() - queries.keys()
    if strangers:
        raise NothingToSearchError(f"{min(strangers)} has a weight and is not searched by")
    if any(not 0 <= weight < float("inf") for weight in ranking.weights.values()) or (
        queries and not any(ranking.weights.get(name, 1.0) for name in queries)
    ):
        raise NothingToSearchError("weights are 0 or more, and one of them is above 0")


def _lot(  # noqa: PLR0913, PLR0917 -- as `ranked`
    index: Index,
    queries: Mapping[str, Vectors],
    where: SearchFilter,
    limit: int,
    ranking: Ranking,
    head: Sequence[Hit],
) -> list[Hit]:
    """The next hits: those that are left of the head, then those that come after it."""
    missing = limit - len(head)
    return [*head[:limit], *(_one_page(index, queries, where, missing, ranking) if missing > 0 else [])]


def _one_page(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    if ranking.diversity > 0:
        candidates = _grouped(index, queries, where, max(_LEAST_CANDIDATES, _MMR_DEPTH * limit), ranking)
        return diverse(index, list(queries), candidates, limit, ranking.diversity)
    return _grouped(index, queries, where, limit, ranking)


def _grouped(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    """The best hit of each group, asked for until there are enough or no more."""
    if ranking.group is None:
        return nearest(index, queries, where, limit, ranking)
    best: dict[str, Hit] = {}
    while len(best) < limit:
        asked = _GROUP_DEPTH * (limit - len(best))
        hits = nearest(index, queries, where, asked, ranking)
        # Ranks begin anew without the groups that there are: what comes later is not to be scored higher.
        most = min((hit.score for hit in best.values()), default=np.inf)
        for hit in hits:
            group = getattr(hit.facts, ranking.group) or hit.id
            best.setdefault(group, replace(hit, score=min(hit.score, most)))
        if len(hits) < asked:
            break
        where = _without(where, hits, ranking.group)
    return list(best.values())[:limit]


def nearest(
    index: Index, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, ranking: Ranking
) -> list[Hit]:
    """The nearest images as the models see them, fused as the ranking says and above its threshold."""
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
