"""The queries of a run that fail, read from its `queries.csv`."""

import csv
import heapq
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from radsearch.cells import from_cell
from radsearch.errors import SettingsError
from radsearch.plain_files import open_plain

QUERIES = "queries.csv"
MOST_MISSES = 960
_LARGEST = 512_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Miss:
    """A query whose nearest neighbour was wrong. classes: its own. found: those of the nearest image."""

    id: str
    classes: tuple[str, ...]
    nearest: str
    found: tuple[str, ...]
    average_precision: float


@dataclass(frozen=True, slots=True)
class Misses:
    """Those of a run, the worst by mAP@10 first. number: of all of them; at most MOST_MISSES are kept."""

    misses: tuple[Miss, ...]
    number: int


def read_misses(folder: Path) -> Misses:
    """The queries of a run with P@1 = 0.

    Raises:
        SettingsError: its `queries.csv` is not there, is damaged, or is too large to be gone through.
    """
    file = folder / QUERIES
    try:
        stat = file.stat()
        if stat.st_size > _LARGEST:
            size = f"{_LARGEST // 1_000_000} MB"
            raise SettingsError(f"the run's {QUERIES} is larger than {size}: its queries are not shown here")
        return _misses(str(file), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise SettingsError(f"the run's {QUERIES} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, csv.Error) as error:
        raise SettingsError(f"the run's {QUERIES} is damaged") from error


@lru_cache(maxsize=8)
def _misses(path: str, changed: int, size: int) -> Misses:  # noqa: ARG001 -- what it is kept by
    number = 0

    def wrong(rows: "csv.DictReader[str]") -> Iterator[tuple[float, int, dict[str, Any]]]:
        nonlocal number
        for place, row in enumerate(rows):
            if float(row["P@1"]) == 0:
                number += 1
                yield float(row["mAP@10"]), place, row

    with io.TextIOWrapper(open_plain(path), encoding="utf-8", newline="") as stream:
        worst = heapq.nsmallest(MOST_MISSES, wrong(csv.DictReader(stream)), key=lambda one: one[:2])
    return Misses(tuple(_miss(row, precision) for precision, _, row in worst), number)


def _miss(row: Mapping[str, Any], precision: float) -> Miss:
    nearest, found = json.loads(row["nearest"]), json.loads(row["nearest_classes"])
    return Miss(
        from_cell(str(row["id"])), _words(json.loads(row["classes"])), str(nearest[0]) if nearest else "",
        _words(found[0]) if found else (), precision,
    )  # fmt: skip


def _words(several: Any) -> tuple[str, ...]:
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise TypeError("no list of words")
    "".join(several).encode()  # half a character cannot be shown
    return tuple(several)
