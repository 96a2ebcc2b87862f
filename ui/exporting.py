"""A collection to take away: a table, a manifest as an ingest reads it, an archive of its pictures."""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence

from radsearch.study import Facts
from ui.escaping import as_cell
from ui.pictures import picture_of

# README.md has the manifest; `ingest --manifest` takes it together with the pictures of `archive_of`.
MANIFEST_COLUMNS = (
    "filepath", "patient", "modality", "region", "labels", "study", "series", "dataset", "split", "view", "sex", "age",
)  # fmt: skip
_PLAIN = ("patient", "study", "series", "dataset", "split", "view", "sex", "age")
_SUFFIXES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg"}


def table_of(facts: Mapping[str, Facts], notes: Mapping[str, str]) -> str:
    """CSV for a spreadsheet: a row an image that is still in the index."""
    columns = ("id", "modality", "region", "labels", *_PLAIN, "year", "note")
    rows = (
        {
            "id": point,
            "modality": one.labels.modality,
            "region": one.labels.region,
            "labels": ";".join(one.labels.pathology),
            **{name: getattr(one, name) for name in (*_PLAIN, "year")},
            "note": notes.get(point, ""),
        }
        for point, one in facts.items()
    )
    return _csv(columns, [{name: as_cell(_text(value)) for name, value in row.items()} for row in rows])


def manifest_of(facts: Mapping[str, Facts]) -> str:
    """CSV in the manifest's columns. The index holds no paths: `filepath` names the picture in `archive_of`.

    Patients, studies and series are the index's pseudonyms.
    """
    return _csv(
        MANIFEST_COLUMNS,
        [
            {
                "filepath": f"{point}.{_suffix(picture_of(one))}",
                "modality": _text(one.labels.modality),
                "region": _text(one.labels.region),
                "labels": ";".join(one.labels.pathology),
                **{name: _text(getattr(one, name)) for name in _PLAIN},
            }
            for point, one in facts.items()
        ],
    )


def archive_of(facts: Mapping[str, Facts]) -> bytes:
    """ZIP of the manifest and of the pictures that there are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.csv", manifest_of(facts))
        for point, one in facts.items():
            picture = picture_of(one)
            if picture is not None:
                archive.writestr(f"{point}.{_suffix(picture)}", picture)
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
