"""The official tables of a data set, plain or gzipped: found, opened, and held to their columns."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evaluation.datasets.records import DatasetError
from radsearch.reading.vocabulary import SEXES, age_in_years

_OLDEST = 130  # NIH's table of 2017 holds ages such as 414Y, typing errors


def find_file(folders: Sequence[Path], names: Sequence[str], source: str) -> Path:
    """The first of these files that is there, also under its name with .gz.

    Raises:
        DatasetError: none is there; says which was looked for, in the first folder, and where to get it (`source`).
    """
    for folder in folders:
        for name in names:
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
    raise DatasetError(f"there is no {' or '.join(names)} (nor .gz) in {folders[0]}; get it from {source}")


def rows_of(table: Path, columns: Sequence[str], source: str) -> Iterator[Mapping[str, str]]:
    """The rows of a CSV file, one at a time, cells stripped.

    Args:
        table: UTF-8, gzipped where its name ends in .gz; first row the column names.
        columns: those that it has to have.
        source: where to get it, for the error.

    Raises:
        DatasetError: a column is missing, or the file is damaged.
    """
    opened = gzip.open if table.suffix == ".gz" else open
    try:
        with opened(table, "rt", encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            absent = [name for name in columns if name not in header]
            if absent:
                raise DatasetError(
                    f"{table} lacks the column{'s' * (len(absent) > 1)} {', '.join(absent)}; {_again(source)}"
                )
            for cells in reader:
                if cells:
                    yield _row(header, cells, f"line {reader.line_num} of {table}", source)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} cannot be read as CSV ({type(error).__name__}); {_again(source)}") from error


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a list of files, stripped, without the empty ones.

    Raises:
        DatasetError: the file cannot be read as UTF-8.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as stream:
            yield from (line.strip() for line in stream if line.strip())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({type(error).__name__})") from error


def sex_of(text: str) -> str:
    """M, F, O or nothing."""
    letter = text.upper()[:1]
    return letter if letter in SEXES else ""


def age_of(text: str) -> int | None:
    """Years of `57`, `057Y` or `010M`; None where nobody lives so long."""
    years = re.fullmatch(r"(\d{1,3})(?:\.\d+)?Y?", text.upper())
    return None if years and int(years[1]) > _OLDEST else age_in_years(text)


def _row(header: Sequence[str], cells: Sequence[str], where: str, source: str) -> Mapping[str, str]:
    # The last cell may be an empty one too many (NIH's table of 2017 ends its lines with a comma); anything else that
    # does not fit the header would put labels under the wrong names.
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        raise DatasetError(f"{where} has another number of cells than the header; {_again(source)}")
    return {name: cell.strip() for name, cell in zip(header, cells, strict=False)}


def _again(source: str) -> str:
    return f"get the official file from {source}"
