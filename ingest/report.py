"""Accounts: every file in exactly one outcome, kept on disk while the run goes on, written as JSON at its end."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from radsearch.errors import SettingsError
from radsearch.study import Fingerprint

Outcome = Literal["indexed", "unchanged", "skipped", "refused"]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file. position: its place in the archive's order. images: points it has in the index."""

    position: int
    file: str
    outcome: Outcome
    reason: str | None = None
    images: int = 0


class Accounts:
    """The outcomes of a run, and which instances it has met.

    Both lie in a temporary SQLite database that no other user can open and that goes with the process, so that
    memory does not grow with the number of files.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)  # "" is SQLite's private temporary file
        self._lock = threading.Lock()
        self.images_taken_out = 0  # of the index, since RADSEARCH_BURNED_IN does not allow them any more
        self._database.execute(
            "CREATE TABLE files (position INTEGER PRIMARY KEY, file TEXT, outcome TEXT, reason TEXT, images INTEGER)"
        )
        self._database.execute(
            "CREATE TABLE instances (instance TEXT PRIMARY KEY, content TEXT, position INTEGER) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE copies (position INTEGER PRIMARY KEY, instance TEXT)")

    def record(self, outcomes: Sequence[FileOutcome]) -> None:
        """Keep outcomes; a file's later one (after a retry) replaces its earlier one."""
        rows = [(item.position, item.file, item.outcome, item.reason, item.images) for item in outcomes]
        with self._lock:
            self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    def claim(self, instance: str, content: str, position: int) -> str | None:
        """Take an instance for the file at `position`; the content of the file that has it already, if any."""
        with self._lock:
            taken = self._database.execute("SELECT content FROM instances WHERE instance = ?", (instance,)).fetchone()
            if taken is None:
                self._database.execute("INSERT INTO instances VALUES (?, ?, ?)", (instance, content, position))
                return None
            self._database.execute("INSERT OR REPLACE INTO copies VALUES (?, ?)", (position, instance))
        return str(taken[0])

    def second_chances(self) -> frozenset[int]:
        """Positions of files to be tried now, because the file that took their instance turned out to be unreadable.

        One an instance, the next in order; its instance is free again.
        """
        unlucky = """
            SELECT MIN(copies.position), copies.instance FROM copies
            JOIN instances ON instances.instance = copies.instance
            JOIN files ON files.position = instances.position
            WHERE files.outcome IN ('refused', 'skipped') GROUP BY copies.instance
        """
        with self._lock:
            rows = self._database.execute(unlucky).fetchall()
            self._database.executemany("DELETE FROM instances WHERE instance = ?", [(name,) for _, name in rows])
            self._database.executemany("DELETE FROM copies WHERE position = ?", [(position,) for position, _ in rows])
        return frozenset(position for position, _ in rows)

    def done(self) -> int:
        """Number of files with an outcome."""
        return sum(self.totals().values())

    def totals(self) -> dict[Outcome, int]:
        """Number of files by outcome; all four are there."""
        counts: dict[Outcome, int] = {"indexed": 0, "unchanged": 0, "skipped": 0, "refused": 0}
        with self._lock:
            counts.update(self._database.execute("SELECT outcome, COUNT(*) FROM files GROUP BY outcome").fetchall())
        return counts

    def reasons(self, outcome: Outcome) -> dict[str, int]:
        """Number of files by reason, most frequent first."""
        query = "SELECT reason, COUNT(*) FROM files WHERE outcome = ? GROUP BY reason ORDER BY COUNT(*) DESC, reason"
        with self._lock:
            return dict(self._database.execute(query, (outcome,)).fetchall())

    def images(self) -> int:
        """Number of images (frames) written to the index in this run."""
        with self._lock:
            (total,) = self._database.execute(
                "SELECT COALESCE(SUM(images), 0) FROM files WHERE outcome = 'indexed'"
            ).fetchone()
        return int(total)

    def files(self) -> Iterator[tuple[str, Outcome, str | None]]:
        """Every file in the archive's order, one at a time."""
        with self._lock:
            yield from self._database.execute("SELECT file, outcome, reason FROM files ORDER BY position")

    def close(self) -> None:
        """Drop it all."""
        self._database.close()


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run, without its files."""

    found: int
    indexed: int
    unchanged: int
    skipped: dict[str, int]
    refused: dict[str, int]
    images: int
    seconds: float
    models: tuple[Fingerprint, ...]
    images_taken_out: int = 0

    @property
    def images_per_second(self) -> float:
        """Images written a second, over the whole run."""
        return round(self.images / self.seconds, 2) if self.seconds else 0.0

    @property
    def exit_code(self) -> int:
        """0 done; 1 done, but some files were refused; 2 there was nothing that could be done."""
        if self.indexed + self.unchanged == 0:
            return 2
        return 1 if self.refused else 0

    def lines(self) -> list[str]:
        """The figures in words."""
        gone = f"{self.images_taken_out} images taken out of the index; " if self.images_taken_out else ""
        figures = (
            f"{self.found} files: {self.indexed} indexed ({self.images} images), {self.unchanged} unchanged, "
            f"{sum(self.skipped.values())} skipped, {sum(self.refused.values())} refused; {gone}"
            f"{self.seconds:.1f} s, {self.images_per_second} images/s"
        )
        said = [figures]
        for outcome, reasons in (("skipped", self.skipped), ("refused", self.refused)):
            said += [f"  {outcome}: {number} x {reason}" for reason, number in reasons.items()]
        return said


def summarise(accounts: Accounts, models: Sequence[Fingerprint], seconds: float) -> Summary:
    """Add the accounts up."""
    totals = accounts.totals()
    return Summary(
        found=sum(totals.values()),
        indexed=totals["indexed"],
        unchanged=totals["unchanged"],
        skipped=accounts.reasons("skipped"),
        refused=accounts.reasons("refused"),
        images=accounts.images(),
        seconds=round(seconds, 3),
        models=tuple(models),
        images_taken_out=accounts.images_taken_out,
    )


def write_report(path: Path, summary: Summary, accounts: Accounts) -> None:
    """Write the report as JSON, readable by its owner only: file names may tell who a patient is.

    Raises:
        SettingsError: it cannot be written.
    """
    half_written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(half_written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            _write(stream, summary, accounts)
        half_written.replace(path)
    except OSError as error:
        raise SettingsError(f"the report {path} cannot be written ({error.strerror})") from error


def read_refused(path: Path) -> frozenset[str]:
    """The names of the files that an earlier run refused, from its report.

    Raises:
        SettingsError: it is no report of ours.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return frozenset(entry["file"] for entry in stored["files"] if entry["outcome"] == "refused")
    except OSError as error:
        raise SettingsError(f"the report {path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{path} is no report of an ingest") from error


def _write(stream: IO[str], summary: Summary, accounts: Accounts) -> None:
    """The figures first, then a line a file, never all of them in memory."""
    figures = {
        "found": summary.found,
        "indexed": summary.indexed,
        "unchanged": summary.unchanged,
        "skipped": summary.skipped,
        "refused": summary.refused,
        "images": summary.images,
        "images_taken_out": summary.images_taken_out,
        "seconds": summary.seconds,
        "images_per_second": summary.images_per_second,
        "model": asdict(summary.models[0]) if summary.models else {},
        "models": [asdict(model) for model in summary.models],
    }
    stream.write(json.dumps(figures, indent=1)[:-2] + ',\n "files": [')
    separator = "\n"
    for file, outcome, reason in accounts.files():
        stream.write(separator + "  " + json.dumps({"file": file, "outcome": outcome, "reason": reason}))
        separator = ",\n"
    stream.write("\n ]\n}\n")
