"""Scores become probabilities: a rising curve a modality, and its error on patients that it was not fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.adapting.folds import folds_of
from evaluation.adapting.scoring import DEPTH, Answers
from evaluation.asking import first_neighbours, hits_of
from evaluation.checks import Flags, Gains, Rows, Values
from evaluation.collection import Collection, codes_of
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from evaluation.strangers import Novelty
from radsearch.errors import NothingToSearchError
from radsearch.search.calibration import MOST_KNOTS, OVERALL, Calibration, Curve
from radsearch.study import Fingerprint, grouped_modality

LEAST_PAIRS, LEAST_PATIENTS = 200, 20  # of a modality that has a curve of its own
_LEAST_IN_KNOT = 40  # pairs
_SURE = 0.99  # no curve is surer than that, nor of the contrary
_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Queries, each with some of its nearest images of other patients.

    scores: (n,) cosines. hits: (n,) whether the two share a label path. modalities: (n,) of the image that was found,
    grouped. patients, others: (n,) whole numbers, the patient of the query and that of the found image.
    """

    scores: Values
    hits: Flags
    modalities: NDArray[np.str_]
    patients: Rows
    others: Rows

    def some(self, which: Flags) -> "Pairs":
        """Those that are chosen."""
        return Pairs(
            self.scores[which], self.hits[which], self.modalities[which], self.patients[which], self.others[which]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What was fitted, by modality; `""` is all.

    errors: expected calibration error on patients that were not fitted on, of every modality, whether it has a curve of
    its own or not. pairs: how many there are, likewise. queries, patients: how many asked.
    """

    curves: Mapping[str, Curve]
    errors: Mapping[str, float]
    pairs: Mapping[str, int]
    queries: int
    patients: int


def isotonic(values: Values, weights: Values) -> Values:
    """(n,) the rising sequence nearest to the values by weighted squares.

    Source: pool adjacent violators; Barlow et al., Statistical inference under order restrictions, 1972.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, length = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            before, of_before, places = blocks.pop()
            mean = (before * of_before + mean * total) / (of_before + total)
            total, length = of_before + total, places + length
        blocks.append((mean, total, length))
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def curve_of(scores: Gains, hits: Flags) -> Curve:
    """At most 50 knots, each of so many neighbouring pairs: their mean score, and their isotonic share of hits.

    Equal scores are in one knot. No knot is surer than 0.99, of a hit or of none.

    Args:
        scores: (n,) at least one.
        hits: (n,).
    """
    order = np.argsort(scores, kind="stable")
    rising, there = scores[order], hits[order].astype(np.float64)
    knots = min(MOST_KNOTS, max(1, len(rising) // _LEAST_IN_KNOT))
    edges = np.linspace(0, len(rising), knots + 1).astype(np.int64)[:-1]
    starts = np.unique(np.searchsorted(rising, rising[edges]))
    counts = np.diff(np.append(starts, len(rising))).astype(np.float64)
    shares = isotonic(np.add.reduceat(there, starts) / counts, counts).clip(1 - _SURE, _SURE)
    means = np.round(np.add.reduceat(rising, starts) / counts, _DIGITS).clip(-1, 1)
    _, first = np.unique(means, return_index=True)
    return Curve(tuple((float(means[place]), round(float(shares[place]), _DIGITS)) for place in first))


def fit_calibration(scores: Gains, hits: Flags, modalities: NDArray[np.str_], patients: Rows) -> dict[str, Curve]:
    """The curve of all pairs as `""`, and one of each modality with 200 pairs of 20 patients or more.

    Args:
        scores: (n,) cosine of each pair.
        hits: (n,) whether it shares a label path.
        modalities: (n,) of the image that was found.
        patients: (n,) of the query.
    """
    curves = {OVERALL: curve_of(scores, hits)}
    for name in sorted({*modalities.tolist()} - {OVERALL}):
        own = modalities == name
        if own.sum() >= LEAST_PAIRS and len(np.unique(patients[own])) >= LEAST_PATIENTS:
            curves[name] = curve_of(scores[own], hits[own])
    return curves


def probabilities_of(curves: Mapping[str, Curve], scores: Gains, modalities: NDArray[np.str_]) -> Values:
    """(n,) what the curves make of scores; of a modality without one that of all does."""
    found = np.empty(len(scores))
    for name in {*modalities.tolist()}:
        own = modalities == name
        knots = np.array(curves.get(name, curves[OVERALL]).knots)
        found[own] = np.interp(scores[own], knots[:, 0], knots[:, 1])
    return found


def expected_calibration_error(probabilities: Gains, hits: Flags, bins: int = 10) -> float:
    """The mean over the bins, weighted by their pairs, of |share of hits - mean probability|; bins of equal width.

    Args:
        probabilities: (n,) from 0 to 1; at least one.
        hits: (n,).
        bins: how many; bin m is ((m - 1) / bins, m / bins].

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al., ICML 2017, equation 3.
    """
    places = (np.ceil(probabilities * bins) - 1).clip(0, bins - 1).astype(np.int64)
    gaps = np.bincount(places, hits.astype(np.float64) - probabilities, bins)
    return float(np.abs(gaps).sum() / len(hits))


def cross_fitted(pairs: Pairs, folds: Rows) -> Values:
    """(n,) the probability of each pair by curves that saw neither a query nor a found image of its query's fold.

    Args:
        pairs: to be fitted.
        folds: by the patients' whole numbers.
    """
    found = np.empty(len(pairs.scores))
    asked, there = folds[pairs.patients], folds[pairs.others]
    for fold in np.unique(asked).tolist():
        rest, own = pairs.some((asked != fold) & (there != fold)), asked == fold
        if not len(rest.scores):
            raise NothingToSearchError("too few patients find each other's images to say what a score is worth")
        curves = fit_calibration(rest.scores, rest.hits, rest.modalities, rest.patients)
        found[own] = probabilities_of(curves, pairs.scores[own], pairs.modalities[own])
    return found


def fitted(pairs: Pairs, folds: Rows, *, queries: int) -> Fitted:
    """Curves of all pairs, and their error by `cross_fitted`."""
    probabilities = cross_fitted(pairs, folds)
    groups = {OVERALL: np.ones(len(pairs.scores), bool)}
    groups |= {name: pairs.modalities == name for name in sorted({*pairs.modalities.tolist()} - {OVERALL})}
    errors = {name: expected_calibration_error(probabilities[own], pairs.hits[own]) for name, own in groups.items()}
    curves = fit_calibration(pairs.scores, pairs.hits, pairs.modalities, pairs.patients)
    counts = {name: int(own.sum()) for name, own in groups.items()}
    return Fitted(curves, errors, counts, queries, len(np.unique(pairs.patients)))


def fit_queries(collection: Collection, trial: Trial, queries: Rows, settings: SearchSettings) -> Fitted:
    """Ask by some images of a collection among all labelled ones of other patients, ten neighbours each.

    Also those ask of whose label there is no other patient: nobody knows that of a query either.

    Args:
        collection: the images with the model's vectors.
        trial: its index is looked in, its labels count.
        queries: (m,) rows that ask.
        settings: of the search.

    Raises:
        NothingToSearchError: fewer than five patients ask.
    """
    trial = replace(trial, queries=queries, own_patient=False)
    vectors, blocks = collection.vectors, []
    for rows, near in first_neighbours(collection, trial, DEPTH, settings):
        blocks.append((near, np.einsum("ij,ikj->ik", vectors[rows], vectors[near]), hits_of(trial, rows, near)))
    near, scores, hits = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return _fitted_of(collection, trial.labels["label"], queries, near, scores, hits)


def calibration_of_answers(
    answers: Answers, collection: Collection, *, model: Fingerprint, space: Fingerprint, novelty: Novelty
) -> Calibration:
    """The record of a learned model, by what its cross-validation found: no query's patient was learned from.

    Args:
        answers: out of fold, as `Chosen.answers`.
        collection: the images that its rows are of.
        model: the learned model's fingerprint.
        space: its base's.
        novelty: of the base's vectors of the same images.

    Raises:
        NothingToSearchError: fewer than five patients ask.
    """
    classes = [frozenset(image.paths) for image in collection.images]
    found = _fitted_of(collection, classes, answers.queries, answers.found, answers.scores, answers.hits)
    return calibration_of(found, model=model, space=space, novelty=novelty)


def calibration_of(found: Fitted, *, model: Fingerprint, space: Fingerprint, novelty: Novelty) -> Calibration:
    """The record as it is kept."""
    made: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "queries": found.queries,
        "patients": found.patients,
        "ece": found.errors[OVERALL],
        "ece_by_modality": dict(found.errors),
        "pairs_by_modality": dict(found.pairs),
        "patients_by_modality": dict(novelty.patients),
        "false_alarms": dict(novelty.false_alarms),
        "left_out_refused": dict(novelty.left_out),
        "noise_refused": dict(novelty.noise),
    }
    return Calibration(model, space, found.curves, novelty.least, made)


def _fitted_of(  # noqa: PLR0913, PLR0917 -- whose answers, and which
    collection: Collection,
    classes: Sequence[frozenset[str]],
    queries: Rows,
    found: Rows,
    scores: NDArray[np.floating[Any]],
    hits: Flags,
) -> Fitted:
    names = [image.patient for image in collection.images]
    codes = codes_of(names)
    folds = np.full(int(codes.max()) + 1, -1, np.int64)
    dealt = folds_of(classes, names, queries.tolist())
    folds[codes[queries]] = dealt[queries]
    modalities = np.array([grouped_modality(image.facts.get("modality", OVERALL)) for image in collection.images])
    asked, there = np.repeat(queries, found.shape[1]), found.ravel()
    kept = there >= 0
    asked, there = asked[kept], there[kept]
    cosines, hits = np.asarray(scores.ravel()[kept], np.float64), hits.ravel()[kept]
    return fitted(Pairs(cosines, hits, modalities[there], codes[asked], codes[there]), folds, queries=len(queries))
