"""The ladder's figures of calibration and of strangers, by curves that the patients who are scored never shaped."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from quality_data import Variant
from quality_steps import Ladder, Step

from evaluation.adapting.scoring import Answers
from evaluation.calibration import expected_calibration_error, fit_calibration, probabilities_of
from evaluation.collection import Collection, codes_of
from evaluation.settings import SearchSettings
from evaluation.strangers import novelty_of
from radsearch.study import Vectors, grouped_modality

_Pairs = tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.str_], NDArray[np.int64]]


def calibration_lines(ladder: Ladder, steps: Sequence[Step]) -> Iterator[str]:
    """Expected calibration error of the ten first hits, overall and by the hit's modality."""
    yield "### Scores as probabilities"
    yield ""
    yield (
        "Expected calibration error (ten bins of equal width) of the first ten hits of each query, among all images of "
        "other patients. Curves are isotonic, by the hit's modality, fitted in each fold on the other four: of a head "
        "on what its own cross-validation found there."
    )
    yield ""
    names = sorted({*_modalities(ladder.collection(steps[0])).tolist()})
    yield f"| step | pairs | all | {' | '.join(names)} |"
    yield f"| --- | --- | --- |{' --- |' * len(names)}"
    for step in steps:
        probabilities, hits, modalities = _held_out(ladder, step)
        errors = [expected_calibration_error(probabilities, hits)]
        errors += [
            expected_calibration_error(probabilities[modalities == name], hits[modalities == name]) for name in names
        ]
        yield f"| {step.name} | {len(hits):,} | {' | '.join(f'{error:.3f}' for error in errors)} |"


def _held_out(ladder: Ladder, step: Step) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.str_]]:
    found = []
    for inner, outer in ladder.calibrated(step):
        collection = ladder.collection(step)
        scores, hits, modalities, patients = _pairs(collection, inner)
        curves = fit_calibration(scores, hits, modalities, patients)
        scores, hits, modalities, _ = _pairs(collection, outer)
        found.append((probabilities_of(curves, scores, modalities), hits, modalities))
    probabilities, hits, modalities = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return probabilities, hits, modalities


def _pairs(collection: Collection, answers: Answers) -> _Pairs:
    there = answers.found.ravel() >= 0
    codes = codes_of([image.patient for image in collection.images])
    asked = np.repeat(answers.queries, answers.found.shape[1])[there]
    found = answers.found.ravel()[there]
    scores = np.asarray(answers.scores.ravel()[there], np.float64)
    return scores, answers.hits.ravel()[there], _modalities(collection)[found], codes[asked]


def _modalities(collection: Collection) -> NDArray[np.str_]:
    return np.array([grouped_modality(image.facts.get("modality", "")) for image in collection.images])


def stranger_lines(variants: dict[str, tuple[Variant, dict[str, Vectors]]], settings: SearchSettings) -> Iterator[str]:
    """How many of an archive's own, of noise and of a modality that is left out are refused."""
    yield "### Nothing similar enough"
    yield ""
    yield (
        "A picture is refused where its nearest image is less like it than 99 % of the archive's own patients are to "
        "theirs, by the nearest image's modality, in the frozen vectors. Shares of patients (of noise, of pictures); "
        "thresholds of four folds, the archive's own of the fifth."
    )
    yield ""
    heads: list[str] = []
    rows = []
    for name, (variant, noise) in variants.items():
        collection = variant.collection
        novelty = novelty_of(collection, np.arange(len(collection.images)), settings, noise)
        heads = [*(f"noise: {kind}" for kind in novelty.noise), *(f"{one} left out" for one in novelty.left_out)]
        cells = [novelty.false_alarms[""], *novelty.noise.values(), *novelty.left_out.values()]
        rows.append(f"| {name} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} |")
    yield f"| vectors | the archive's own | {' | '.join(heads)} |"
    yield f"| --- | --- |{' --- |' * len(heads)}"
    yield from rows
