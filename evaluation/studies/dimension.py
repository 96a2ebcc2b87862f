"""The study `dimension`: how few numbers an image needs, by the principal components of the index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.asking import first_neighbours, hits_of, macro_of
from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from radsearch.errors import RadSearchError
from radsearch.study import Vectors

DIMENSIONS = (512, 256, 128, 64, 32, 16)
_NO_VARIANCE = 1e-12  # of unit vectors in float32: less is rounding
_NO_LENGTH = 1e-6  # a vector that is left with less has no direction: rounding of float32 would be one


@dataclass(frozen=True, slots=True)
class OfDimension:
    """P@1 of vectors of one dimension.

    projected: on principal components, and brought to unit length; else the vectors as they are. variance: the part of
    the index's variance that is kept. without_direction: images of the collection that nothing is left of: their
    vectors are zero, and their cosine with every image is 0.
    """

    dimension: int
    projected: bool
    variance: float
    micro: float
    macro: float
    without_direction: int


@dataclass(frozen=True, slots=True)
class Dimension:
    """The study. sizes: the vectors as they are first, then falling dimensions."""

    queries: int
    index: int
    sizes: Sequence[OfDimension]


@dataclass(frozen=True, slots=True, eq=False)
class _Components:
    """mean: (dimension,). directions: (dimension, dimension), a column each. variances: (dimension,), falling."""

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]


def study_dimension(collection: Collection, trial: Trial, settings: SearchSettings) -> Dimension:
    """P@1 on 512, 256 ... 16 principal components, as far as they are fewer than dimensions and images of the index.

    The components are fitted on the vectors of the index alone, and all vectors are centred with its mean.

    Raises:
        RadSearchError: none of these is below the dimension and the size of the index, or all its vectors are the same.
    """
    dimension = collection.vectors.shape[1]
    wanted = [size for size in DIMENSIONS if size < min(dimension, len(trial.index))]
    if not wanted:
        raise RadSearchError(
            f"{collection.source} has vectors of dimension {dimension} and an index of {len(trial.index)} images: the "
            f"study 'dimension' needs more than {min(DIMENSIONS)} of both"
        )
    components = _fit(collection, trial.index, settings)
    sizes = [OfDimension(dimension, False, 1.0, *_precision(collection, trial, settings), 0)]
    sizes += [_of_size(collection, trial, settings, components, size) for size in wanted]
    return Dimension(len(trial.queries), len(trial.index), sizes)


def _fit(collection: Collection, rows: Rows, settings: SearchSettings) -> _Components:
    vectors = collection.vectors
    mean = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in _parts(rows, vectors, settings)) / len(rows)
    scatter = np.zeros((vectors.shape[1], vectors.shape[1]))
    for part in _parts(rows, vectors, settings):
        centred = vectors[part] - mean
        scatter += centred.T @ centred
    variances, directions = np.linalg.eigh(scatter / len(rows))
    if variances[-1] < _NO_VARIANCE:
        raise RadSearchError(f"all vectors of the index of {collection.source} are the same: they have no components")
    return _Components(np.asarray(mean), directions[:, ::-1], variances[::-1].clip(min=0))


def _parts(rows: Rows, vectors: Vectors, settings: SearchSettings) -> Iterator[Rows]:
    step = max(1, settings.memory_mb * 10**6 // 4 // (8 * vectors.shape[1]))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _of_size(
    collection: Collection, trial: Trial, settings: SearchSettings, components: _Components, size: int
) -> OfDimension:
    vectors = np.empty((len(collection.vectors), size), np.float32)
    without = 0
    for part in _parts(np.arange(len(vectors)), collection.vectors, settings):
        projected = (collection.vectors[part] - components.mean) @ components.directions[:, :size]
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        left = lengths > _NO_LENGTH
        vectors[part] = np.divide(projected, lengths, out=np.zeros_like(projected), where=left)
        without += int((~left).sum())
    variance = float(components.variances[:size].sum() / components.variances.sum())
    precision = _precision(replace(collection, vectors=vectors), trial, settings)
    return OfDimension(size, True, variance, *precision, without)


def _precision(collection: Collection, trial: Trial, settings: SearchSettings) -> tuple[float, float]:
    """Micro and macro P@1."""
    blocks = first_neighbours(collection, trial, 1, settings)
    hits = np.concatenate([hits_of(trial, rows, found)[:, 0] for rows, found in blocks])
    return float(hits.mean()), macro_of(hits, [trial.labels["label"][row] for row in trial.queries])
