"""An inbox: take what has come to rest, remember what became of it, and move it away.

A series is what one folder holds directly, as senders write it. It has come to rest when nothing in the folder has
come, gone or changed between two looks that lie the quiet time apart, by this machine's clock alone: neither another
machine's clock nor a preserved old time makes a half-sent series look whole. In a folder that is never quiet (a
modality sends into one all day) a file is taken that has been at rest ten times as long.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.arrivals import Walk, folder_of, trace_of, walk
from ingest.moving import move
from ingest.remembering import REFUSED, TAKEN, WAITS, Memory, said
from radsearch.catalogue import Catalogue
from radsearch.errors import SettingsError

_STATE = ".radsearch-inbox"
_PLACES_AT_ONCE = 64
_REFUSED_FOLDER = "refused"  # below that of files which are done
_MAY_PASS = ("file cannot be read", "file cannot be reached", "file is missing")  # how such reasons begin
_FOR_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Outcomes = Iterable[tuple[str, str, str | None]]  # name, outcome and reason, as `Accounts.files` and a report give them


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit came to, in numbers only: names of files may tell who a patient is.

    series: that were taken. settled: files by what became of them. moved: files that were moved away. kept: how many
    could not be, by reason. waiting, unfinished: files that were left, for their time or for their names.
    """

    series: int
    settled: Mapping[str, int]
    moved: int
    kept: Mapping[str, int]
    waiting: int
    unfinished: int
    found: Walk

    def line(self) -> str:
        """In a few words."""
        refused = f", {self.settled[REFUSED]} files refused" if self.settled.get(REFUSED) else ""
        kept = "".join(f"; {number} could not be moved away ({reason})" for reason, number in self.kept.items())
        return f"{self.series} series taken{refused}, {self.waiting} files wait{kept}"

    def rows(self) -> list[dict[str, str | int]]:
        """All numbers, as a table."""
        numbers = {
            "series taken": self.series,
            "files taken": self.settled.get(TAKEN, 0),
            "files refused": self.settled.get(REFUSED, 0),
            "files to be tried again": self.settled.get(WAITS, 0),
            "files moved away": self.moved,
            "files that could not be moved away": sum(self.kept.values()),
            "files that wait": self.waiting,
            "files that are unfinished by their names": self.unfinished,
            "links left alone": self.found.links,
            "folders that cannot be read": self.found.unreadable,
        }
        return [{"what": what, "number": number} for what, number in numbers.items()]


@dataclass(frozen=True, slots=True)
class Inbox:
    """A folder that is held, by `hold`.

    folder: an absolute path without links. state: the folder of its memory. done: where files go; None where they stay.
    catalogue: knows where they went.
    """

    folder: Path
    state: Path
    done: Path | None
    memory: Memory
    catalogue: Catalogue | None = None

    def visit(
        self,
        quiet_seconds: float,
        ingest: Callable[[frozenset[str]], Outcomes],
        *,
        clock: Callable[[], float] = time.time,
    ) -> Visit:
        """Look, have ingested what has come to rest, remember what became of it, move it away.

        Args:
            quiet_seconds: how long a series has to be at rest.
            ingest: gets names as a report has them, where there are any, and gives what became of them. What it raises
                goes on to the caller; the files stay for the next visit.
            clock: seconds since 1970.

        Raises:
            RadSearchError: the inbox cannot be read, or its state not be written.
        """
        now = clock()
        apart = {os.path.relpath(path, self.folder) for path in (self.done, self.state) if path is not None}
        found = walk(self.folder, apart)
        emptied = self.memory.note(found.arrivals, now)
        paths = {_shown(path): path for path in self.memory.at_rest(now, quiet_seconds)}
        outcomes = ingest(frozenset(paths)) if paths else ()
        settled = self.memory.settle(
            (paths[name], _became(outcome, reason)) for name, outcome, reason in outcomes if name in paths
        )
        moved, kept = self._clear(emptied)
        waiting, unfinished = self.memory.waiting()
        return Visit(len(set(map(folder_of, paths.values()))), settled, moved, kept, waiting, unfinished, found)

    def _clear(self, emptied: set[str]) -> tuple[int, Mapping[str, int]]:
        """Move what is settled to `done`, and remove the folders that this leaves empty."""
        moved: list[str] = []
        places: dict[Path, Path] = {}
        kept: Counter[str] = Counter()
        for path, trace, outcome in self.memory.settled() if self.done else ():
            source = self.folder / path
            try:
                if trace_of(source.lstat()) == trace:  # else it was sent again: the next look will find that
                    places[source] = move(source, self._place_of(path, outcome))
                    moved.append(path)
                    if len(places) >= _PLACES_AT_ONCE:
                        self._follow(places)
            except FileNotFoundError:
                continue
            except OSError as error:
                kept[error.strerror or type(error).__name__] += 1
                if error.errno in _FOR_ALL:
                    break
        if self.done:
            self._tidy(emptied | set(map(folder_of, moved)))
        self._follow(places)
        self.memory.forget(moved)
        return len(moved), kept

    def _follow(self, places: dict[Path, Path]) -> None:
        """A kill loses the way to the last few files at most."""
        if self.catalogue is not None:
            self.catalogue.moved(places)
        places.clear()

    def _place_of(self, path: str, outcome: str) -> Path:
        assert self.done is not None  # noqa: S101 -- only asked for where files go somewhere
        return self.done / _REFUSED_FOLDER / path if outcome == REFUSED else self.done / path

    def _tidy(self, folders: set[str]) -> None:
        for folder in sorted(folders, reverse=True):
            empty = folder
            with contextlib.suppress(OSError):  # it is not empty, or gone
                while empty:
                    (self.folder / empty).rmdir()
                    empty = folder_of(empty)


@contextmanager
def hold(
    folder: Path, *, done: Path | None = None, state: Path | None = None, catalogue: Catalogue | None = None
) -> Iterator[Inbox | None]:
    """The inbox, for one run at a time; None where another one has it.

    Args:
        folder: the inbox.
        done: where files go that were taken, to the same place below it, and refused ones to the same place below its
            `refused`. None where they stay: they are remembered then, and taken again when they change.
        state: a folder for what is remembered, of this inbox alone. It is `.radsearch-inbox` in the inbox where none is
            given, as the next run may be another machine's.
        catalogue: is told where files go.

    Raises:
        SettingsError: there is no such folder, or these cannot be used together.
        RadSearchError: the state cannot be written.
    """
    try:
        there = folder.is_dir()
    except OSError as error:
        raise SettingsError(f"the inbox {folder} cannot be read ({error.strerror})") from error
    if not there:
        raise SettingsError(f"there is no inbox {folder}")
    root = folder.resolve()
    target = None if done is None else done.resolve()
    if target is not None and (root.is_relative_to(target) or _is_one_of(target, root)):
        raise SettingsError(f"done files cannot go to {done}: that is the inbox, or holds it")
    place = (state or root / _STATE).resolve()
    if root.is_relative_to(place) or _is_one_of(place, root):
        raise SettingsError(f"the inbox's state cannot be in {state}: that is the inbox, or holds it")
    with said(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(lock, place):
            yield None
            return
        with Memory(place) as memory:
            yield Inbox(root, place, target, memory, catalogue)
    finally:
        os.close(lock)


def _is_one_of(folder: Path, root: Path) -> bool:
    """Whether a folder is the root by another path, as a second mount has it."""
    with contextlib.suppress(OSError):
        return folder.samefile(root)
    return False


def _locked(lock: int, state: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise SettingsError(
            f"{state} cannot be locked ({error.strerror}): name a folder on a local disk for the inbox's state"
        ) from error
    return True


def _became(outcome: str, reason: str | None) -> str:
    """Of a file that was ingested: what is none of ours is done, too."""
    if outcome != REFUSED:
        return TAKEN
    return WAITS if (reason or "").startswith(_MAY_PASS) else REFUSED


def _shown(path: str) -> str:
    """As `ingest.sources` names it in a report."""
    return path.encode("utf-8", "backslashreplace").decode()
