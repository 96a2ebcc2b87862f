"""A collection to take away: a table, a manifest as an ingest reads it, an archive of its pictures."""

import csv
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence

from radsearch.audit import Audit
from radsearch.cells import as_cell
from ui.cards import Shown
from ui.pictures import picture_of

# README.md has the manifest; `ingest --manifest` takes it together with the pictures of `archive_of`.
MANIFEST_COLUMNS = (
    "filepath", "patient", "modality", "region", "labels", "study", "series", "dataset", "split", "view", "sex", "age",
)  # fmt: skip
_PLAIN = ("patient", "study", "series", "dataset", "split", "view", "sex", "age")
_SUFFIXES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg"}


def noted(
    make: Callable[[], str | bytes], audit: Audit, require: Callable[[], None], *, what: str, ids: Sequence[str]
) -> Callable[[], str | bytes]:
    """The same, with a line in the audit before anything is made; it may be called outside of a run of the page.

    Args:
        make: gives the file.
        audit: of who takes it.
        require: raises where he may not any more.
        what: he takes.
        ids: of the images that are in it.
    """

    def take() -> str | bytes:
        require()
        audit.note("export", what=what, ids=ids)
        return make()

    return take


def table_of(images: Sequence[Shown], notes: Mapping[str, str]) -> str:
    """CSV for a spreadsheet: a row an image that is still in the index."""
    columns = ("id", "modality", "region", "labels", *_PLAIN, "year", "note")
    rows = (
        {
            "id": image.id,
            "modality": image.facts.labels.modality,
            "region": image.facts.labels.region,
            "labels": ";".join(image.facts.labels.pathology),
            **{name: getattr(image.facts, name) for name in (*_PLAIN, "year")},
            "note": notes.get(image.id, ""),
        }
        for image in images
    )
    return _csv(columns, [{name: as_cell(_text(value)) for name, value in row.items()} for row in rows])


def manifest_of(images: Sequence[Shown]) -> str:
    """CSV in the manifest's columns. The index holds no paths: `filepath` names the picture in `archive_of`.

    Patients, studies and series are the index's pseudonyms. What would be a formula is quoted, as an ingest knows.
    """
    return _csv(
        MANIFEST_COLUMNS,
        [
            {
                "filepath": f"{image.id}.{_suffix(picture_of(image.thumbnail))}",
                "modality": as_cell(_text(image.facts.labels.modality)),
                "region": as_cell(_text(image.facts.labels.region)),
                "labels": as_cell(";".join(image.facts.labels.pathology)),
                **{name: as_cell(_text(getattr(image.facts, name))) for name in _PLAIN},
            }
            for image in images
        ],
    )


def archive_of(images: Sequence[Shown]) -> bytes:
    """ZIP of the manifest and of the pictures that there are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.csv", manifest_of(images))
        for image in images:
            picture = picture_of(image.thumbnail)
            if picture is not None:
                archive.writestr(f"{image.id}.{_suffix(picture)}", picture)
    return stream.getvalue()


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _suffix(picture: bytes | None) -> str:
    named = (name for start, name in _SUFFIXES.items() if picture is not None and picture.startswith(start))
    return next(named, "webp")
