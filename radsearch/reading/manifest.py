"""The manifest: a CSV that says which files are taken and what they are, or of which images vectors were published."""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, TypeAlias

from radsearch.cells import from_cell
from radsearch.errors import ManifestError
from radsearch.reading.vocabulary import MODALITIES, SEXES, age_in_years
from radsearch.study import Facts, Labels

REQUIRED = ("filepath", "patient", "modality", "region", "labels")
KNOWN = (*REQUIRED, "study", "series", "dataset", "split", "view", "sex", "age")
_LARGEST_FIELD = 1 << 20  # characters
_LONGEST_LINE = 1 << 24
_MOST_COLUMNS = 1000

NamedBy: TypeAlias = Callable[[str, str, str], str]
"""Makes what stands for an identifier of its kind (patient, study or series), its data set and its value."""


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row: a file and what is said of it, or the reason why the row cannot be used.

    reason: one of a few fixed phrases. column: the one that is to blame, where it is one.
    """

    filepath: str
    facts: Facts = field(default_factory=Facts)
    reason: str | None = None
    column: str | None = None


def read_rows(manifest: Path, named_by: NamedBy, *, dataset: str | None, split: str | None) -> Iterator[ManifestRow]:
    """The rows of a manifest, one at a time.

    Args:
        manifest: the CSV file, UTF-8, first row the column names.
        named_by: makes what the facts hold for patient, study and series.
        dataset: taken where a row says none.
        split: likewise.

    Raises:
        ManifestError: the file is missing, is no UTF-8 CSV, or lacks a column.
    """
    csv.field_size_limit(_LARGEST_FIELD)
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(_lines(stream))
            columns = len(rows.fieldnames or ())
            if columns > _MOST_COLUMNS:
                raise ManifestError(f"the manifest {manifest} has {columns:,} columns; {_MOST_COLUMNS:,} are the most")
            absent = [name for name in REQUIRED if name not in (rows.fieldnames or ())]
            if absent:
                raise ManifestError(
                    f"the manifest {manifest} lacks the column{'s' * (len(absent) > 1)} {', '.join(absent)}; "
                    f"it needs {', '.join(REQUIRED)}"
                )
            for row in rows:
                yield _read_row(row, named_by, dataset=dataset, split=split)
    except OSError as error:
        raise ManifestError(f"the manifest {manifest} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"the manifest {manifest} is no UTF-8 CSV ({type(error).__name__})") from error


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines, none of which is ever held beyond a length that no manifest has. Raises csv.Error for a longer one."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise csv.Error
        yield line


def _read_row(
    row: Mapping[str | None, str | list[str] | None], named_by: NamedBy, *, dataset: str | None, split: str | None
) -> ManifestRow:
    cells = {name: value.strip() for name, value in row.items() if isinstance(name, str) and isinstance(value, str)}
    filepath = cells.get("filepath", "")  # as it is: a file's name may begin with an apostrophe
    cells = {name: from_cell(cell) for name, cell in cells.items()}
    if None in row or any(value is None for value in row.values()):
        return ManifestRow(filepath, reason="manifest row has another number of cells than the header")
    if not filepath or "\0" in filepath:
        return ManifestRow(filepath, reason="manifest row names no file", column="filepath")
    modality = cells["modality"].upper() or None
    if modality is not None and modality not in MODALITIES:
        return ManifestRow(filepath, reason="manifest row has an unknown modality", column="modality")
    if "/" in cells["region"]:  # a label path would have another one
        return ManifestRow(filepath, reason="manifest row has a region with a slash", column="region")
    return ManifestRow(filepath, _facts(cells, modality, named_by, dataset=dataset, split=split))


def _facts(
    cells: Mapping[str, str], modality: str | None, named_by: NamedBy, *, dataset: str | None, split: str | None
) -> Facts:
    said = {name: cells.get(name) or None for name in KNOWN}
    findings = tuple(dict.fromkeys(finding.strip() for finding in cells["labels"].split(";") if finding.strip()))
    scope = said["dataset"] or dataset or ""

    def name_of(kind: str) -> str | None:
        # Patient numbers of two data sets often overlap ("1", "2", ...): each data set has its own.
        return named_by(kind, scope, said[kind] or "") if said[kind] else None

    sex = (said["sex"] or "").upper()[:1]
    return Facts(
        labels=Labels(modality, (said["region"] or "").lower() or None, findings),
        patient=name_of("patient"),
        study=name_of("study"),
        series=name_of("series"),
        dataset=said["dataset"] or dataset,
        split=said["split"] or split,
        view=said["view"],
        sex=sex if sex in SEXES else None,
        age=age_in_years(said["age"] or ""),
        extra={name: value for name, value in cells.items() if name not in KNOWN and value},
    )
