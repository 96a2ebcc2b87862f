"""`python -m evaluation adapt`: learn a model from an archive's labels, and score it on patients that it never saw."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from radsearch.commands import table
from radsearch.errors import NobodyNewError, RadSearchError, SettingsError
from radsearch.settings import Settings, load_settings

if TYPE_CHECKING:
    from evaluation.adapting.learning import Learned
    from evaluation.collection import Collection
    from radsearch.study import Fingerprint

TARGETS = ("pathology", "region", "modality")
DEFAULT_BASE = "efficientnet-lite-joined"  # the best without a download (docs/retrieval-quality.md)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--model", metavar="NAME", help=f"whose vectors to learn on (default: {DEFAULT_BASE})")
    parser.add_argument("--index", metavar="DIR|URL", help="learn from its images (default: RADSEARCH_INDEX)")
    parser.add_argument("--train-manifest", type=Path, metavar="CSV", help="learn from its images instead")
    parser.add_argument("--test-index", metavar="DIR|URL", help="score on its images")
    parser.add_argument("--test-manifest", type=Path, metavar="CSV", help="score on its images")
    parser.add_argument(
        "--target", choices=TARGETS, default="pathology", help="what is to be found (default: pathology)"
    )
    parser.add_argument("--single-label", action="store_true", help="score only on images of one finding")
    parser.add_argument(
        "--out", required=True, metavar="NAME", help="what the archive is called; part of the model's name"
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of the test's runs (default: evaluation-runs)")
    parser.add_argument("--no-apply", action="store_true", help="do not write the model's vectors into the index")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of the searches (default: 512)")
    parser.set_defaults(run=_adapt)


def _adapt(options: argparse.Namespace) -> int:
    from evaluation.adapting.learning import keep, learn, require_base
    from evaluation.settings import SearchSettings
    from radsearch.deriving import derive_in
    from radsearch.models import find_model

    if options.index and options.train_manifest:
        raise SettingsError("say one of --index and --train-manifest")
    if options.test_index and options.test_manifest:
        raise SettingsError("say one of --test-index and --test-manifest")
    if options.memory < 1:
        raise SettingsError("--memory is 1 or more")
    settings = load_settings()
    spec = find_model(options.model or DEFAULT_BASE, settings.settings_folder)
    archive = replace(settings, index=options.index) if options.index else settings
    require_base(spec, options.out)
    collection, on, secret = _images(archive, options.train_manifest, spec.name)
    learned = learn(collection, options.target, spec.parts, SearchSettings(settings.device, options.memory))
    name = keep(settings.settings_folder, spec, options.out, learned, on, secret)
    _print_learned(learned)
    if options.train_manifest is None and not options.no_apply:
        _say(f"{derive_in(archive, name):,} images of {archive.index} have a vector of it now")
        if options.target == "pathology":  # the probability is that a hit shares the finding
            _calibrate(archive, name, learned, collection, on, options.memory)
    if options.test_index or options.test_manifest:
        _test(options, settings, name, learned, secret)
    print(name)  # noqa: T201
    return 0


def _images(settings: Settings, manifest: Path | None, model: str) -> "tuple[Collection, Fingerprint, str | None]":
    """The images, the fingerprint of their vectors, and by which secret their patients are called."""
    from evaluation.running import read_index
    from radsearch.index import open_index
    from radsearch.study import Fingerprint

    if manifest is None:
        with open_index(settings) as index:
            secret = index.card.secret_check
        collection, _ = read_index(settings, model)
        return collection, Fingerprint(**collection.model), secret
    from evaluation.adapting.pictures import embed_manifest
    from radsearch.privacy import load_pseudonymizer

    key = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
    embedded = embed_manifest(manifest, model, settings, key)
    for reason, number in embedded.refused.items():
        _say(f"left out: {number} of {manifest}: {reason}")
    return embedded.collection, embedded.fingerprint, key.check


def _calibrate(  # noqa: PLR0913, PLR0917 -- what was learned, from what, in which index
    archive: Settings, name: str, learned: "Learned", collection: "Collection", on: "Fingerprint", memory_mb: int
) -> None:
    """The model is there by now, whatever comes of this."""
    from evaluation.calibrating import calibrate_learned

    try:
        lines = calibrate_learned(archive, name, learned.chosen.answers, collection, on, memory_mb)
    except RadSearchError as error:
        _say(f"its scores were not calibrated: {error}")
        return
    _say("\n".join(["its scores as probabilities:", *lines]))


def _print_learned(learned: "Learned") -> None:
    said = learned.said
    _say(f"learned from {said['images']:,} images of {said['patients']:,} patients, {len(said['labels'])} labels")
    _say(f"cross-validated by patients, {said['fits']} fits:")
    rows: list[Sequence[str]] = [("", "P@1", "P@10", "macro P@1")]
    rows.append(("frozen", *_cells(learned.chosen.frozen)))
    for parameters, figures in learned.chosen.figures:
        mark = " (chosen)" if parameters == learned.chosen.parameters else ""
        rows.append((f"width {parameters.width}, shrinkage {parameters.shrinkage}{mark}", *_cells(figures)))
    _say(table(rows))


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures[name]:.3f}" for name in ("P@1", "P@10", "macro P@1")]


def _test(options: argparse.Namespace, settings: Settings, name: str, learned: "Learned", secret: str | None) -> None:
    """Frozen and learned over the same queries, a run each, and what the difference is worth."""
    from evaluation.adapting.learning import derived
    from evaluation.comparison import compare, comparison_lines
    from evaluation.running import Asked, folder_of, make_run
    from evaluation.stored import read_run
    from radsearch.models import find_model

    spec = find_model(name, settings.settings_folder)
    assert spec.base is not None  # noqa: S101 -- for the type checker: it was derived a moment ago
    archive = replace(settings, index=options.test_index) if options.test_index else settings
    images, on, other = _images(archive, options.test_manifest, spec.base.name)
    if other != secret:
        raise SettingsError(
            "the pseudonyms of the test were made with another secret than those that were learned from: nobody can "
            "tell whether patients are on both sides"
        )
    images = _of_strangers(images, learned.patients)
    collections = [images, derived(images, on, spec)]
    folders = []
    for collection in collections:
        folder = folder_of(options.runs or Path("evaluation-runs"), "leave-patient-out", str(collection.model["model"]))
        asked = Asked(folder, single_label=options.single_label, memory_mb=options.memory)
        with asked.prepared():
            make_run(collection, None, asked, settings, print)
        folders.append(folder)
    for one in compare([read_run(folder) for folder in folders]):
        print("\n".join(comparison_lines(one)))  # noqa: T201
    _say(f"the runs are in {' and '.join(map(str, folders))}")


def _of_strangers(collection: "Collection", known: frozenset[str]) -> "Collection":
    """The images of patients who were not learned from."""
    from evaluation.adapting.folds import some_images

    rows = [row for row, image in enumerate(collection.images) if image.patient not in known]
    if not rows:
        raise NobodyNewError("all patients of the test were learned from: figures on them say nothing")
    left_out = len(collection.images) - len(rows)
    if left_out:
        _say(f"left out of the test: {left_out:,} images of patients who were learned from")
    return some_images(collection, rows)


def _say(words: str) -> None:
    print(words, file=sys.stderr)  # noqa: T201
