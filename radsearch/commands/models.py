"""`radsearch models`: the models that can embed."""

import argparse
from pathlib import Path

from radsearch.commands import settings_of, table


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="a row a model").set_defaults(run=_models_list)
    show = commands.add_parser("show", help="all that the table says of one")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_models_show)
    fetch = commands.add_parser("fetch", help="download a model's weights")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--to", type=Path, metavar="DIR", help="into DIR/NAME, for a host without network")
    fetch.set_defaults(run=_models_fetch)


def _models_list(options: argparse.Namespace) -> int:
    from radsearch.models import MODELS, weights_are_here

    settings = settings_of(options)
    rows = [("name", "family", "dimension", "text", "licence", "trained on", "weights")]
    for name, spec in MODELS.items():
        here = "here" if weights_are_here(spec, settings.models_folder) else "to be fetched"
        text = "yes" if spec.text else "no"
        rows.append((name, spec.family, str(spec.dimension), text, spec.licence, ", ".join(spec.trained_on), here))
    print(table(rows))  # noqa: T201
    return 0


def _models_show(options: argparse.Namespace) -> int:
    from radsearch.models import find_model

    spec = find_model(options.name)
    for field in type(spec).__dataclass_fields__:
        print(f"{field}: {getattr(spec, field)}")  # noqa: T201
    return 0


def _models_fetch(options: argparse.Namespace) -> int:
    from radsearch.models import find_model
    from radsearch.models.weights import fetch_weights

    settings = settings_of(options)
    place = fetch_weights(find_model(options.name), options.to or settings.models_folder)
    print(place)  # noqa: T201
    return 0
