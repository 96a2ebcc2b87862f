"""What lies in an inbox now: one walk over its folders, which opens no file."""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from radsearch.errors import SettingsError

_INDEX_CARD = "radsearch.json"  # a folder that holds it is an index of ours, as for `ingest.sources`
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".upload", ".download", "~")


@dataclass(frozen=True, slots=True)
class Trace:
    """What tells that a file has changed; by the clock of whoever wrote it, so only compared for equality."""

    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A regular file. path: from the inbox on. unfinished: by its name it is still being written."""

    path: str
    trace: Trace
    unfinished: bool

    @property
    def folder(self) -> str:
        """The folder that it lies in, from the inbox on."""
        return folder_of(self.path)


@dataclass(frozen=True, slots=True)
class Walk:
    """All regular files; links: how many were left alone. unreadable: folders that could not be looked into."""

    arrivals: tuple[Arrival, ...]
    links: int
    unreadable: int


def walk(inbox: Path, apart: Collection[str] = ()) -> Walk:
    """Go through an inbox; no link is followed, and no hidden folder entered.

    Args:
        inbox: an absolute path without links.
        apart: folders below it that are left out, from the inbox on.

    Raises:
        SettingsError: there is no such folder, or it cannot be read.
    """
    arrivals: list[Arrival] = []
    links = unreadable = 0
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(inbox / folder) as listed:
                entries = list(listed)
        except OSError as error:
            if not folder:
                raise SettingsError(f"the inbox {inbox} cannot be read ({error.strerror})") from error
            unreadable += 1
            continue
        if any(entry.name == _INDEX_CARD for entry in entries):
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)  # noqa: PTH118 -- as `folder_of`
            if entry.is_symlink():
                links += 1
            elif not entry.is_dir(follow_symlinks=False):
                arrivals += _arrived(path, entry)
            elif not entry.name.startswith(".") and path not in apart:
                pending.append(path)
    return Walk(tuple(arrivals), links, unreadable)


def folder_of(path: str) -> str:
    """The folder of a file or of a folder, from the inbox on."""
    return os.path.dirname(path)  # noqa: PTH120 -- a hundred thousand `Path`s take seconds


def trace_of(found: os.stat_result) -> Trace:
    """The trace of a file."""
    return Trace(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _arrived(path: str, entry: "os.DirEntry[str]") -> list[Arrival]:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return []  # it was renamed or taken away just now
    if not stat.S_ISREG(found.st_mode):
        return []
    unfinished = entry.name.startswith(".") or entry.name.lower().endswith(_UNFINISHED)
    return [Arrival(path, trace_of(found), unfinished)]
