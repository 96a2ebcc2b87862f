"""Choose a head's parameters by patient-grouped cross-validation inside the images that it learns from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.adapting.discriminants import Labelled, Parameters, labelled, projection, usual_distances
from evaluation.adapting.folds import FOLDS, folds_of, whole_patients
from evaluation.adapting.scoring import Answers, answers_of
from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from radsearch.errors import NothingToSearchError
from radsearch.models.heads import Head, likeness, unit_blocks
from radsearch.study import Vectors

CANDIDATES = tuple(Parameters(width) for width in (0.5, 1.0, 2.0))
_MOST_IMAGES = 2400  # that are cross-validated: whole patients by chance, where there are more


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What cross-validation found.

    parameters: the best. figures: of every candidate, of queries whose patients it did not see. answers: what all
    of them found under the best. frozen: figures of the vectors as they were. fits: how many heads were fitted.
    """

    parameters: Parameters
    answers: Answers
    figures: Sequence[tuple[Parameters, Mapping[str, float]]]
    frozen: Mapping[str, float]
    fits: int


def choose(collection: Collection, trial: Trial, rows: Rows, parts: Sequence[int], settings: SearchSettings) -> Chosen:
    """The best of the candidates by the mean of P@1, P@10 and macro P@1; of equal ones the first.

    Every image asks once, when its patient was not learned from, among all the images of other patients.

    Args:
        collection: the images with the vectors to learn from.
        trial: its labels count.
        rows: the images to learn from.
        parts: lengths of the vectors' blocks.
        settings: device and memory of the search.

    Raises:
        NothingToSearchError: there are too few patients, or labels.
    """
    classes = trial.labels["label"]
    patients = [image.patient for image in collection.images]
    rows = whole_patients(patients, rows, _MOST_IMAGES)
    folds = folds_of(classes, patients, rows.tolist())
    learned = {fold: labelled(classes, patients, rows[folds[rows] != fold].tolist()) for fold in range(FOLDS)}
    found = []
    for parameters, of_all in _candidates(collection.vectors, rows, parts, learned):
        answers = Answers.joined(
            [
                answers_of(collection, of_fold, trial, rows[folds[rows] == fold], settings, index=rows)
                for fold, of_fold in enumerate(of_all)
            ]
        )
        found.append((parameters, answers))
    if not (found[0][1].reachable > 0).any():
        raise NothingToSearchError("to learn, a label has to have images of two patients")
    figures = [(parameters, answers.answerable.figures) for parameters, answers in found]
    best = max(range(len(found)), key=lambda place: (sum(figures[place][1].values()), -place))
    frozen = answers_of(collection, collection.vectors, trial, rows, settings, index=rows)
    return Chosen(*found[best], figures=figures, frozen=frozen.answerable.figures, fits=len(CANDIDATES) * FOLDS)


def _candidates(
    vectors: Vectors, rows: Rows, parts: Sequence[int], learned: Mapping[int, Labelled]
) -> Iterator[tuple[Parameters, list[Vectors]]]:
    """Each candidate, and for each fold the (images, dimension) vectors of a head that did not learn from it."""
    some = unit_blocks(vectors[rows], parts)
    usual = usual_distances(some, parts)
    for width in dict.fromkeys(candidate.width for candidate in CANDIDATES):
        alike = likeness(some, some, parts, usual * np.float32(width))
        for candidate in (one for one in CANDIDATES if one.width == width):
            yield (
                candidate,
                [
                    _spread_out(_derived(alike, rows, learned[fold], candidate), rows, len(vectors))
                    for fold in range(FOLDS)
                ],
            )


def _derived(alike: Vectors, rows: Rows, learned: Labelled, candidate: Parameters) -> Vectors:
    """(rows, dimension) vectors of all rows by a head that learned from some: those are its landmarks."""
    own = np.searchsorted(rows, np.unique(learned.rows))
    here = Labelled(np.searchsorted(rows, learned.rows), learned.labels, learned.weights)
    found = projection(alike[:, own], alike[np.ix_(own, own)], here, candidate.shrinkage)
    nothing = np.empty((0, 0), np.float32)
    head = Head((), nothing, nothing, found.matrix, found.offset, found.outputs, found.shares)
    return head.of_likeness(alike[:, own])


def _spread_out(derived: Vectors, rows: Rows, count: int) -> Vectors:
    vectors = np.zeros((count, derived.shape[1]), np.float32)
    vectors[rows] = derived
    return vectors
