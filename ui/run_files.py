"""Runs of an evaluation, read from their folder: the figures of many, and of one the queries that fail."""

import csv
import heapq
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from radsearch.errors import SettingsError

METRICS, QUERIES, REPORT, ACCEPTED = "metrics.json", "queries.csv", "report.html", "accepted"
FACETS = ("label", "modality", "region", "dataset")
MOST_MISSES = 960
LARGEST_REPORT = 32_000_000  # bytes
_LARGEST = 64_000_000  # bytes of a metrics.json

Count = Annotated[int, Field(ge=0)]
Part = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[list[Part], Field(min_length=2, max_length=2)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Model(_Form):
    model: str = "unknown"


class _One(_Form):
    p1: Part = Field(alias="P@1")


class _Group(_One):
    queries: Count


class _Run(_Form):
    """Of the contract what is shown here."""

    protocol: str
    single_label: bool
    model: _Model
    queries: Annotated[int, Field(ge=1)]
    index: Annotated[int, Field(ge=1)]
    classes: Count
    micro: dict[str, Part]
    macro: dict[str, Part]
    chance: _One
    interval: dict[str, Bounds]
    by: dict[str, dict[str, _Group]]
    contaminated: list[str] | None = None
    made: AwareDatetime


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run as the page shows it.

    made: in ISO 8601, UTC. images: of the index that was searched. micro, macro: metric -> mean. interval: 95 %, of
    P@1, where it is known. by: facet -> value -> (queries, P@1). contaminated: the model was trained on these images.
    """

    folder: Path
    model: str
    protocol: str
    single_label: bool
    made: str
    queries: int
    images: int
    classes: int
    micro: Mapping[str, float]
    macro: Mapping[str, float]
    interval: tuple[float, float] | None
    chance: float
    by: Mapping[str, Mapping[str, tuple[int, float]]]
    contaminated: bool

    @property
    def when(self) -> str:
        """To the minute, in UTC."""
        return self.made[:16].replace("T", " ")

    @property
    def series(self) -> str:
        """What it may be compared with over time."""
        single = ", one finding" if self.single_label else ""
        return f"{self.model}, {self.protocol}{single}"

    @property
    def accepted(self) -> bool:
        """Whether later runs are held to it (docs/evaluation.md)."""
        return (self.folder / ACCEPTED).is_file()


@dataclass(frozen=True, slots=True)
class Runs:
    """The newest first. damaged: folders whose `metrics.json` cannot be read."""

    runs: tuple[RunFigures, ...] = ()
    damaged: int = 0


def read_runs(folder: Path) -> Runs:
    """The runs of a folder, and of the folders in it.

    Raises:
        SettingsError: it cannot be read. A folder that is not there yet has none.
    """
    try:
        read = [run_of(*one) for one in _metrics_in(folder, depth=2)]
    except FileNotFoundError:
        return Runs()
    except OSError as error:
        raise SettingsError(f"the folder of RADSEARCH_RUNS cannot be read ({error.strerror})") from error
    sound = [one for one in read if one is not None]
    sound.sort(key=lambda run: (run.made, run.folder.name), reverse=True)
    return Runs(tuple(sound), len(read) - len(sound))


def _metrics_in(folder: Path, *, depth: int) -> Iterator[tuple[str, int, int]]:
    """Path, time of change (ns) and size of each `metrics.json`."""
    with os.scandir(folder) as entries:
        folders = sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    for path in folders:
        file = Path(path) / METRICS
        try:
            stat = file.stat()
        except OSError:
            if depth > 1 and os.access(path, os.R_OK | os.X_OK):
                yield from _metrics_in(Path(path), depth=depth - 1)
        else:
            yield str(file), stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4096)
def run_of(path: str, changed: int, size: int) -> RunFigures | None:  # noqa: ARG001 -- `changed` is what it is kept by
    """The figures of a run; None where it is damaged. It is read anew where its time or size is another."""
    if size > _LARGEST:
        return None
    try:
        told = _Run.model_validate_json(Path(path).read_bytes())
        made = told.made.astimezone(UTC).isoformat(timespec="seconds")
    except (OSError, ValidationError, OverflowError, ValueError):
        return None
    if not {"P@1", "P@5", "P@10", "mAP@10"} <= set(told.micro) or "P@1" not in told.macro:
        return None
    bounds = told.interval.get("P@1")
    by = {facet: {value: (one.queries, one.p1) for value, one in told.by.get(facet, {}).items()} for facet in FACETS}
    return RunFigures(
        Path(path).parent, told.model.model, told.protocol, told.single_label, made, told.queries, told.index,
        told.classes, told.micro, told.macro, (bounds[0], bounds[1]) if bounds else None, told.chance.p1, by,
        bool(told.contaminated),
    )  # fmt: skip


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
        SettingsError: its `queries.csv` is not there, or is damaged.
    """
    file = folder / QUERIES
    try:
        stat = file.stat()
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

    with Path(path).open(encoding="utf-8", newline="") as stream:
        worst = heapq.nsmallest(MOST_MISSES, wrong(csv.DictReader(stream)), key=lambda one: one[:2])
    return Misses(tuple(_miss(row, precision) for precision, _, row in worst), number)


def _miss(row: Mapping[str, Any], precision: float) -> Miss:
    nearest, found = json.loads(row["nearest"]), json.loads(row["nearest_classes"])
    return Miss(
        str(row["id"]), _words(json.loads(row["classes"])), str(nearest[0]) if nearest else "",
        _words(found[0]) if found else (), precision,
    )  # fmt: skip


def _words(several: Any) -> tuple[str, ...]:
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise TypeError("no list of words")
    "".join(several).encode()  # half a character cannot be shown
    return tuple(several)


def read_report(folder: Path) -> str:
    """A run's HTML report.

    Raises:
        SettingsError: there is none, or it is too large to be shown.
    """
    file = folder / REPORT
    try:
        if file.stat().st_size > LARGEST_REPORT:
            raise SettingsError(
                f"the report is larger than {LARGEST_REPORT // 1_000_000} MB: it can be downloaded only"
            )
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SettingsError(f"the run has no report that can be read ({error.strerror})") from error
