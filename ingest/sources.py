"""Where files come from: a folder, a single file, or the rows of a manifest."""

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from radsearch.errors import SettingsError
from radsearch.privacy import Pseudonymizer
from radsearch.reading.manifest import read_rows
from radsearch.study import Facts


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to be taken in.

    name: its path relative to the archive, as the report shows it.
    identity: what names it where it carries no identifier of its own.
    said: what the manifest and the options say of it; `listed` where a manifest speaks.
    reason: why it cannot even be opened, with `skipped` for what is none of ours; None for an ordinary file.
    """

    path: Path
    name: str
    identity: str
    said: Facts = field(default_factory=Facts)
    reason: str | None = None
    skipped: bool = False
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """What one run takes in.

    path: a folder, taken with all below it, or a single file.
    manifest: a CSV whose rows say which files below `path` are taken, and what they are.
    dataset, split: said of every file that the manifest does not say it of.
    only: names (as in a report) to which the run is limited; None for all.
    part: (number from 1, how many): one of so many parts, each file in one; None for all.
    known_only: only what the index holds already: no image is added, but vectors.
    """

    path: Path
    manifest: Path | None = None
    dataset: str | None = None
    split: str | None = None
    only: frozenset[str] | None = None
    part: tuple[int, int] | None = None
    known_only: bool = False

    @property
    def root(self) -> Path:
        """The folder that every file has to lie in."""
        return self.path.resolve() if self.path.is_dir() else self.path.resolve().parent

    def files(self, pseudonymizer: Pseudonymizer) -> Iterator[SourceFile]:
        """Every file in a fixed order, one at a time.

        Raises:
            SettingsError: there is no such path.
            ManifestError: the manifest cannot be used as a whole.
        """
        if not self.path.exists():
            raise SettingsError(f"there is no file or folder {self.path}")
        return self._listed(pseudonymizer) if self.manifest else self._walked()

    def count(self, pseudonymizer: Pseudonymizer) -> int:
        """How many files there are."""
        return sum(1 for _ in self.files(pseudonymizer))

    def _is_wanted(self, name: str) -> bool:
        """A file's name says in which part it is, so that files that come and go move no other one."""
        ours = self.part is None or zlib.crc32(name.encode()) % self.part[1] == self.part[0] - 1
        return ours and (self.only is None or name in self.only)

    def _walked(self) -> Iterator[SourceFile]:
        said, root = Facts(dataset=self.dataset, split=self.split), self.root
        for path in _walk(root) if self.path.is_dir() else [self.path.resolve()]:
            yield from self._source(path, said, root)

    def _listed(self, pseudonymizer: Pseudonymizer) -> Iterator[SourceFile]:
        if self.manifest is None:
            return
        folder, root = self.manifest.resolve().parent, self.root
        for row in read_rows(self.manifest, pseudonymizer.pseudonym, dataset=self.dataset, split=self.split):
            if row.reason is None:
                yield from self._source(Path(os.path.normpath(folder / row.filepath)), row.facts, root)
            elif self._is_wanted(row.filepath):
                yield SourceFile(folder, row.filepath, row.filepath, reason=row.reason)

    def _source(self, path: Path, said: Facts, root: Path) -> Iterator[SourceFile]:
        """The file, or none where it is not wanted."""
        name = os.path.relpath(path, root).encode("utf-8", "backslashreplace").decode()
        if self._is_wanted(name):
            identity = f"{said.dataset}\0{name}" if said.dataset else str(path)
            reason, skipped = _unusable(path, root)
            yield SourceFile(path, name, identity, said, reason, skipped, listed=self.manifest is not None)


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder in a fixed order; links to folders and unreadable folders are shown but not entered."""
    waiting = [(folder, True)]  # a list of ours: folders may lie in each other deeper than functions may
    while waiting:
        path, is_folder = waiting.pop()
        entries = _entries(path) if is_folder else None
        if entries is None:
            yield path  # a file, or accounted for as a folder that cannot be read
        elif not any(entry.name == "radsearch.json" for entry in entries):  # an index of ours
            waiting += ((Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in reversed(entries))


def _entries(folder: Path) -> "list[os.DirEntry[str]] | None":
    """By name; None where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return None


def _unusable(path: Path, root: Path) -> tuple[str | None, bool]:
    """Why a path is not opened, and whether that is a skip (none of ours) or a refusal."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError:
        return "file is missing", False
    except (OSError, RuntimeError):  # no permission on the way, or links in a circle
        return "file cannot be reached", False
    if not real.is_relative_to(root):
        return "file lies outside the archive", False
    if stat.S_ISDIR(mode):
        return ("link to a folder", True) if path.is_symlink() else ("folder cannot be read", False)
    if not stat.S_ISREG(mode):
        return "not a regular file", True
    return None, False
