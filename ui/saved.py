"""Saved collections: sets of indexed images with notes, in a small SQLite file of the settings folder.

They outlive a reload and a restart. Without a login all who use the page share them; with one everybody has his own.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radsearch.errors import RadSearchError

LONGEST_NAME = 80
LONGEST_NOTE = 2000
MOST_IMAGES = 5000
_TABLES = """
CREATE TABLE IF NOT EXISTS collection (name TEXT PRIMARY KEY, note TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS image (
  collection TEXT NOT NULL REFERENCES collection (name) ON DELETE CASCADE ON UPDATE CASCADE,
  id TEXT NOT NULL, note TEXT NOT NULL DEFAULT '', PRIMARY KEY (collection, id));
"""


@dataclass(frozen=True, slots=True)
class Saved:
    """A collection. notes: of its images, by their ids, in the order in which they were added."""

    name: str
    note: str
    notes: dict[str, str]


class Collections:
    """All collections of a settings folder; every call is a transaction of its own, so that sessions may share it."""

    def __init__(self, folder: Path, *, owner: str | None = None) -> None:
        """Args: folder: made when the first collection is. owner: who has logged in; None where nobody has to."""
        own = "" if owner is None else f"-{hashlib.sha256(owner.encode()).hexdigest()}"
        self._file = folder.expanduser() / f"collections{own}.sqlite"

    def names(self) -> dict[str, int]:
        """All collections by name, with their numbers of images."""
        rows = self._asked(
            "SELECT name, (SELECT count(*) FROM image WHERE collection = name) FROM collection ORDER BY lower(name)"
        )
        return {str(name): int(count) for name, count in rows}

    def read(self, name: str) -> Saved | None:
        """One of them; None where there is none of that name (any more)."""
        found = self._asked("SELECT note FROM collection WHERE name = ?", name)
        images = self._asked("SELECT id, note FROM image WHERE collection = ? ORDER BY rowid", name)
        return Saved(name, str(found[0][0]), {str(point): str(note) for point, note in images}) if found else None

    def make(self, name: str) -> str:
        """Make an empty one; one of that name is left as it is. Gives the name as it is kept.

        Raises:
            RadSearchError: the name is empty, or nothing can be written.
        """
        kept = " ".join(name.split())[:LONGEST_NAME]
        if not kept:
            raise RadSearchError("A collection needs a name.")
        with self._changing() as base:
            base.execute("INSERT OR IGNORE INTO collection (name) VALUES (?)", (kept,))
        return kept

    def rename(self, old: str, new: str) -> str:
        """Give it another name. Raises RadSearchError where that is taken, or empty."""
        kept = " ".join(new.split())[:LONGEST_NAME]
        if not kept:
            raise RadSearchError("A collection needs a name.")
        try:
            with self._changing() as base:
                base.execute("UPDATE collection SET name = ? WHERE name = ?", (kept, old))
        except sqlite3.IntegrityError as error:
            raise RadSearchError("There is another collection of that name.") from error
        return kept

    def drop(self, name: str) -> None:
        """Remove it; the images themselves stay in the index."""
        with self._changing() as base:
            base.execute("DELETE FROM collection WHERE name = ?", (name,))

    def note(self, name: str, words: str) -> None:
        """Replace its note."""
        with self._changing() as base:
            base.execute("UPDATE collection SET note = ? WHERE name = ?", (words[:LONGEST_NOTE], name))

    def note_image(self, name: str, point: str, words: str) -> None:
        """Replace the note of one of its images."""
        with self._changing() as base:
            base.execute(
                "UPDATE image SET note = ? WHERE collection = ? AND id = ?", (words[:LONGEST_NOTE], name, point)
            )

    def add(self, name: str, points: Sequence[str]) -> None:
        """Add images that are not in it yet. Raises RadSearchError where it is gone, or would be too large."""
        with self._changing() as base:
            (held,) = base.execute("SELECT count(*) FROM image WHERE collection = ?", (name,)).fetchone()
            if held + len(points) > MOST_IMAGES:
                raise RadSearchError(f"A collection holds {MOST_IMAGES:,} images at most.")
            try:
                base.executemany(
                    "INSERT INTO image (collection, id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    [(name, point) for point in points],
                )
            except sqlite3.IntegrityError as error:
                raise RadSearchError("This collection has been removed.") from error

    def remove(self, name: str, point: str) -> None:
        """Take an image out."""
        with self._changing() as base:
            base.execute("DELETE FROM image WHERE collection = ? AND id = ?", (name, point))

    def _asked(self, question: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            there = self._file.exists()
        except OSError as error:
            raise RadSearchError(f"The collections in {self._file} cannot be used ({type(error).__name__}).") from error
        if not there:
            return []
        with self._changing() as base:
            return base.execute(question, values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.touch(mode=0o600)
            with closing(sqlite3.connect(self._file, timeout=10)) as base, base:
                base.execute("PRAGMA foreign_keys = ON")
                base.executescript(_TABLES)
                yield base
        except sqlite3.IntegrityError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise RadSearchError(f"The collections in {self._file} cannot be used ({type(error).__name__}).") from error
