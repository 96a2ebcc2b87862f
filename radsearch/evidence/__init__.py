"""What the similarity of two images is made of, patch by patch.

The vector of a picture is the mean of its patches' features, so the cosine of two vectors is a sum over pairs of
patches, exactly. Source: Stylianou, Souvenir and Pless, Visualizing deep similarity networks, WACV 2019, arXiv
1901.00536, section 3.1. It is no localisation of disease (docs/evidence.md).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radsearch.errors import EmbeddingError
from radsearch.study import Vectors

__all__ = ["Evidence", "Pair", "Place", "evidence"]

PAIRS = 3
_MAP_AXES = 3

Place = tuple[int, int]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pair:
    """A patch of the query and one of the hit that match, each by its (row, column).

    share: what the two add to the cosine. likeness: the cosine of their own features.
    """

    query: Place
    hit: Place
    share: float
    likeness: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Where the similarity of two images comes from.

    cosine: of their vectors. query, hit: (rows, columns) float32, what each patch adds to it; either sums up to it.
    best_hit: (rows, columns, 2), for each patch of the query the row and column of that of the hit which is most like
    it; best_query: the other way round. pairs: the best, none of which touches another on either side.
    """

    cosine: float
    query: Vectors
    hit: Vectors
    best_hit: npt.NDArray[np.int64]
    best_query: npt.NDArray[np.int64]
    pairs: tuple[Pair, ...]


def evidence(
    query_map: Vectors,
    hit_map: Vectors,
    *,
    query_seen: Mask | None = None,
    hit_seen: Mask | None = None,
) -> Evidence:
    """Take the cosine of two images apart.

    Args:
        query_map: (rows, columns, dimension), the features whose mean points along the query's vector.
        hit_map: likewise; its rows and columns may be others.
        query_seen: (rows, columns), which patches may match; the others show no picture, but padding. None for all.
        hit_seen: likewise.

    Raises:
        EmbeddingError: the maps do not fit each other, or the mean of one is zero or not finite.
    """
    query, hit = (_flat(one) for one in (query_map, hit_map))
    if query.shape[1] != hit.shape[1]:
        raise EmbeddingError(f"maps of {query.shape[1]} and of {hit.shape[1]} dimensions cannot be compared")
    query_sides, hit_sides = query_map.shape[:2], hit_map.shape[:2]
    of_query = query @ _unit(hit.mean(axis=0)) / len(query)
    of_hit = hit @ _unit(query.mean(axis=0)) / len(hit)
    likeness = _likeness(query, hit)
    likeness[~_all_or(query_seen, len(query))] = -np.inf
    likeness[:, ~_all_or(hit_seen, len(hit))] = -np.inf
    shares = query @ hit.T / (len(query) * len(hit))
    return Evidence(
        float(of_query.sum()),
        of_query.reshape(query_sides).astype(np.float32),
        of_hit.reshape(hit_sides).astype(np.float32),
        _places(likeness.argmax(axis=1), hit_sides).reshape(*query_sides, 2),
        _places(likeness.argmax(axis=0), query_sides).reshape(*hit_sides, 2),
        _best_pairs(shares, likeness, query_sides, hit_sides),
    )


def _flat(features: Vectors) -> npt.NDArray[np.float64]:
    """(patches, dimension), scaled so that their mean has unit length, as the index's vectors have."""
    if features.ndim != _MAP_AXES:
        raise EmbeddingError(f"a map has rows, columns and features, and not the shape {features.shape}")
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    return flat / _length(flat.mean(axis=0))


def _length(vector: npt.NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise EmbeddingError("a map whose mean is zero or not finite has nothing to be compared by")
    return length


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vector / _length(vector)


def _likeness(query: npt.NDArray[np.float64], hit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(patches of the query, patches of the hit): cosines; a patch without features is like none."""
    lengths = [np.linalg.norm(one, axis=1) for one in (query, hit)]
    products = query @ hit.T
    scale = np.outer(*lengths)
    likeness = np.full_like(products, -1.0)
    np.divide(products, scale, out=likeness, where=scale > 0)
    return likeness


def _all_or(seen: Mask | None, count: int) -> Mask:
    return np.ones(count, dtype=bool) if seen is None else seen.ravel()


def _places(numbers: npt.NDArray[np.int64], sides: Place) -> npt.NDArray[np.int64]:
    return np.stack(np.divmod(numbers, sides[1]), axis=-1)


def _best_pairs(
    shares: npt.NDArray[np.float64], likeness: npt.NDArray[np.float64], query_sides: Place, hit_sides: Place
) -> tuple[Pair, ...]:
    """Those that add most; each takes its neighbours out on either side, so that three pairs are three places."""
    left = np.where(np.isfinite(likeness) & (shares > 0), shares, -np.inf)
    pairs: list[Pair] = []
    while len(pairs) < PAIRS:
        at = np.unravel_index(int(left.argmax()), left.shape)
        if not np.isfinite(left[at]):
            break
        query, hit = divmod(int(at[0]), query_sides[1]), divmod(int(at[1]), hit_sides[1])
        pairs.append(Pair(query, hit, float(shares[at]), float(likeness[at])))
        left[_near(query, query_sides)] = -np.inf
        left[:, _near(hit, hit_sides)] = -np.inf
    return tuple(pairs)


def _near(place: Place, sides: Place) -> Mask:
    """(patches,): the place and the eight around it."""
    rows, columns = np.indices(sides)
    near: Mask = (np.abs(rows - place[0]) <= 1) & (np.abs(columns - place[1]) <= 1)
    return near.ravel()
