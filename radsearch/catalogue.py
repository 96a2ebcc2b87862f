"""The private catalogue: where the file of an indexed image is. It stays on the host that ingests, for its user only.

The index itself knows no path. Who has this file and the archive can be led from a hit back to its original.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from radsearch.errors import RadSearchError
from radsearch.settings import Settings

_TABLES = """
CREATE TABLE IF NOT EXISTS original (instance TEXT PRIMARY KEY, path BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS original_path ON original (path);
"""
_SECONDS = 30.0  # that one process waits for another's write


class Catalogue:
    """One SQLite file; every call is a transaction of its own, so that threads and processes may share it."""

    def __init__(self, file: Path) -> None:
        """Args: file: made with the first record, mode 0600."""
        self._file = file

    def record(self, originals: Iterable[tuple[str, Path]]) -> None:
        """Keep where files are, by the pseudonym of their instance; a later place replaces an earlier one.

        Raises:
            RadSearchError: it cannot be written.
        """
        rows = [(instance, os.fsencode(path.absolute())) for instance, path in originals]
        if rows:
            with self._opened() as base:
                base.executemany("INSERT OR REPLACE INTO original VALUES (?, ?)", rows)

    def moved(self, places: Mapping[Path, Path]) -> None:
        """Follow files that were moved, from old to new path. Raises as `record`."""
        if places and self._is_there():
            rows = [(os.fsencode(place), os.fsencode(source)) for source, place in places.items()]
            with self._opened() as base:
                base.executemany("UPDATE original SET path = ? WHERE path = ?", rows)

    def path_of(self, instance: str) -> Path | None:
        """Where the file of an instance was last; None where nobody has said. Raises as `record`."""
        if not self._is_there():
            return None
        with self._opened() as base:
            found = base.execute("SELECT path FROM original WHERE instance = ?", (instance,)).fetchone()
        return Path(os.fsdecode(found[0])) if found else None

    def _is_there(self) -> bool:
        try:
            return self._file.exists()
        except OSError as error:
            raise RadSearchError(f"the catalogue {self._file} cannot be used ({type(error).__name__})") from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.touch(mode=0o600)
            with closing(sqlite3.connect(self._file, timeout=_SECONDS)) as base, base:
                base.executescript(_TABLES)
                yield base
        except (OSError, sqlite3.Error) as error:
            raise RadSearchError(f"the catalogue {self._file} cannot be used ({type(error).__name__})") from error


def catalogue_of(settings: Settings) -> Catalogue | None:
    """The one that the settings name; None where they name none."""
    return None if settings.catalogue is None else Catalogue(settings.catalogue)
