"""Reports of ingests, read from their folder: the figures of many of them, and the refused files of one.

A report names every file and may be as long as an archive, but its figures come first (docs/page.md has the form): a
list reads the beginnings, and each only when it has changed.
"""

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radsearch.errors import SettingsError
from radsearch.plain_files import open_plain

MOST_REPORTS = 100
MOST_NAMES = 500
_LONGEST_FIGURES = 1 << 20  # bytes before the first file
_LARGEST = 256_000_000  # bytes
_FILES = b'"files": ['

Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model: str = "none"


class _Figures(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    found: Count
    indexed: Count
    unchanged: Count
    skipped: dict[str, Count]
    refused: dict[str, Count]
    images: Count = 0
    seconds: Annotated[float, Field(ge=0)]
    images_per_second: Annotated[float, Field(ge=0)]
    model: _Model
    models: list[_Model] = []


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one ingest. when: seconds since the epoch. skipped, refused: files by reason, most first."""

    file: Path
    when: float
    models: tuple[str, ...]
    found: int
    indexed: int
    unchanged: int
    skipped: Mapping[str, int]
    refused: Mapping[str, int]
    images: int
    seconds: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Reports:
    """The newest first. older: beyond those. foreign: files that are no report, are damaged or cannot be read."""

    reports: tuple[Report, ...] = ()
    older: int = 0
    foreign: int = 0


def read_reports(folder: Path) -> Reports:
    """The reports of a folder.

    Raises:
        SettingsError: it cannot be read. A folder that is not there yet has none.
    """
    try:
        seen = _files(folder)
    except FileNotFoundError:
        return Reports()
    except OSError as error:
        raise SettingsError(f"the folder of RADSEARCH_REPORTS cannot be read ({error.strerror})") from error
    found = sorted((one for one in seen if one is not None), reverse=True)
    read = [_read(path, changed, size) for changed, path, size in found[:MOST_REPORTS]]
    sound = tuple(one for one in read if one is not None)
    return Reports(sound, max(0, len(found) - MOST_REPORTS), len(read) - len(sound) + seen.count(None))


def _files(folder: Path) -> list[tuple[int, str, int] | None]:
    """Time of change (ns), path and size; None for what cannot be looked at."""
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]
    return [one for entry in seen for one in _looked_at(entry)]


def _looked_at(entry: "os.DirEntry[str]") -> list[tuple[int, str, int] | None]:
    try:
        if not entry.is_file():
            return []
        stat = entry.stat()
    except FileNotFoundError:  # it was removed meanwhile
        return []
    except OSError:
        return [None]
    return [(stat.st_mtime_ns, entry.path, stat.st_size)]


def _read(path: str, changed: int, size: int) -> Report | None:
    try:
        return report_of(path, changed, size)
    except OSError:
        return None


@lru_cache(maxsize=4 * MOST_REPORTS)
def report_of(path: str, changed: int, size: int) -> Report | None:
    """The figures of a report; None of what is none. It is read anew where its time (in ns) or size is another.

    Raises:
        OSError: it cannot be read now, which is not kept.
    """
    try:
        with open_plain(path) as stream:
            told = _Figures.model_validate_json(_figures_in(stream.read(_LONGEST_FIGURES), whole=size))
    except ValidationError:
        return None
    if told.found != told.indexed + told.unchanged + sum(told.skipped.values()) + sum(told.refused.values()):
        return None
    models = tuple(dict.fromkeys(one.model for one in told.models or [told.model]))
    return Report(
        Path(path), changed / 1e9, models, told.found, told.indexed, told.unchanged, _most_first(told.skipped),
        _most_first(told.refused), told.images, told.seconds, told.images_per_second,
    )  # fmt: skip


def _figures_in(beginning: bytes, *, whole: int) -> bytes:
    """What stands before the files, as an object of its own; a short report that is written otherwise as it is."""
    figures, files, _ = beginning.partition(_FILES)
    if files:
        return figures.rstrip().removesuffix(b",") + b"}"
    return beginning if whole <= len(beginning) else b""


def _most_first(reasons: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(reasons.items(), key=lambda one: (-one[1], one[0])))


def refused_files(report: Report) -> list[tuple[str, str]]:
    """Name and reason of the refused files, the first of them where there are many.

    Raises:
        SettingsError: the report is too large to be gone through, is gone, or has another form than ours.
    """
    names: list[tuple[str, str]] = []
    try:
        if report.file.stat().st_size > _LARGEST:
            raise SettingsError(f"the report is larger than {_LARGEST // 1_000_000} MB: its files are not shown here")
        with io.TextIOWrapper(open_plain(report.file), encoding="utf-8") as stream:
            for line in stream:
                if '"outcome": "refused"' in line and len(names) < MOST_NAMES:
                    entry = json.loads(line.strip().removesuffix(","))
                    names.append((_plain(entry["file"]), _plain(entry["reason"])))
    except OSError as error:
        raise SettingsError(f"the report cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError("the report's list of files is damaged") from error
    return names


def _plain(told: object) -> str:
    """Half a character, as of a name that is no text, cannot be shown."""
    return str(told).encode("utf-8", "backslashreplace").decode()
