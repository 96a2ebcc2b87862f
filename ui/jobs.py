"""The commands that the page has started: one of each kind at a time, for all sessions, with what they say.

A command inherits the environment, so that no secret is among its arguments. Of what it says on stderr only its
progress and its own sentences (`radsearch: ...`) are kept: a library's line may hold a file's name, a traceback goes to
the server's log.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from radsearch.errors import RadSearchError

Kind = Literal["ingest", "evaluation"]

_ROOT = Path(__file__).resolve().parent.parent
_SENTENCE = "radsearch: "
_LONGEST_LINE = 1 << 14  # bytes
_PATIENCE_SECONDS = 20.0  # for a command that was asked to stop
_HEARD_SECONDS = 1.0  # for the last words of what was ended
_LEAVING_SECONDS = 4.0  # likewise, when the page itself ends


@dataclass(frozen=True, slots=True)
class Advance:
    """How far an ingest has come (`python -m ingest --progress-json`). total, seconds_left: None while unknown."""

    done: int
    total: int | None
    files_per_second: float
    seconds_left: float | None

    @property
    def part(self) -> float:
        """Of the files, 0 to 1; 0 while their number is unknown."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """A job as it is now.

    made: the file or folder that it writes. began: seconds since the epoch. seconds: that it has taken. code: its exit
    code, None while it runs. sentence: the last that it said. stopping: somebody asked it to stop.
    """

    kind: Kind
    made: Path
    began: float
    seconds: float
    code: int | None
    advance: Advance | None
    sentence: str | None
    stopping: bool

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self.code is None


class Jobs:
    """The jobs of this process; they are asked to stop when it ends."""

    def __init__(self) -> None:
        self._jobs: dict[Kind, _Job] = {}
        self._lock = threading.Lock()
        atexit.register(self.stop_all)

    def start(self, kind: Kind, arguments: Sequence[str], made: Path) -> None:
        """Run `python -m ARGUMENTS`.

        Args:
            kind: of which no other may be at work.
            arguments: the module and its options.
            made: the file or folder that it is told to write.

        Raises:
            RadSearchError: one is at work already, or it cannot be started.
        """
        with self._lock:
            if self.running(kind):
                raise RadSearchError(f"an {kind} is at work already; its progress is shown here")
            try:
                self._jobs[kind] = _Job(kind, arguments, made)
            except (OSError, ValueError) as error:  # of an argument that no process can have
                why = getattr(error, "strerror", None) or error
                raise RadSearchError(f"the {kind} cannot be started ({why})") from error

    def told(self, kind: Kind) -> Told | None:
        """The job of that kind that is at work, else the last one."""
        job = self._jobs.get(kind)
        return None if job is None else job.told()

    def running(self, kind: Kind) -> bool:
        """Whether one of that kind is at work."""
        told = self.told(kind)
        return told is not None and told.running

    def stop(self, kind: Kind) -> None:
        """As Ctrl-C does; what does not end by itself in some seconds is ended. Of no job nothing happens."""
        job = self._jobs.get(kind)
        if job is not None:
            job.stop()

    def stop_all(self) -> None:
        """When the page's process ends: what does not end soon is ended, as where Ctrl-C is not heard (`command &`)."""
        several = list(self._jobs.values())
        for job in several:
            job.interrupt()
        deadline = time.monotonic() + _LEAVING_SECONDS
        for job in several:
            job.end_at(deadline)

    @property
    def state(self) -> tuple[object, ...]:
        """Another one whenever a job has begun or ended."""
        told = [job.told() for job in list(self._jobs.values())]
        return tuple((one.kind, one.began, one.code) for one in told)


@dataclass(slots=True)
class _Words:
    """What a command has said, as far as it is kept."""

    advance: Advance | None = None
    sentence: str | None = None

    def hear(self, line: str) -> bool:
        """Whether the line was one of the two that are kept."""
        if line.startswith(_SENTENCE):
            self.sentence = line.removeprefix(_SENTENCE).strip()
            return True
        advance = advance_of(line)
        self.advance = advance or self.advance
        return advance is not None


@dataclass(slots=True)
class _Job:
    kind: Kind
    arguments: Sequence[str]
    made: Path
    process: "subprocess.Popen[bytes]" = field(init=False)
    words: _Words = field(default_factory=_Words)
    began: float = field(default_factory=time.time)
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None  # as `begun`
    stopping: bool = False
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(  # noqa: S603 -- a list of our own, no shell  # nosec B603
            [sys.executable, "-m", *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # a Ctrl-C at the page's terminal is passed on by us, once
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def told(self) -> Told:
        seconds = (self.ended or time.monotonic()) - self.begun
        code = self.process.poll() if self.ended else None
        words = self.words
        return Told(self.kind, self.made, self.began, seconds, code, words.advance, words.sentence, self.stopping)

    def stop(self) -> None:
        self.stopping = True
        self.interrupt()
        timer = threading.Timer(_PATIENCE_SECONDS, self._end)
        timer.daemon = True
        timer.start()

    def interrupt(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end_at(self, deadline: float) -> None:
        self.reader.join(max(0.0, deadline - time.monotonic()))
        self._end()

    def _end(self) -> None:
        """All of its group: a process that it left behind keeps its stderr, and so the job, open."""
        if self.ended is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.reader.join(_HEARD_SECONDS)
            if self.process.poll() is not None:  # what left the group may have its stderr still
                self.ended = self.ended or time.monotonic()

    def _read(self) -> None:
        assert self.process.stderr is not None  # noqa: S101 -- it was asked for
        try:
            with self.process.stderr as stream:
                _hear_all(stream, self.words)
        finally:
            self.process.wait()
            self.ended = self.ended or time.monotonic()


def _hear_all(stream: IO[bytes], words: _Words) -> None:
    while line := stream.readline(_LONGEST_LINE):
        text = line.decode("utf-8", "replace")
        if not words.hear(text):
            with suppress(OSError, ValueError):  # a log that is closed or full ends no job
                sys.stderr.write(text)


def advance_of(line: str) -> Advance | None:
    """A line of `--progress-json`; None of any other."""
    try:
        told: Any = json.loads(line)
        left, total = told["seconds_left"], told["total"]
        return Advance(
            int(_amount(told["done"])),
            None if total is None else int(_amount(total)),
            _amount(told["files_per_second"]),
            None if left is None else _amount(left),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _amount(told: Any) -> float:
    amount = float(told)
    if not 0 <= amount < float("inf"):
        raise ValueError
    return amount
