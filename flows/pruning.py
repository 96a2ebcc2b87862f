"""What `maintain` may remove: its own old snapshots, and old runs of the evaluation; nothing else, whatever its name.

What is removed gets another name first, so that a kill leaves no half of it under its own.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from evaluation.history import ACCEPTED
from evaluation.protocols import PROTOCOLS
from evaluation.stored import METRICS
from radsearch.errors import RadSearchError
from radsearch.settings import Settings

_TIME = r"\d{8}-\d{6}"
_SNAPSHOT = re.compile(rf"{_TIME}-radsearch\.(tar|snapshot)")
_HALF_SNAPSHOT = re.compile(rf"\.{_SNAPSHOT.pattern}\.\d+")  # a kill left it: `radsearch.index.snapshots`
_RUN = re.compile(rf"{_TIME}-(?P<series>({'|'.join(map(re.escape, PROTOCOLS))})-.+)")  # `evaluation.running.folder_of`
_REMOVED = ".removed"
_HALF_SECONDS = 24 * 3600.0  # one as old is written by nobody any more


def snapshot_in(folder: Path, settings: Settings) -> Path:
    """A name for a snapshot of now."""
    ending = "snapshot" if settings.on_server else "tar"  # as the server's own, which only a server reads
    return folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-radsearch.{ending}"


def prune_snapshots(newest: Path, keep: int) -> int:
    """Remove snapshots beside one that was written just now, but for the last ones.

    Args:
        newest: stays in any case.
        keep: how many stay, with it.

    Returns:
        How many were removed.

    Raises:
        RadSearchError: one cannot be removed.
    """
    with _told(newest.parent):
        files = [entry for entry in os.scandir(newest.parent) if entry.is_file(follow_symlinks=False)]
        mine = [entry for entry in files if _SNAPSHOT.fullmatch(entry.name) and entry.name != newest.name]
        own = [entry.name for entry in sorted(mine, key=lambda entry: (entry.stat().st_mtime, entry.name))]
        old = own[: max(0, len(own) - (keep - 1))]
        abandoned = [
            entry.name
            for entry in files
            if _HALF_SNAPSHOT.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _HALF_SECONDS
        ]
        for name in [*old, *abandoned]:
            (newest.parent / name).unlink()
    return len(old)


def prune_runs(runs: Path, keep: int) -> int:
    """Remove the old runs of each model and protocol; an accepted one stays, and is not counted.

    Args:
        runs: the folder of the runs' folders; it need not be there yet.
        keep: how many stay, of each.

    Returns:
        How many were removed.

    Raises:
        RadSearchError: one cannot be removed.
    """
    with _told(runs):
        if not runs.is_dir():
            return 0
        by_series: dict[tuple[str, ...], list[Path]] = {}
        for folder in sorted(runs.iterdir()):
            _finish_removal(folder)
            named = _RUN.fullmatch(folder.name)
            if named and _is_run(folder) and not os.path.lexists(folder / ACCEPTED):
                by_series.setdefault(_series_of(folder) or (named["series"],), []).append(folder)
        old = [folder for folders in by_series.values() for folder in folders[: max(0, len(folders) - keep)]]
        for folder in old:
            removed = folder.with_name(f".{folder.name}{_REMOVED}")
            folder.rename(removed)
            shutil.rmtree(removed)
    return len(old)


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and (folder / METRICS).is_file()


def _series_of(folder: Path) -> tuple[str, ...]:
    """What a run is one of many of, as two models may share a folder's name; nothing where it cannot be read."""
    try:
        told = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return str(told["protocol"]), str(told["model"]["model"]), str(told["single_label"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()


def _finish_removal(folder: Path) -> None:
    """A kill came between the new name and the end."""
    name = folder.name
    if folder.is_symlink():
        return
    if name.startswith(".") and name.endswith(_REMOVED) and _RUN.fullmatch(name[1 : -len(_REMOVED)]):
        shutil.rmtree(folder)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RadSearchError(f"what is old in {folder} cannot be removed ({error.strerror})") from error
