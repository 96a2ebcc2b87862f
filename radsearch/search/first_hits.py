"""What the first hits of a search say: of each other, by their stored vectors, and of the query."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from radsearch.index import Index
from radsearch.search.reranking import (
    Likeness,
    Rerank,
    Scores,
    diffusion,
    expanded_query,
    k_reciprocal,
    likeness_of,
    study_votes,
)
from radsearch.study import Hit, Vectors

Flags: TypeAlias = NDArray[np.bool_]


def rescored(
    index: Index, queries: Mapping[str, Vectors], hits: Sequence[Hit], rerank: Rerank, weights: Mapping[str, float]
) -> Scores:
    """(hits,) what a re-ranking makes of the hits, higher is better.

    Args:
        index: that holds their vectors.
        queries: a (dimension,) vector a model.
        hits: the first of a search, at least one, best first.
        rerank: which one.
        weights: of the models in their mean; 1 where one has none.
    """
    likeness = _likeness(index, queries, hits, weights)
    if rerank == "k-reciprocal":
        return k_reciprocal(likeness)
    if rerank == "diffusion":
        return diffusion(likeness)
    return study_votes(likeness.to_query, [hit.facts.study or hit.facts.patient for hit in hits])


def _likeness(
    index: Index, queries: Mapping[str, Vectors], hits: Sequence[Hit], weights: Mapping[str, float]
) -> Likeness:
    """The mean of the cosines of those models that have a vector of both; 0 where none has."""
    by_model = _vectors_of(index, list(queries), hits)
    to_query, among = np.zeros(len(hits)), np.zeros((len(hits), len(hits)))
    of_query, of_pair = np.zeros_like(to_query), np.zeros_like(among)
    for name, (vectors, there) in by_model.items():
        if not there.any():
            continue
        weight = weights.get(name, 1.0)
        likeness = likeness_of(_unit(queries[name]), vectors)  # a row of zeros is at a cosine of 0 to all
        to_query += weight * likeness.to_query
        among += weight * likeness.among
        of_query += weight * there
        of_pair += weight * np.outer(there, there)
    return Likeness(to_query / np.where(of_query > 0, of_query, 1), among / np.where(of_pair > 0, of_pair, 1))


def expanded(index: Index, queries: Mapping[str, Vectors], hits: Sequence[Hit]) -> Mapping[str, Vectors]:
    """The queries, each moved towards those of the hits that have a vector of its model."""
    by_model = _vectors_of(index, list(queries), hits) if hits else {}
    moved = {
        name: expanded_query(_unit(queries[name]), vectors[there])
        for name, (vectors, there) in by_model.items()
        if there.any()
    }
    return {**queries, **moved}


def diverse(  # noqa: PLR0913 -- who is chosen among whom, by what
    index: Index,
    models: Sequence[str],
    candidates: Sequence[Hit],
    limit: int,
    diversity: float,
    *,
    relevance: Scores | None = None,
) -> list[Hit]:
    """Hit by hit the one that is most like the query and least like those before it.

    Two images are as like as the first model says that both have vectors of; without such a one not at all.

    Args:
        index: that holds their vectors.
        models: whose vectors say how like two images are.
        candidates: to choose from.
        limit: how many are chosen at most.
        diversity: from 0, the most relevant, to 1, the most unlike each other.
        relevance: (candidates,) how relevant each is; by default its score.

    Source: Carbonell and Goldstein, The use of MMR, SIGIR 1998.
    """
    if not candidates:
        return []
    by_model = list(_vectors_of(index, models, candidates).values())
    relevance = np.array([hit.score for hit in candidates]) if relevance is None else relevance
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


def _vectors_of(index: Index, models: Sequence[str], hits: Sequence[Hit]) -> dict[str, tuple[Vectors, Flags]]:
    """By model (hits, dimension) vectors of unit length, 0 where there is none, and (hits,) whether there is one."""
    stored = {point.id: point.vectors for point in index.retrieve([hit.id for hit in hits], vectors_of=models)}
    return {model: _unit_rows([stored.get(hit.id, {}).get(model) for hit in hits]) for model in models}


def _unit_rows(vectors: Sequence[Vectors | None]) -> tuple[Vectors, Flags]:
    there = np.array([vector is not None for vector in vectors])
    if not there.any():
        return np.zeros((len(vectors), 1), np.float32), there
    dimension = next(vector.size for vector in vectors if vector is not None)
    rows = np.stack([np.zeros(dimension, np.float32) if vector is None else vector for vector in vectors])
    rows /= np.where(there, np.linalg.norm(rows, axis=1), 1.0)[:, None]
    return rows, there


def _unit(vector: Vectors) -> Vectors:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
