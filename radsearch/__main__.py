"""`python -m radsearch` and the command `radsearch`: search, models, index, and what the rooms register."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from radsearch import __version__
from radsearch.errors import RadSearchError, exit_code
from radsearch.settings import Settings, load_settings
from radsearch.study import Hit, SearchFilter

if TYPE_CHECKING:
    from radsearch.search import Searcher, Wanted

_ROOMS = "radsearch.commands"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 2 could not do it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    rooms = {room.name: room for room in entry_points(group=_ROOMS)}
    if given and given[0] in rooms:
        return exit_code(lambda: _room_main(given[0], rooms[given[0]].load)(given[1:]))
    options = _parser().parse_args(given)
    return exit_code(lambda: options.run(options))


def _room_main(name: str, load: Callable[[], Callable[[list[str]], int]]) -> Callable[[list[str]], int]:
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("radsearch"):
            raise
        raise RadSearchError(f"`radsearch {name}` runs from the checkout ({error.name} is not installed)") from error


def _search(options: argparse.Namespace) -> int:
    from radsearch.index import open_index
    from radsearch.privacy import load_pseudonymizer
    from radsearch.search import Searcher, Wanted

    settings = _settings(options)
    where = SearchFilter(
        modality=tuple(code.upper() for code in options.modality),
        region=tuple(options.region),
        pathology=tuple(options.pathology),
        pathology_none=tuple(options.not_pathology),
        dataset=tuple(options.dataset),
    )
    wanted = Wanted(options.k, where, tuple(options.model), options.allow_same_patient)
    _check_query(options)
    with open_index(settings) as index:
        pseudonymizer = None
        if options.image is not None:
            pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
            index.admit((), pseudonymizer.check)
        searcher = Searcher(index, settings, pseudonymizer)
        if options.image is not None:
            hits = _by_file(searcher, options, wanted)
        elif options.text is not None:
            hits = searcher.by_text(options.text, wanted)
        else:
            liked = [*([options.id] if options.id else []), *options.like]
            hits = searcher.like(liked, options.unlike, wanted)
    _print_hits(hits, as_json=options.json)
    return 0


def _check_query(options: argparse.Namespace) -> None:
    """One kind of query at a time."""
    examples = options.id is not None or options.like or options.unlike
    kinds = [options.image is not None, options.text is not None, bool(examples)]
    if sum(kinds) != 1:
        raise RadSearchError("say what to search by: one of IMAGE, --text, or --id / --like (with or without --unlike)")
    if options.k < 1:
        raise RadSearchError("-k is 1 or more")


def _by_file(searcher: "Searcher", options: argparse.Namespace, wanted: "Wanted") -> list[Hit]:
    from radsearch.errors import UnreadableImageError

    try:
        return searcher.by_image(options.image, wanted, frame=options.frame)
    except UnreadableImageError as error:
        raise RadSearchError(f"the query cannot be read: {error.reason}") from error
    except OSError as error:
        raise RadSearchError(f"the query cannot be opened: {error.strerror}") from error


def _print_hits(hits: Sequence[Hit], *, as_json: bool) -> None:
    if as_json:
        for hit in hits:
            print(json.dumps(hit_as_json(hit)))  # noqa: T201 -- data goes to stdout
        return
    rows: list[tuple[str, ...]] = [("rank", "score", "modality", "region", "pathology", "dataset", "frame", "id")]
    for hit in hits:
        labels = hit.facts.labels
        findings = ", ".join(labels.pathology)
        cells = (labels.modality, labels.region, findings, hit.facts.dataset, str(hit.frame or ""), hit.id)
        rows.append((str(hit.rank), f"{hit.score:.4f}", *(cell or "-" for cell in cells)))
    print(table(rows))  # noqa: T201


def hit_as_json(hit: Hit) -> dict[str, object]:
    """The object of the contract: `id, score, rank, modality, region, pathology, patient, study, ...`."""
    facts = hit.facts
    return {
        "id": hit.id,
        "score": round(hit.score, 6),
        "rank": hit.rank,
        "modality": facts.labels.modality,
        "region": facts.labels.region,
        "pathology": list(facts.labels.pathology),
        "patient": facts.patient,
        "study": facts.study,
        "series": facts.series,
        "dataset": facts.dataset,
        "split": facts.split,
        "frame": hit.frame,
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _models_list(options: argparse.Namespace) -> int:
    from radsearch.models import MODELS, weights_are_here

    settings = _settings(options)
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

    settings = _settings(options)
    place = fetch_weights(find_model(options.name), options.to or settings.models_folder)
    print(place)  # noqa: T201
    return 0


def _index_info(options: argparse.Namespace) -> int:
    from radsearch.index import open_index

    with open_index(_settings(options)) as index:
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
    with open_index(_settings(options)) as index:
        counts = {name: index.facets(name, SearchFilter()) for name in options.field or FACET_FIELDS}
    if options.json:
        print(json.dumps({name: {str(value): n for value, n in found.items()} for name, found in counts.items()}))  # noqa: T201
        return 0
    for name, found in counts.items():
        for value, number in found.items():
            print(f"{name}\t{value}\t{number}")  # noqa: T201
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    settings = load_settings()
    return replace(settings, index=options.index) if getattr(options, "index", None) else settings


def _parser() -> argparse.ArgumentParser:
    rooms = ", ".join(sorted(room.name for room in entry_points(group=_ROOMS)))
    parser = argparse.ArgumentParser(
        prog="radsearch",
        description="Find the radiology images that look like the one in front of you.",
        epilog=f"from the checkout also: {rooms}" if rooms else None,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_search(commands.add_parser("search", help="search by an image, an indexed one, text, or examples"))
    _add_models(commands.add_parser("models", help="the models that can embed"))
    _add_index(commands.add_parser("index", help="what an index holds"))
    return parser


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="a DICOM, PNG or JPEG file")
    parser.add_argument("--frame", type=int, metavar="N", help="frame of IMAGE, from 1 (default: the middle one)")
    parser.add_argument("--id", metavar="ID", help="an indexed image")
    parser.add_argument("--text", help="words, for models that read text")
    _add_repeatable(parser, "--like", "ID", "an indexed image like the wanted ones")
    _add_repeatable(parser, "--unlike", "ID", "an indexed image unlike the wanted ones")
    _add_repeatable(parser, "--model", "NAME", "search by its vectors; several are fused")
    _add_repeatable(parser, "--modality", "M", "only this modality (XR: also CR, DX, RG)")
    _add_repeatable(parser, "--region", "R", "only this region")
    _add_repeatable(parser, "--pathology", "P", "only images with this finding")
    _add_repeatable(parser, "--not-pathology", "P", "no images with this finding")
    _add_repeatable(parser, "--dataset", "D", "only this data set")
    parser.add_argument("--allow-same-patient", action="store_true", help="also images of the query's own patient")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of hits (default: 10)")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--json", action="store_true", help="one JSON object a hit")
    parser.set_defaults(run=_search)


def _add_repeatable(parser: argparse.ArgumentParser, name: str, value: str, words: str) -> None:
    parser.add_argument(name, action="append", default=[], metavar=value, help=f"{words}; may be repeated")


def _add_models(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="a row a model").set_defaults(run=_models_list)
    show = commands.add_parser("show", help="all that the table says of one")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_models_show)
    fetch = commands.add_parser("fetch", help="download a model's weights")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--to", type=Path, metavar="DIR", help="into DIR/NAME, for a host without network")
    fetch.set_defaults(run=_models_fetch)


def _add_index(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="how many images, by which models")
    facets = commands.add_parser("facets", help="how many images by modality, region, pathology, ...")
    facets.add_argument("field", nargs="*", metavar="FIELD", help="only these fields")
    facets.add_argument("--json", action="store_true")
    for command, run in ((info, _index_info), (facets, _index_facets)):
        command.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
        command.set_defaults(run=run)


if __name__ == "__main__":
    sys.exit(main())
