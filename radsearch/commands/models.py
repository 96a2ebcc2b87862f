"""`radsearch models`: the models that can embed."""

import argparse
from dataclasses import fields
from pathlib import Path

from radsearch.commands import settings_of, table
from radsearch.errors import RadSearchError
from radsearch.models import ModelSpec


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="a row a model").set_defaults(run=_models_list)
    show = commands.add_parser("show", help="all that the table says of one")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_models_show)
    fetch = commands.add_parser("fetch", help="download a model's weights")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--to", type=Path, metavar="DIR", help="into a folder below DIR, for a host without network")
    fetch.set_defaults(run=_models_fetch)
    check = commands.add_parser("check", help="load models, embed a test card, compare with what is recorded")
    check.add_argument("--record", action="store_true", help="remember what they give now, instead of comparing")
    check.add_argument("names", nargs="*", metavar="NAME", help="default: all whose weights are here")
    check.set_defaults(run=_models_check)


def _models_list(options: argparse.Namespace) -> int:
    from radsearch.models import models_of, weights_are_here

    settings = settings_of(options)
    rows = [("name", "family", "dimension", "input", "text", "licence", "trained on", "weights")]
    for name, spec in models_of(settings.settings_folder).items():
        away = "missing" if spec.folder else "gated" if spec.gated else "to be fetched"
        here = "here" if weights_are_here(spec, settings.models_folder) else away
        rows.append(
            (
                name,
                spec.family,
                str(spec.dimension),
                f"{spec.preprocessing.size} px",
                "yes" if spec.text else "no",
                spec.licence,
                ", ".join(spec.trained_on) or "not stated",
                here,
            )
        )
    print(table(rows))  # noqa: T201
    return 0


def _models_show(options: argparse.Namespace) -> int:
    from radsearch.models import find_model

    spec = find_model(options.name, settings_of(options).settings_folder)
    for record in (spec, spec.preprocessing):
        for field in fields(record):
            value = getattr(record, field.name)
            if field.name != "preprocessing" and value is not None and value not in {"", ()}:
                words = ", ".join(_said(item) for item in value) if isinstance(value, tuple) else _said(value)
                print(f"{field.name}: {words}")  # noqa: T201
    return 0


def _said(item: object) -> str:
    if isinstance(item, ModelSpec):
        return item.name
    return " = ".join(str(part) for part in item) if isinstance(item, tuple) else str(item)


def _models_fetch(options: argparse.Namespace) -> int:
    from radsearch.models import find_model
    from radsearch.models.fetching import fetch_weights

    settings = settings_of(options)
    spec = find_model(options.name, settings.settings_folder)
    print(fetch_weights(spec, options.to or settings.models_folder))  # noqa: T201
    return 0


def _models_check(options: argparse.Namespace) -> int:
    """0 where all is as it should be, 1 where something is not."""
    from radsearch.models import find_model, models_of, weights_are_here
    from radsearch.models.checking import check_model

    settings = settings_of(options)
    rows = models_of(settings.settings_folder)
    names = options.names or [name for name, spec in rows.items() if weights_are_here(spec, settings.models_folder)]
    good = True
    for spec in [find_model(name, settings.settings_folder) for name in names]:
        print(spec.name)  # noqa: T201
        try:
            for finding in check_model(spec, settings, record=options.record):
                good = good and finding.good
                print(f"  {'ok ' if finding.good else 'BAD'} {finding.what}: {finding.outcome}")  # noqa: T201
        except RadSearchError as error:
            good = False
            print(f"  BAD {error}")  # noqa: T201
    return 0 if good else 1
