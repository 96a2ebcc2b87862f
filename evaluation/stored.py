"""A run as it lies on the disk, read back: its files, and whether they are all there and hold what they should."""

import csv
import io
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.contract import check_metrics
from radsearch.cells import from_cell
from radsearch.errors import SettingsError
from radsearch.plain_files import open_plain, read_plain

METRICS, QUERIES, SUMMARY, REPORT = "metrics.json", "queries.csv", "summary.txt", "report.html"
# Columns of the queries; the others are metrics.
KNOWN = ("id", "group", "classes", "modality", "region", "dataset", "nearest", "nearest_classes")
_NEEDED = frozenset({"P@1", "P@10", "mAP@10"})  # by reports and comparisons
_LARGEST_FIELD = 1 << 27  # characters: ten names of files, each as long as a manifest's cell may be


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run that was read back.

    metrics: the contract's object. ids: (queries,) of the queries. groups: (queries,) numbers that tell patients apart,
    within this run. classes: of each query. values: metric -> (queries,). nearest: ids of its ten first neighbours.
    found: classes of the first five of these.
    """

    folder: Path
    metrics: Mapping[str, Any]
    ids: Sequence[str]
    groups: Sequence[str]
    classes: Sequence[tuple[str, ...]]
    values: Mapping[str, "np.ndarray"]
    nearest: Sequence[tuple[str, ...]]
    found: Sequence[tuple[tuple[str, ...], ...]]


def read_run(folder: Path) -> Run:
    """A run that was written before.

    Raises:
        SettingsError: there is none, or it is damaged.
    """
    try:
        told = json.loads(read_plain(folder / METRICS).decode(), parse_constant=_no_number)
        json.dumps(told, ensure_ascii=False).encode()  # half a character can be neither printed nor drawn
        check_metrics(told, _NEEDED)
        columns = _read_queries(folder / QUERIES, list(told["micro"]), told["queries"])
    except OSError as error:
        raise SettingsError(f"{folder} holds no run of an evaluation ({error.strerror})") from error
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise SettingsError(f"the run in {folder} is damaged ({type(error).__name__})") from error
    values = {name: np.array(of_query) for name, of_query in columns.values.items()}
    return Run(folder, told, columns.ids, columns.groups, columns.classes, values, columns.nearest, columns.found)


@dataclass(slots=True)
class _Columns:
    values: dict[str, "array[float]"]
    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    classes: list[tuple[str, ...]] = field(default_factory=list)
    nearest: list[tuple[str, ...]] = field(default_factory=list)
    found: list[tuple[tuple[str, ...], ...]] = field(default_factory=list)


def _read_queries(file: Path, metrics: Sequence[str], queries: int) -> _Columns:
    """The queries, row by row: of words that come again one copy is kept.

    Raises:
        ValueError or TypeError: a row is not all there, or holds something else.
    """
    csv.field_size_limit(_LARGEST_FIELD)
    columns = _Columns({name: array("d") for name in metrics})
    words: dict[Any, Any] = {}
    with io.TextIOWrapper(open_plain(file), encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if set(row) != {*KNOWN, *metrics} or None in row.values():
                raise ValueError("another number of cells")
            for name, of_query in columns.values.items():
                of_query.append(_part_of_one(row[name]))
            several = [_words(json.loads(row[name]), words) for name in ("classes", "nearest")]
            found = tuple(_words(one, words) for one in json.loads(row["nearest_classes"]))
            if not several[0] or not all(found) or len(found) > len(several[1]):
                raise ValueError("a query or a neighbour without a class, or classes of no neighbour")
            point = from_cell(row["id"])
            columns.ids.append(words.setdefault(point, point))
            columns.groups.append(words.setdefault(row["group"], row["group"]))
            columns.classes.append(several[0])
            columns.nearest.append(several[1])
            columns.found.append(words.setdefault(found, found))
    if not len(columns.ids) == len(set(columns.ids)) == queries:
        raise ValueError("another number of queries, or one of them twice")
    return columns


def _words(several: Any, known: dict[Any, Any]) -> tuple[str, ...]:
    if not isinstance(several, list) or not all(isinstance(word, str) for word in several):
        raise TypeError("no list of words")
    "".join(several).encode()  # half a character can be neither printed nor drawn
    kept = tuple(known.setdefault(word, word) for word in several)
    return known.setdefault(kept, kept)  # type: ignore[no-any-return]  # it is the same tuple, or one that equals it


def _part_of_one(cell: str) -> float:
    value = float(cell)
    if not 0 <= value <= 1:
        raise ValueError("a value that is none")
    return value


def _no_number(constant: str) -> float:
    raise ValueError(constant)
