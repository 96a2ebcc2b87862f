"""`radsearch index`: what an index holds."""

import argparse
import json

from radsearch.commands import settings_of
from radsearch.study import SearchFilter


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="how many images, by which models")
    facets = commands.add_parser("facets", help="how many images by modality, region, pathology, ...")
    facets.add_argument("field", nargs="*", metavar="FIELD", help="only these fields")
    facets.add_argument("--json", action="store_true")
    for command, run in ((info, _index_info), (facets, _index_facets)):
        command.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
        command.set_defaults(run=run)


def _index_info(options: argparse.Namespace) -> int:
    from radsearch.index import open_index

    with open_index(settings_of(options)) as index:
        print(f"index: {index.location}")  # noqa: T201
        print(f"images: {index.count()}")  # noqa: T201
        by_model = index.facets("models", SearchFilter())
        for name, model in index.card.models.items():
            print(f"model: {name}, {by_model.get(name, 0)} images")  # noqa: T201
            print(f"  weights {model.weights}, {model.dimension} dimensions, {model.precision}")  # noqa: T201
            print(f"  {model.preprocessing}; rendering {model.rendering}")  # noqa: T201
    return 0


def _index_facets(options: argparse.Namespace) -> int:
    from radsearch.errors import UnknownNameError
    from radsearch.index import FACET_FIELDS, open_index

    unknown = [name for name in options.field if name not in FACET_FIELDS]
    if unknown:
        raise UnknownNameError("field", unknown[0], FACET_FIELDS)
    with open_index(settings_of(options)) as index:
        counts = {name: index.facets(name, SearchFilter()) for name in options.field or FACET_FIELDS}
    if options.json:
        print(json.dumps({name: {str(value): n for value, n in found.items()} for name, found in counts.items()}))  # noqa: T201
        return 0
    for name, found in counts.items():
        for value, number in found.items():
            print(f"{name}\t{value}\t{number}")  # noqa: T201
    return 0
