"""Indexed images as examples: their ids as people write them, and the query that stands for several of them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radsearch.errors import NothingToSearchError
from radsearch.index import Stored
from radsearch.index.schema import facts_of
from radsearch.study import Facts, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Indexed images that a search is to come near to, and away from."""

    liked: Sequence[Stored]
    disliked: Sequence[Stored]

    @property
    def ids(self) -> list[str]:
        """Of all of them."""
        return [point.id for point in (*self.liked, *self.disliked)]

    @property
    def facts(self) -> list[Facts]:
        """Of all of them."""
        return [facts_of(point.payload) for point in (*self.liked, *self.disliked)]


def rocchio(liked: Vectors, disliked: Vectors | None) -> Vectors:
    """The query that stands for examples: `mean(liked) - mean(disliked) / 2`, of unit length.

    Args:
        liked: (n, dimension) vectors of unit length.
        disliked: likewise, or None.

    Source: J. J. Rocchio, Relevance feedback in information retrieval, 1971; with this weight it is Qdrant's
    `average_vector` strategy, and better than with others (docs/benchmarks.md).
    """
    query: Vectors = liked.mean(axis=0)
    if disliked is not None:
        query = 2 * query - disliked.mean(axis=0)
    length = float(np.linalg.norm(query))
    if length == 0:
        raise NothingToSearchError("the liked and the disliked examples cancel each other out")
    return (query / length).astype(np.float32)


def canonical_id(text: str) -> str | None:
    """An id as it is stored, however its UUID was written; None where it is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def is_id(text: str) -> bool:
    """Whether an indexed image may have this id, written so."""
    return canonical_id(text) == text


def id_of(text: str) -> str:
    """As `canonical_id`; raises NothingToSearchError where it is none."""
    point = canonical_id(text)
    if point is None:
        raise NothingToSearchError(f"{text!r} is no id of an indexed image (they look like UUIDs)")
    return point
