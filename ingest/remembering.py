"""What is remembered of an inbox between two runs: since when each file is as it is, and what became of it."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from ingest.arrivals import Arrival, Trace, folder_of
from radsearch.errors import RadSearchError

TAKEN, REFUSED, WAITS = "taken", "refused", "waits"
_LONGEST_WAITS = 10  # quiet times, in a folder that is never quiet
_TRIES = 3  # of a file with a fault that may pass
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, folder BLOB, size INTEGER, modified INTEGER, changed INTEGER, unfinished INTEGER,
    since REAL, outcome TEXT, tries INTEGER DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folders (folder BLOB PRIMARY KEY, since REAL) WITHOUT ROWID;
"""
_AT_REST = """
SELECT path FROM files JOIN folders USING (folder)
WHERE outcome IS NULL AND NOT unfinished AND (folders.since <= ? OR files.since <= ?) ORDER BY path
"""


class Memory:
    """A small SQLite file. Use it as a context manager; nobody else may have it.

    Every method raises RadSearchError where the file cannot be written or is damaged.
    """

    def __init__(self, state: Path) -> None:
        """SQLite's own locks are off: a network share may have none, and who opens it holds the inbox's lock."""
        self._state = state
        with said(state):
            self._database = sqlite3.connect(f"file:{quote(str(state / 'files-1.sqlite'))}?nolock=1", uri=True)
            self._database.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def note(self, arrivals: Iterable[Arrival], now: float) -> set[str]:
        """Compare what is there with what was there, and keep since when it is so.

        Returns:
            Folders of settled files that are gone: a run moved them, and was killed before it could say so.
        """
        found = {one.path: one for one in arrivals}
        with said(self._state), self._database:
            self._database.execute("UPDATE files SET since = ?1 WHERE since > ?1", (now,))  # the clock was set back
            self._database.execute("UPDATE folders SET since = ?1 WHERE since > ?1", (now,))
            known = {
                os.fsdecode(path): (Trace(*trace), outcome)
                for path, *trace, outcome in self._database.execute(
                    "SELECT path, size, modified, changed, outcome FROM files"
                )
            }
            fresh = [one for path, one in found.items() if path not in known or known[path][0] != one.trace]
            gone = known.keys() - found.keys()
            settled = {path for path in gone if known[path][1] is not None}
            self._keep(fresh, now)
            self._drop(gone)
            stirred = {one.folder for one in fresh} | {folder_of(path) for path in gone - settled}
            self._database.executemany(
                "INSERT OR REPLACE INTO folders VALUES (?, ?)", [(os.fsencode(path), now) for path in stirred]
            )
            self._database.execute("DELETE FROM folders WHERE folder NOT IN (SELECT folder FROM files)")
        return {folder_of(path) for path in settled}

    def at_rest(self, now: float, quiet_seconds: float) -> list[str]:
        """The files that are to be taken now, in order."""
        with said(self._state):
            rows = self._database.execute(_AT_REST, (now - quiet_seconds, now - _LONGEST_WAITS * quiet_seconds))
            return [os.fsdecode(path) for (path,) in rows]

    def settle(self, outcomes: Iterable[tuple[str, str]]) -> Counter[str]:
        """Keep what became of files: TAKEN, REFUSED, or WAITS for one to be tried again, which is REFUSED in the end.

        Returns:
            How many there are of each.
        """
        settled: Counter[str] = Counter()
        with said(self._state), self._database:
            for path, outcome in outcomes:
                kept = self._try_again(path) if outcome == WAITS else outcome
                settled[kept] += 1
                if kept != WAITS:
                    self._database.execute("UPDATE files SET outcome = ? WHERE path = ?", (kept, os.fsencode(path)))
        return settled

    def settled(self) -> list[tuple[str, Trace, str]]:
        """Every file that something became of: its path, what it was like, and what became of it."""
        query = "SELECT path, outcome, size, modified, changed FROM files WHERE outcome IS NOT NULL ORDER BY path"
        with said(self._state):
            rows = self._database.execute(query).fetchall()
        return [(os.fsdecode(path), Trace(*trace), outcome) for path, outcome, *trace in rows]

    def forget(self, paths: Iterable[str]) -> None:
        """These have been moved away."""
        with said(self._state), self._database:
            self._drop(paths)

    def waiting(self) -> tuple[int, int]:
        """How many files wait to be taken, and how many are unfinished by their names."""
        query = "SELECT unfinished, COUNT(*) FROM files WHERE outcome IS NULL GROUP BY unfinished"
        with said(self._state):
            by_name: Mapping[int, int] = dict(self._database.execute(query).fetchall())
        return by_name.get(0, 0), by_name.get(1, 0)

    def _keep(self, arrivals: Iterable[Arrival], now: float) -> None:
        rows = [
            (
                os.fsencode(one.path),
                os.fsencode(one.folder),
                one.trace.size,
                one.trace.modified_ns,
                one.trace.changed_ns,
                one.unfinished,
                now,
            )
            for one in arrivals
        ]
        self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, NULL, 0)", rows)

    def _drop(self, paths: Iterable[str]) -> None:
        self._database.executemany("DELETE FROM files WHERE path = ?", [(os.fsencode(path),) for path in paths])

    def _try_again(self, path: str) -> str:
        counted = "UPDATE files SET tries = tries + 1 WHERE path = ? RETURNING tries"
        (tries,) = self._database.execute(counted, (os.fsencode(path),)).fetchone()
        return WAITS if tries < _TRIES else REFUSED


@contextmanager
def said(state: Path) -> Iterator[None]:
    """A fault of the folder of the state, so that somebody can act."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        fault = error.strerror if isinstance(error, OSError) else error
        raise RadSearchError(
            f"the inbox's state in {state} cannot be used ({fault}): make room, let this user write there, name "
            "another folder for it, or remove it, which loses nothing"
        ) from error
