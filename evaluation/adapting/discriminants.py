"""Fit a head: kernel discriminants of labelled vectors, with landmarks (docs/retrieval-quality.md).

Source: Mika et al., Fisher discriminant analysis with kernels, NNSP 1999; shrinkage after Friedman, Regularized
discriminant analysis, JASA 1989; landmarks after Williams and Seeger, Using the Nystroem method, NIPS 2000.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from radsearch.errors import NothingToSearchError
from radsearch.models.heads import Head, blockwise, likeness, unit_blocks
from radsearch.study import Vectors

MOST_LANDMARKS = 2000
_WIDTH_SAMPLE = 1000  # vectors whose distances say what is usual
_LOOKS = 64  # numbers of the part that keeps how an image looks
_SHARE_OF_LOOKS = 0.05  # of that part in the likeness: so that images of one label are in an order, too
_EMPHASIS = 0.75  # discriminants count by this power of how far they part the labels
_BALANCE = 0.5  # a label counts by this power of its images: between all images alike and all labels alike
_OF_A_PATIENT = 0.5  # likewise a patient within a label
_NEGLIGIBLE = 1e-6  # of the largest eigenvalue
_LEAST_WIDTH = 1e-6

Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is chosen by cross-validation.

    width: of the kernel, in medians of the squared distances. shrinkage: how far the scatter within the labels is drawn
    to a round one, from 0 to 1.
    """

    width: float = 1.0
    shrinkage: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """What a head learns from.

    rows, labels: (pairs,) an image's row and the number of one of its labels. weights: (pairs,), which add up to 1.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Of the labels."""
        return int(self.labels.max()) + 1


def labelled(classes: Sequence[frozenset[str]], patients: Sequence[str], rows: Sequence[int]) -> Labelled:
    """The pairs of image and label of some rows.

    A label that only one patient has is learned, too: how another one's would look nobody knows, but what it is not.

    Args:
        classes: of every row, the labels that it has.
        patients: of every row.
        rows: those to learn from.

    Raises:
        NothingToSearchError: there are fewer than two labels.
    """
    names = sorted({name for row in rows for name in classes[row]})
    if len(names) < 2:  # noqa: PLR2004 -- to tell one from the other
        raise NothingToSearchError("to learn, images have to have two labels or more")
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [(row, numbers[name]) for row in rows for name in sorted(classes[row])]
    of_patient = Counter((patients[row], number) for row, number in pairs)
    weights = np.array([of_patient[patients[row], number] ** -_OF_A_PATIENT for row, number in pairs])
    labels = np.array([number for _, number in pairs], np.int64)
    weights *= np.bincount(labels, weights)[labels] ** -_BALANCE
    return Labelled(np.array([row for row, _ in pairs], np.int64), labels, weights / weights.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """(landmarks, numbers) and (numbers,): what takes the likeness to the landmarks to a vector's parts."""

    matrix: Vectors
    offset: Vectors
    outputs: tuple[int, ...]
    shares: tuple[float, ...]


def projection(to_landmarks: Numbers, among_landmarks: Numbers, learned: Labelled, shrinkage: float) -> Projection:
    """Directions in which the labels lie apart, measured by how far the images of one label do.

    Args:
        to_landmarks: (images, landmarks) likeness; `learned.rows` are rows of it.
        among_landmarks: (landmarks, landmarks) likeness.
        learned: who has which label.
        shrinkage: see `Parameters`.
    """
    values, axes = np.linalg.eigh(among_landmarks.astype(np.float64))
    kept = values > values[-1] * _NEGLIGIBLE
    basis = axes[:, kept] / np.sqrt(values[kept])
    features = to_landmarks.astype(np.float64) @ basis
    own = features[learned.rows]
    means = np.zeros((learned.count, features.shape[1]))
    np.add.at(means, learned.labels, own * learned.weights[:, None])
    shares = np.bincount(learned.labels, learned.weights)
    means /= shares[:, None]
    centre = shares @ means
    around = own - means[learned.labels]
    scatter = (around * learned.weights[:, None]).T @ around
    round_one = np.trace(scatter) / len(scatter) or 1.0
    scatter = (1 - shrinkage) * scatter + shrinkage * round_one * np.eye(len(scatter))
    spread, axes = np.linalg.eigh(scatter)
    whiten = axes / np.sqrt(np.maximum(spread, spread[-1] * _NEGLIGIBLE))
    _, apart, directions = np.linalg.svd((means - centre) @ whiten * np.sqrt(shares)[:, None], full_matrices=False)
    apart, directions = apart[: learned.count - 1], directions[: learned.count - 1]
    if not np.isfinite(apart).all() or apart[0] <= 0:
        raise NothingToSearchError("the images of all labels have the same vectors: there is nothing to learn")
    discriminants = whiten @ (directions.T * np.maximum(apart, apart[0] * _NEGLIGIBLE) ** (_EMPHASIS - 1))
    looks = _main_axes(own - centre, learned.weights)
    matrix = basis @ np.concatenate([discriminants, looks], axis=1)
    offset = -centre @ np.concatenate([discriminants, looks], axis=1)
    return Projection(
        matrix.astype(np.float32),
        offset.astype(np.float32),
        (discriminants.shape[1], looks.shape[1]),
        (1 - _SHARE_OF_LOOKS, _SHARE_OF_LOOKS),
    )


def _main_axes(features: Numbers, weights: Numbers) -> Numbers:
    """(features, up to 64): the principal axes."""
    _, axes = np.linalg.eigh((features * weights[:, None]).T @ features)
    return cast("Numbers", axes[:, ::-1][:, :_LOOKS])


def usual_distances(vectors: Vectors, parts: Sequence[int]) -> Vectors:
    """(blocks,) median squared distance of two of the vectors, by block."""
    some = _spread(len(vectors), _WIDTH_SAMPLE)
    units = unit_blocks(vectors[some], parts)
    above = np.triu_indices(len(units), 1)
    found = [
        float(np.median(squared[above])) if len(units) > 1 else 1.0 for _, squared in blockwise(units, units, parts)
    ]
    return cast("Vectors", np.maximum(np.array(found, np.float32), _LEAST_WIDTH))


def fit(vectors: Vectors, parts: tuple[int, ...], learned: Labelled, parameters: Parameters) -> Head:
    """A head for vectors like these.

    Args:
        vectors: (images, dimension).
        parts: lengths of their blocks.
        learned: who has which label.
        parameters: as they were chosen.
    """
    rows = np.unique(learned.rows)
    landmarks = rows[_spread(len(rows), MOST_LANDMARKS)]
    kept = unit_blocks(vectors[landmarks], parts).astype(np.float16).astype(np.float32)  # as they are stored
    widths = usual_distances(vectors[rows], parts) * np.float32(parameters.width)
    of_rows = likeness(vectors[rows], kept, parts, widths)
    here = Labelled(np.searchsorted(rows, learned.rows), learned.labels, learned.weights)
    found = projection(of_rows, likeness(kept, kept, parts, widths), here, parameters.shrinkage)
    return Head(parts, kept, widths, found.matrix, found.offset, found.outputs, found.shares)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Rows by chance, always the same, rising; all where there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
