"""The audit: who searched, opened, exported and revealed what, as lines of JSON that are only ever added."""

import fcntl
import json
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from radsearch.errors import RadSearchError
from radsearch.settings import Settings

Action = Literal["login", "denied", "search", "browse", "map", "open", "export", "ingest", "evaluate", "reveal"]
LARGEST_BYTES = 64 << 20  # then a new file is begun


class Audit:
    """One file for one person; processes and threads may share it. A line that cannot be written is an error."""

    def __init__(self, file: Path | None, who: str) -> None:
        """Args: file: made with the first line, mode 0600; None to keep nothing. who: as the lines name him."""
        self._file = file
        self._who = who

    def note(self, action: Action, **facts: object) -> None:
        """Add a line, on the disk before this returns: `when` (UTC), `who`, `action` and the facts.

        Args:
            action: what is done.
            facts: ids, filters and numbers. No text of a visitor's, no name of a file, nothing of a picture.

        Raises:
            RadSearchError: it cannot be written. What is not in the audit is not to be done.
        """
        if self._file is None:
            return
        when = datetime.now(UTC)
        line = {"when": when.isoformat(timespec="milliseconds"), "who": self._who, "action": action, **facts}
        try:
            with _locked(self._file):
                _rotate(self._file, when)
                _append(self._file, json.dumps(line).encode("ascii") + b"\n")
        except OSError as error:
            raise RadSearchError(f"the audit {self._file} cannot be written ({type(error).__name__})") from error


def audit_of(settings: Settings, who: str | None = None) -> Audit:
    """That of the settings. Args: who: by default the user of this process, as the system knows him."""
    return Audit(settings.audit, system_user() if who is None else who)


def system_user() -> str:
    """The name of this process's user, or his number where he has none; not what his environment says that he is."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Only one process at a time may look at the size, rotate and write."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _rotate(file: Path, when: datetime) -> None:
    """Set a full file aside; nothing is ever removed."""
    try:
        if file.stat().st_size < LARGEST_BYTES:
            return
    except FileNotFoundError:
        return
    aside, number = file.with_name(f"{file.stem}-{when:%Y%m%d-%H%M%S}{file.suffix}"), 1
    while aside.exists():
        number += 1
        aside = file.with_name(f"{file.stem}-{when:%Y%m%d-%H%M%S}-{number}{file.suffix}")
    file.rename(aside)


def _append(file: Path, line: bytes) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no file")
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # of a line that a full disk or a kill has cut off
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
