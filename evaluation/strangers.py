"""How near the nearest image is to one that belongs here, so that a stranger can be told: measured on an archive.

The distance to the nearest neighbour as a test for novelty: Sun et al., Out-of-distribution detection with deep nearest
neighbors, ICML 2022 (there the k-th; here the first, as an archive may hold few images of a kind).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.adapting.folds import FOLDS, folds_of
from evaluation.asking import neighbours_among, patient_codes
from evaluation.checks import Flags, Rows, Values
from evaluation.collection import Collection
from evaluation.settings import SearchSettings
from radsearch.search.calibration import OVERALL
from radsearch.study import Vectors, grouped_modality

QUANTILE = 0.01  # of an archive's own patients are taken for strangers
LEAST_IMAGES, LEAST_PATIENTS = 100, 20  # of a modality that has a threshold of its own
_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """What is nearest to some images.

    scores: (m,) its cosine, -1 where there is none. modalities: (m,) its own, grouped. alike: (m,) whether those who
    ask are of the same modality.
    """

    scores: Values
    modalities: NDArray[np.str_]
    alike: Flags

    def some(self, which: Flags) -> "Nearest":
        """Those that are chosen."""
        return Nearest(self.scores[which], self.modalities[which], self.alike[which])

    def strange(self, least: Mapping[str, float]) -> Flags:
        """(m,) whether even the nearest is not near enough."""
        return self.scores < np.array([least.get(name, least[OVERALL]) for name in self.modalities.tolist()])


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """The test for strangers and what it does.

    least: as `Calibration.least`. false_alarms: by modality of the image that asks, and `""` for all, the share that is
    refused of patients whom the thresholds were not made of. left_out: by modality the share refused of its images
    where the archive has none of it. noise: by kind the share refused; empty where it was not measured. patients: by
    modality of the image that asks, and `""` for all, how many these are of. In all of them a patient counts once,
    however many images he has.
    """

    least: Mapping[str, float]
    false_alarms: Mapping[str, float]
    left_out: Mapping[str, float]
    noise: Mapping[str, float] = field(default_factory=dict)
    patients: Mapping[str, int] = field(default_factory=dict)


def novelty_of(
    collection: Collection, rows: Rows, settings: SearchSettings, noise: Mapping[str, Vectors] | None = None
) -> Novelty:
    """Measure it.

    Args:
        collection: all images of an archive, labelled or not, with the vectors of a frozen model.
        rows: (m,) those of them that ask, rising.
        settings: of the searches.
        noise: by kind (k, dimension) vectors of unit length of pictures that show nothing.

    Raises:
        NothingToSearchError: fewer than five patients ask.
    """
    modalities, patients = modalities_of(collection), patient_codes(collection.images)
    near = nearest_to(collection, rows, np.arange(len(modalities)), settings)
    least = thresholds(near, patients[rows])
    strange = _strange_to_others(collection, rows, near, patients[rows])
    groups = {OVERALL: np.ones(len(rows), bool)}
    groups |= {name: modalities[rows] == name for name in _names(modalities[rows])}
    return Novelty(
        least,
        {name: _share(strange[own], patients[rows][own]) for name, own in groups.items()},
        _left_out(collection, rows, modalities, settings),
        {
            name: float(_nearest_of(vectors, collection.vectors, modalities).strange(least).mean())
            for name, vectors in (noise or {}).items()
        },
        {name: len(np.unique(patients[rows][own])) for name, own in groups.items()},
    )


def modalities_of(collection: Collection) -> NDArray[np.str_]:
    """(images,) the modality of each, grouped; `""` where it is not known."""
    return np.array([grouped_modality(image.facts.get("modality", OVERALL)) for image in collection.images])


def nearest_to(collection: Collection, rows: Rows, among: Rows, settings: SearchSettings) -> Nearest:
    """The nearest image of another patient.

    Args:
        collection: the images.
        rows: (m,) those that ask.
        among: (n,) those that may be found, rising.
        settings: of the search.
    """
    vectors, groups = collection.vectors, patient_codes(collection.images)
    found = list(neighbours_among(vectors, rows, among, groups, 1, settings))
    near = np.concatenate([one[:, 0] for _, one in found])
    scores = np.concatenate([np.einsum("ij,ij->i", vectors[own], vectors[one[:, 0]]) for own, one in found])
    of_all = modalities_of(collection)
    of_found = np.where(near < 0, OVERALL, of_all[near])
    return Nearest(np.where(near < 0, -1.0, scores).astype(np.float64), of_found, of_found == of_all[rows])


def thresholds(near: Nearest, patients: Rows) -> dict[str, float]:
    """The 1 % quantile of all as `""`, and of each modality with 100 images of 20 patients or more.

    Of a modality those images count that are of it themselves: one of another that has gone astray is no measure of it.

    Args:
        near: what is nearest to images that belong here.
        patients: (m,) whole numbers, of those that ask.
    """
    least = {OVERALL: _quantile(near.scores, patients)}
    for name in _names(near.modalities):
        own = (near.modalities == name) & near.alike
        if own.sum() >= LEAST_IMAGES and len(np.unique(patients[own])) >= LEAST_PATIENTS:
            least[name] = _quantile(near.scores[own], patients[own])
    return least


def _quantile(scores: Values, patients: Rows) -> float:
    """The score below which there is 1 % at most of the patients, of each that share of him that is his images'."""
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(_weights(patients)[order])
    place = int(np.searchsorted(below, QUANTILE, side="right"))
    return round(float(scores[order][min(place, len(order) - 1)].clip(-1, 1)), _DIGITS)


def _weights(patients: Rows) -> Values:
    """(m,) of each image, so that patients count alike; they sum up to 1."""
    _, own, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return 1.0 / (counts[own] * len(counts))


def _share(flags: Flags, patients: Rows) -> float:
    return round(float(_weights(patients) @ flags), _DIGITS)


def _strange_to_others(collection: Collection, rows: Rows, near: Nearest, patients: Rows) -> Flags:
    """(m,) whether each is refused by thresholds of the four folds of patients that are not its own."""
    classes = [frozenset({name}) for name in modalities_of(collection).tolist()]
    folds = folds_of(classes, [image.patient for image in collection.images], rows.tolist())[rows]
    strange = np.zeros(len(rows), bool)
    for fold in range(FOLDS):
        own, rest = folds == fold, folds != fold
        least = thresholds(near.some(rest), patients[rest])
        strange[own] = near.some(own).strange(least)
    return strange


def _left_out(
    collection: Collection, rows: Rows, modalities: NDArray[np.str_], settings: SearchSettings
) -> dict[str, float]:
    """Each modality with images enough asks an archive that has none of it, by thresholds of that archive."""
    refused = {}
    patients = patient_codes(collection.images)
    for name in _names(modalities):
        own = rows[modalities[rows] == name]
        rest, asking = np.flatnonzero(modalities != name), rows[modalities[rows] != name]
        if not len(own) or len(asking) < LEAST_IMAGES:
            continue
        least = thresholds(nearest_to(collection, asking, rest, settings), patients[asking])
        refused[name] = _share(nearest_to(collection, own, rest, settings).strange(least), patients[own])
    return refused


def _names(modalities: NDArray[np.str_]) -> list[str]:
    return sorted({*modalities.tolist()} - {OVERALL})


def _nearest_of(queries: Vectors, vectors: Vectors, modalities: NDArray[np.str_]) -> Nearest:
    """Of pictures that are nobody's."""
    likeness = queries @ vectors.T
    place = likeness.argmax(axis=1)
    return Nearest(likeness.max(axis=1).astype(np.float64), modalities[place], np.zeros(len(queries), bool))
