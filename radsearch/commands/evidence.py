"""`radsearch evidence`: where a query and a hit match, as heat over both pictures, and how much each place adds."""

import argparse
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from radsearch.commands import settings_of, table
from radsearch.errors import NothingToSearchError, RadSearchError, SettingsError, UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radsearch.evidence.comparing import Compared
    from radsearch.index import Stored
    from radsearch.models.base import Embedder
    from radsearch.models.spec import Precision
    from radsearch.privacy import Pseudonymizer
    from radsearch.search import QueryFile
    from radsearch.settings import Settings
    from radsearch.study import Fingerprint, Picture


@dataclass(frozen=True, slots=True)
class _Indexed:
    """What an index has of the two images, by id, and of the model, if anything; pseudonymizer: with its secret."""

    model: str
    points: "Mapping[str, Stored]"
    held: "Fingerprint | None"
    pseudonymizer: "Pseudonymizer"


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name in ("query", "hit"):
        words = "a DICOM, NIfTI, PNG or JPEG file, or the id of an indexed image whose file the catalogue knows"
        parser.add_argument(name, metavar=name.upper(), help=words)
    parser.add_argument(
        "--model", metavar="NAME", help="by its features (default: the index's only model, else RADSEARCH_MODEL)"
    )
    parser.add_argument("--out", type=Path, metavar="PNG", required=True, help="where to write the picture")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from radsearch.commands.pictures import refuse_to_overwrite, write_png
    from radsearch.evidence.comparing import compare

    settings, asked = settings_of(options), (options.query, options.hit)
    refuse_to_overwrite(options.out, *(Path(one) for one in asked))
    indexed = _indexed(asked, options.model, settings)
    query, hit = (_shown(_file_of(one, indexed, settings)) for one in asked)
    found = compare(_embedder(indexed.model, indexed.held, settings), query, hit)
    write_png(found.sheet(), options.out)
    _print(found, as_json=options.json)
    return 0


def _id_in(text: str) -> str | None:
    """The id, unless it is a file's name."""
    from radsearch.search import canonical_id

    point = canonical_id(text)
    return None if point is not None and Path(text).exists() else point


def _indexed(asked: tuple[str, ...], model: str | None, settings: "Settings") -> _Indexed:
    """The index is opened for images that it holds only; who looks at them is in the audit first."""
    from radsearch.audit import audit_of
    from radsearch.index import open_index
    from radsearch.privacy import Pseudonymizer, load_pseudonymizer

    ids = [point for one in asked if (point := _id_in(one))]
    if not ids:
        return _Indexed(model or settings.model, {}, None, Pseudonymizer(secrets.token_bytes(32)))
    if settings.catalogue is None or not settings.catalogue.is_file():
        raise SettingsError("an indexed image's file is found by the private catalogue only: set RADSEARCH_CATALOGUE")
    with open_index(settings) as index:
        index.require_blanked(blanked=bool(settings.blank_text))
        pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
        index.admit((), pseudonymizer.check)
        points = {point.id: point for point in index.retrieve(ids)}
        only = next(iter(index.card.models)) if len(index.card.models) == 1 else settings.model
        index.require_model(model or only)
        held = index.card.models[model or only]
    missing = [point for point in ids if point not in points]
    if missing:
        raise NothingToSearchError(f"no indexed image {missing[0]}")
    audit_of(settings).note("open", ids=list(points))
    return _Indexed(model or only, points, held, pseudonymizer)


def _file_of(one: str, indexed: _Indexed, settings: "Settings") -> "QueryFile":
    """Read apart, as every file that somebody else has written; an indexed one has to be what it was."""
    from radsearch.search import QueryFile

    point = _id_in(one)
    if point is None:
        return QueryFile(Path(one), settings, indexed.pseudonymizer)
    stored = indexed.points[point]
    frame = stored.payload.get("frame") or 1
    file = QueryFile(_path_of(stored, settings), settings, indexed.pseudonymizer, frame=frame)
    try:
        content = file.identity.content
    except (UnreadableImageError, OSError) as error:
        raise RadSearchError("the original is not where it was when it was indexed") from error
    if content != stored.payload.get("content"):
        raise RadSearchError("the original has changed since it was indexed")
    return file


def _path_of(stored: "Stored", settings: "Settings") -> Path:
    from radsearch.catalogue import catalogue_of

    catalogue = catalogue_of(settings)
    path = None if catalogue is None else catalogue.path_of(str(stored.payload.get("instance")))
    if path is None:
        raise NothingToSearchError(f"where the original of {stored.id} is has not been kept")
    return path


def _shown(file: "QueryFile") -> "Picture":
    try:
        return file.shown.rendered.picture
    except UnreadableImageError as error:
        raise RadSearchError(f"the file cannot be read: {error.reason}") from error
    except OSError as error:
        raise RadSearchError(f"the file cannot be opened: {error.strerror}") from error


def _embedder(name: str, held: "Fingerprint | None", settings: "Settings") -> "Embedder":
    """As the index has it, where one was asked for, so that the cosine is the search's."""
    from radsearch.errors import IndexMismatchError
    from radsearch.index.mismatch import made_otherwise
    from radsearch.models import find_model
    from radsearch.models.base import load_model

    embedder = load_model(
        find_model(name, settings.settings_folder),
        models_folder=settings.models_folder,
        device=settings.device,
        batch=1,
        precision="float32" if held is None else cast("Precision", held.precision),
        text_blanked=bool(settings.blank_text),
    )
    if held is not None and held.differences(embedder.fingerprint):
        raise IndexMismatchError(made_otherwise(settings.index, held, embedder.fingerprint))
    return embedder


def _print(found: "Compared", *, as_json: bool) -> None:
    print(json.dumps(_as_json(found)) if as_json else _as_text(found))  # noqa: T201 -- data goes to stdout


def _as_json(found: "Compared") -> dict[str, object]:
    return {
        "model": found.model,
        "cosine": round(found.cosine, 6),
        "of_patches": round(found.evidence.cosine, 6),
        "exact": found.is_exact,
        "base": found.base,
        "beside": [round(one, 6) for one in found.beside],
        "pairs": [
            {
                "share": round(pair.share, 6),
                "likeness": round(pair.likeness, 6),
                **{
                    name: [round(edge, 1) for edge in box]
                    for name, box in zip(("query", "hit"), found.boxes(pair), strict=True)
                },
            }
            for pair in found.evidence.pairs
        ],
    }


def _as_text(found: "Compared") -> str:
    lines = [f"{found.model}: cosine {found.cosine:.4f}"]
    if found.beside_exact:
        lines.append(found.beside_exact)
    rows: list[tuple[str, ...]] = [
        ("pair", "adds", "likeness", "query: left, top, right, bottom", "hit: left, top, right, bottom")
    ]
    for number, pair in enumerate(found.evidence.pairs, 1):
        boxes = (", ".join(f"{edge:.0f}" for edge in box) for box in found.boxes(pair))
        rows.append((str(number), f"{pair.share:.5f}", f"{pair.likeness:.3f}", *boxes))
    return "\n".join([*lines, table(rows)])
