"""The study `space`: how the images lie on the sphere, whoever asks.

Source: Wang and Isola, Understanding contrastive representation learning through alignment and uniformity on the
hypersphere, ICML 2020, with their exponents (alpha 2, t 2).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.asking import patient_codes, trial_rows
from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from radsearch.errors import RadSearchError

SAMPLE = 5000


@dataclass(frozen=True, slots=True)
class Space:
    """Figures over all pairs of the images that were drawn.

    Where the protocol matches nobody with himself, pairs of one patient are left out. pairs, within: how many there
    are, and of those how many share a label path. alignment: mean squared distance of the pairs within, 0 to 4, less is
    closer. uniformity: logarithm of the mean of exp(-2 squared distance) over all pairs, -8 to 0, less is more spread
    out. cosine_within, cosine_between: mean cosine of pairs that share a label path and of those that do not.
    separation: the first less the second. What there is no pair for is None.
    """

    images: int
    of: int
    seed: int
    pairs: int
    within: int
    alignment: float | None
    uniformity: float
    cosine_within: float | None
    cosine_between: float | None
    separation: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """vectors: (images, dimension). classes: (images, classes) 0 or 1. patients: (images,) numbers that tell apart."""

    vectors: NDArray[np.float64]
    classes: NDArray[np.float32]
    patients: Rows


def study_space(collection: Collection, trial: Trial, settings: SearchSettings) -> Space:
    """Alignment, uniformity and separation of at most 5,000 images of the trial, drawn with the seed.

    Raises:
        RadSearchError: no two of the images that were drawn may be compared.
    """
    rows = trial_rows(trial)
    drawn = np.random.default_rng(settings.seed).permutation(rows)[:SAMPLE]
    sample = _sample(collection, trial, np.sort(drawn))
    pairs = within = 0
    near = closeness = far = 0.0
    for cosines, shared in _pairs(sample, settings):
        pairs, within = pairs + len(cosines), within + int(shared.sum())
        near, far = near + float(cosines[shared].sum()), far + float(cosines[~shared].sum())
        closeness += float(np.exp(4 * cosines - 4).sum())  # the squared distance of unit vectors is 2 - 2 cosine
    if not pairs:
        raise RadSearchError(
            f"the study 'space' has drawn {len(drawn):,} images of {collection.source}, and no two of them that the "
            f"protocol {trial.protocol} lets meet: are they all one patient's?"
        )
    inside = near / within if within else None
    outside = far / (pairs - within) if pairs > within else None
    return Space(
        images=len(drawn),
        of=len(rows),
        seed=settings.seed,
        pairs=pairs,
        within=within,
        alignment=None if inside is None else 2 - 2 * inside,
        uniformity=float(np.log(closeness / pairs)),
        cosine_within=inside,
        cosine_between=outside,
        separation=None if inside is None or outside is None else inside - outside,
    )


def _sample(collection: Collection, trial: Trial, rows: Rows) -> _Sample:
    labels = [trial.labels["label"][row] for row in rows]
    column = {name: place for place, name in enumerate(sorted(frozenset().union(*labels)))}
    classes = np.zeros((len(rows), len(column)), np.float32)
    for place, names in enumerate(labels):
        classes[place, [column[name] for name in names]] = 1
    patients = patient_codes([collection.images[row] for row in rows])
    return _Sample(
        collection.vectors[rows].astype(np.float64), classes, np.arange(len(rows)) if trial.own_patient else patients
    )


def _pairs(sample: _Sample, settings: SearchSettings) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Cosines of some pairs, each of them once, and whether the two share a class."""
    count = len(sample.vectors)
    step = max(1, settings.memory_mb * 10**6 // 2 // (64 * count))
    for start in range(0, count, step):
        rows, others = slice(start, start + step), slice(start, count)
        cosines = (sample.vectors[rows] @ sample.vectors[others].T).clip(-1, 1)
        shared = sample.classes[rows] @ sample.classes[others].T > 0
        wanted = np.triu(sample.patients[rows, None] != sample.patients[others], 1)
        yield cosines[wanted], shared[wanted]
