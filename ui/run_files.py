"""Runs of an evaluation, read from their folder: the figures of many, and the report of one."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from radsearch.errors import SettingsError
from radsearch.plain_files import open_plain, read_plain

METRICS, REPORT, ACCEPTED = "metrics.json", "report.html", "accepted"
FACETS = ("label", "modality", "region", "dataset")
LARGEST_REPORT = 32_000_000  # bytes
_LARGEST = 64_000_000  # bytes of a metrics.json
_LARGEST_MARKER = 1 << 16  # bytes

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


class _Marker(_Form):
    """Of the file `accepted`, as evaluation/history.py has it."""

    when: AwareDatetime
    by: str
    protocol: str
    model: str
    single_label: bool


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run as the page shows it.

    made: in ISO 8601, UTC. images: of the index that was searched. micro, macro: metric -> mean. interval: 95 %, of
    P@1, where it is known. by: facet -> value -> (queries, P@1). contaminated: the model was trained on these images.
    accepted: later runs of the series are held to it (docs/evaluation.md). among: the runs of one index, where there
    are several folders of them.
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
    accepted: bool = False
    among: str = ""

    @property
    def when(self) -> str:
        """To the minute, in UTC."""
        return self.made[:16].replace("T", " ")

    @property
    def series(self) -> str:
        """What it may be compared with over time."""
        single = ", one finding" if self.single_label else ""
        return f"{self.model}, {self.protocol}{single}{self.among and ', '}{self.among}"


@dataclass(frozen=True, slots=True)
class Runs:
    """The newest first. damaged: folders that cannot be looked into, or whose `metrics.json` cannot be read."""

    runs: tuple[RunFigures, ...] = ()
    damaged: int = 0


def read_runs(folder: Path, *, names: bool = False) -> Runs:
    """The runs of a folder, and of the folders in it, each of which holds those of one index.

    Args:
        folder: of the runs.
        names: whether the names of those folders may be shown; else they are numbered.

    Raises:
        SettingsError: it cannot be read. A folder that is not there yet has none.
    """
    try:
        read = [None if one is None else _read(*one) for one in _metrics_in(folder, depth=2)]
    except FileNotFoundError:
        return Runs()
    except OSError as error:
        raise SettingsError(f"the folder of RADSEARCH_RUNS cannot be read ({error.strerror})") from error
    sound = [one for one in read if one is not None]
    sound.sort(key=lambda run: (run.made, run.folder.name), reverse=True)
    return Runs(tuple(_with_accepted(_told_apart(sound, folder, names=names))), len(read) - len(sound))


def _metrics_in(folder: Path, *, depth: int) -> list[tuple[str, int, int] | None]:
    """Path, time of change (ns) and size of each `metrics.json`; None for a folder that cannot be looked into."""
    with os.scandir(folder) as entries:
        seen = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    return [one for entry in seen for one in _metrics_of(entry, depth=depth)]


def _metrics_of(entry: "os.DirEntry[str]", *, depth: int) -> list[tuple[str, int, int] | None]:
    try:
        if not entry.is_dir():
            return []
        file = Path(entry.path) / METRICS
        try:
            stat = file.stat()
        except FileNotFoundError:
            return _metrics_in(Path(entry.path), depth=depth - 1) if depth > 1 else []
        return [(str(file), stat.st_mtime_ns, stat.st_size)]
    except FileNotFoundError:  # it was removed meanwhile
        return []
    except OSError:
        return [None]


def _told_apart(runs: Sequence[RunFigures], folder: Path, *, names: bool) -> list[RunFigures]:
    """The runs with the index they are of in their series."""
    parents = sorted({run.folder.parent for run in runs} - {folder})
    words = {parent: str(parent.relative_to(folder)) if names else f"folder {n}" for n, parent in enumerate(parents, 1)}
    several = len({run.folder.parent for run in runs}) > 1
    return [replace(run, among=words.get(run.folder.parent, "") if several else "") for run in runs]


def _with_accepted(runs: Sequence[RunFigures]) -> Iterator[RunFigures]:
    """Of a series the run that was accepted last is the accepted one."""
    last: dict[str, tuple[datetime, Path]] = {}
    for run in runs:
        when = _accepted_when(run)
        if when is not None and (run.series not in last or when > last[run.series][0]):
            last[run.series] = when, run.folder
    for run in runs:
        yield replace(run, accepted=run.series in last and last[run.series][1] == run.folder)


def _accepted_when(run: RunFigures) -> datetime | None:
    """Since when; None where there is no marker, or one of another run."""
    try:
        with open_plain(run.folder / ACCEPTED) as stream:
            marker = _Marker.model_validate_json(stream.read(_LARGEST_MARKER))
    except (OSError, ValueError):
        return None
    same = (marker.protocol, marker.model, marker.single_label) == (run.protocol, run.model, run.single_label)
    return marker.when if same else None


def _read(path: str, changed: int, size: int) -> RunFigures | None:
    try:
        return run_of(path, changed, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def run_of(path: str, changed: int, size: int) -> RunFigures | None:  # noqa: ARG001 -- `changed` is what it is kept by
    """The figures of a run; None where it is damaged. It is read anew where its time or size is another.

    Raises:
        OSError: it cannot be read now, which is not kept.
    """
    if size > _LARGEST:
        return None
    try:
        told = _Run.model_validate_json(read_plain(path))
        made = told.made.astimezone(UTC).isoformat(timespec="seconds")
    except (ValidationError, OverflowError, ValueError):
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
        return read_plain(file).decode("utf-8", "replace")
    except OSError as error:
        raise SettingsError(f"the run has no report that can be read ({error.strerror})") from error


def report_to_take(folder: Path) -> bytes:
    """A run's HTML report of any size; a page that says so where it cannot be read (any more)."""
    try:
        return read_plain(folder / REPORT)
    except OSError as error:
        return f"<!doctype html><title>no report</title><p>The report cannot be read ({error.strerror}).".encode()
