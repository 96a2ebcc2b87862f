"""`python -m evaluation calibrate`: what scores of a model in an index are worth, from the index's own labels."""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from radsearch.commands import settings_of, table
from radsearch.errors import IndexMismatchError, NothingToSearchError, RadSearchError, SettingsError
from radsearch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.adapting.scoring import Answers
    from evaluation.checks import Rows
    from evaluation.collection import Collection
    from evaluation.protocols import Trial
    from radsearch.search.calibration import Calibration
    from radsearch.study import Fingerprint, Vectors

MOST_QUERIES = 20_000  # images that ask, by chance, where there are more
_NOISE = 20  # pictures of each kind


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--model", metavar="NAME", help="whose scores (default: RADSEARCH_MODEL)")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of the searches (default: 512)")
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    if options.memory < 1:
        raise SettingsError("--memory is 1 or more")
    settings = settings_of(options)
    calibration, place = calibrate(settings, options.model or settings.model, options.memory)
    from radsearch.search.calibration import keep

    file = keep(settings.settings_folder, place, calibration)
    print("\n".join(told_of(calibration)))  # noqa: T201
    _say(f"kept in {file}")
    return 0


def calibrate(settings: Settings, model: str, memory_mb: int = 512) -> "tuple[Calibration, str]":
    """The record of a model, made of an index's labelled images, and the index's place.

    Args:
        settings: of the index.
        model: that the index holds.
        memory_mb: of the searches.

    Raises:
        UnknownNameError: there is no such model, or the index does not hold it or its base.
        NothingToSearchError: too few images have labels, or a learned model knows all of their patients.
    """
    from evaluation.calibration import calibration_of, fit_queries
    from evaluation.settings import SearchSettings
    from evaluation.strangers import novelty_of
    from radsearch.models import find_model
    from radsearch.search.calibration import place_of

    spec = find_model(model, settings.settings_folder)
    collection, fingerprint, location = _images(settings, model)
    trial, queries = _queries(collection, settings)
    searches = SearchSettings(settings.device, memory_mb)
    found = fit_queries(collection, trial, queries, searches)
    frozen, space = collection, fingerprint
    if spec.base is not None:
        frozen, space, _ = _images(settings, spec.base.name)
    asking = _some_of(np.arange(len(frozen.images)))
    novelty = novelty_of(frozen, asking, searches, _noise(space, settings))
    return calibration_of(found, model=fingerprint, space=space, novelty=novelty), place_of(
        location, settings.collection
    )


def calibrate_learned(  # noqa: PLR0913, PLR0917 -- what was learned, from what, in which index
    settings: Settings, name: str, answers: "Answers", collection: "Collection", on: "Fingerprint", memory_mb: int
) -> list[str]:
    """Keep the record of a model that was just learned, by its own cross-validation; gives what was measured, in lines.

    Args:
        settings: of the index whose images it was learned from.
        name: the model's.
        answers: what patients found who were not learned from.
        collection: the index's images with the vectors of its base.
        on: the base's fingerprint.
        memory_mb: of the searches.

    Raises:
        RadSearchError: too few patients ask, or the record cannot be kept.
    """
    from evaluation.calibration import calibration_of_answers
    from evaluation.settings import SearchSettings
    from evaluation.strangers import novelty_of
    from radsearch.models import find_model
    from radsearch.models.identity import fingerprint_for
    from radsearch.models.weights import find_weights
    from radsearch.search.calibration import keep, place_of

    spec = find_model(name, settings.settings_folder)
    fingerprint = fingerprint_for(spec, find_weights(spec, settings.models_folder), settings)
    asking = _some_of(np.arange(len(collection.images)))
    searches = SearchSettings(settings.device, memory_mb)
    novelty = novelty_of(collection, asking, searches, _noise(on, settings))
    calibration = calibration_of_answers(answers, collection, model=fingerprint, space=on, novelty=novelty)
    keep(settings.settings_folder, place_of(collection.source, settings.collection), calibration)
    return told_of(calibration)


def _images(settings: Settings, model: str) -> "tuple[Collection, Fingerprint, str]":
    from evaluation.collection import from_index
    from radsearch.index import open_index

    with open_index(settings) as index:
        collection = from_index(index, model)
        if not collection.images:
            raise NothingToSearchError(f"no image of the index has a vector of {model}")
        return collection, index.card.models[model], index.location


def _queries(collection: "Collection", settings: Settings) -> "tuple[Trial, Rows]":
    """The trial, and the labelled images that ask: of a learned model those of patients that it does not know."""
    from evaluation.contamination import without_known
    from evaluation.protocols import leave_patient_out

    trial = leave_patient_out(collection)
    everybody = replace(trial, queries=trial.index)
    try:
        strange = without_known(everybody, collection, settings.settings_folder)
    except NothingToSearchError as error:
        raise NothingToSearchError(
            f"{error}; python -m evaluation adapt calibrates what it learns from its own cross-validation"
        ) from error
    return trial, _some_of(strange.queries)


def _some_of(rows: "Rows") -> "Rows":
    if len(rows) <= MOST_QUERIES:
        return rows
    return np.sort(np.random.default_rng(0).permutation(rows)[:MOST_QUERIES])


def _noise(space: "Fingerprint", settings: Settings) -> "Mapping[str, Vectors]":
    """Vectors of pictures that show nothing; none, with a word, where the model of the index is not here."""
    from evaluation.noise import noise_pictures
    from radsearch.search import Embedders

    try:
        with Embedders(settings).using(space) as embedder:
            if space.differences(embedder.fingerprint):
                raise IndexMismatchError(f"{space.model} here is not the one of the index")
            return {name: embedder.embed_images(pictures) for name, pictures in noise_pictures(_NOISE).items()}
    except RadSearchError as error:
        _say(f"noise was not measured: {error}")
        return {}


def told_of(calibration: "Calibration") -> list[str]:
    """What was measured, in lines of text."""
    made = calibration.made
    rows: list[Sequence[str]] = [
        ("modality", "patients", "pairs", "ECE", "own curve", "least", "false alarms", "refused if new")
    ]
    names = sorted({*made["ece_by_modality"], *made["false_alarms"], *made["left_out_refused"]})
    for name in names:
        least = calibration.least.get(name)
        rows.append((
            name or "all",
            f"{made['patients_by_modality'].get(name, 0):,}",
            f"{made['pairs_by_modality'].get(name, 0):,}",
            _cell(made["ece_by_modality"].get(name)),
            "yes" if name in calibration.curves else "no",
            "-" if least is None else f"{least:.3f}",
            _cell(made["false_alarms"].get(name)),
            _cell(made["left_out_refused"].get(name)),
        ))  # fmt: skip
    noise = ", ".join(f"{name} {share:.2f}" for name, share in made["noise_refused"].items()) or "not measured"
    return [
        f"{calibration.model.model}: {made['queries']:,} queries of {made['patients']:,} patients",
        table(rows),
        f"noise refused: {noise} (strangers are told by the vectors of {calibration.space.model})",
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _say(words: str) -> None:
    print(words, file=sys.stderr)  # noqa: T201
