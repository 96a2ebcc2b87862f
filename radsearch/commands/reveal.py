"""`radsearch reveal`: from an indexed image back to its file, by who has the private catalogue; the audit keeps it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from radsearch.commands import settings_of
from radsearch.errors import NothingToSearchError, SettingsError

if TYPE_CHECKING:
    from radsearch.index import Stored
    from radsearch.settings import Settings


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("id", nargs="+", metavar="ID", help="of indexed images")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--json", action="store_true", help="an object an image: id, file, frame")
    parser.set_defaults(run=_reveal)


def _reveal(options: argparse.Namespace) -> int:
    """Exit 1 where the catalogue does not know all of the files."""
    from radsearch.catalogue import catalogue_of
    from radsearch.index import open_index

    settings = settings_of(options)
    catalogue = catalogue_of(settings)
    if catalogue is None or settings.catalogue is None:
        raise SettingsError("RADSEARCH_CATALOGUE names the private catalogue, which leads back to files; none is named")
    if not settings.catalogue.is_file():
        raise SettingsError(f"there is no catalogue {settings.catalogue}: it is on the host that ingests")
    with open_index(settings) as index:
        points = _points(index.retrieve(_ids(options.id)), options.id)
    _note(points, settings, settings.catalogue)
    lost = 0
    for point in points:
        path = catalogue.path_of(str(point.payload.get("instance")))
        lost += path is None
        _print(point, path, as_json=options.json)
    return 1 if lost else 0


def _ids(stated: list[str]) -> list[str]:
    from radsearch.search import canonical_id

    ids = [canonical_id(text) for text in stated]
    if None in ids:
        raise NothingToSearchError("ids of indexed images look like UUIDs; one of these does not")
    return [one for one in ids if one is not None]


def _points(found: "list[Stored]", stated: list[str]) -> "list[Stored]":
    """In the order in which they were asked for."""
    by_id = {point.id: point for point in found}
    missing = [point for point in _ids(stated) if point not in by_id]
    if missing:
        raise NothingToSearchError(f"no indexed image {missing[0]}")
    return [by_id[point] for point in dict.fromkeys(_ids(stated))]


def _note(points: "list[Stored]", settings: "Settings", catalogue: Path) -> None:
    """Before anything is shown. Beside the catalogue, where the settings name no audit: there is no way round it."""
    from radsearch.audit import Audit, system_user

    closed = [point.id for point in points if point.payload.get("dataset") not in settings.open_datasets]
    if closed:
        file = settings.audit or catalogue.with_name(f"{catalogue.name}.audit.jsonl")
        Audit(file, system_user()).note("reveal", ids=closed)


def _print(point: "Stored", path: Path | None, *, as_json: bool) -> None:
    frame = point.payload.get("frame")
    file = None if path is None else str(path)
    if as_json:
        print(json.dumps({"id": point.id, "file": file, "frame": frame}))  # noqa: T201 -- data goes to stdout
    else:
        print(f"{point.id}\t{'-' if file is None else _plain(file)}\t{frame or '-'}")  # noqa: T201


def _plain(file: str) -> str:
    """On one line, with what a terminal would take for an order spelt out: who sends files may have named them."""
    spelt = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in file)
    return spelt.encode("utf-8", "backslashreplace").decode("utf-8")
