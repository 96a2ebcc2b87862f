"""What runs in a worker process: one task after another, each within its limits (`isolation` has the other end)."""

import contextlib
import ctypes
import math
import re
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from radsearch.errors import TOO_MUCH_MEMORY, UnreadableImageError
from radsearch.reading.answers import pack

READY = b"ready"
_MEBIBYTE = 1 << 20
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that gave no picture, and why; `skipped` for what is none by nature."""

    reason: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may take: seconds of time for each of its frames, and memory of its worker process in MiB.

    0 stands for no limit.
    """

    seconds: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Raised:
    """What the caller has to deal with: a fault of the disk."""

    error: OSError


def memory_left() -> float:
    """Bytes that this process may still reserve before its limit, if it has one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    status = Path("/proc/self/status")
    held = re.search(r"VmData:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.exists() else None
    return limit - int(held[1]) * 1024 if held else math.inf


class _Clock:
    """The time limit of this process, if it is a worker: an alarm whose default action ends it, whatever it does."""

    seconds = 0.0

    @classmethod
    def wind(cls) -> None:
        if cls.seconds:
            signal.setitimer(signal.ITIMER_REAL, cls.seconds)

    @classmethod
    def stop(cls) -> None:
        if cls.seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)


def renew_time_limit() -> None:
    """Give the file another time limit's worth: a frame of it is done. Does nothing outside a worker."""
    _Clock.wind()


def serve(descriptor: int) -> None:
    """What a worker process does until its parent is gone. `descriptor`: its end of the connection."""
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        order, limits = connection.recv()
        _begin_worker(limits)
        connection.send_bytes(READY)
        while True:
            task, items = connection.recv()
            for item in items:
                answer = attempt(task, order, item)
                connection.send_bytes(_packed(answer))
                if isinstance(answer, Raised):
                    break


def _begin_worker(limits: Limits) -> None:
    with contextlib.suppress(Exception):  # where there is no prctl, the end of the connection ends an idle worker
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _Clock.seconds = limits.seconds
    leave_no_dump()
    if limits.memory_mb:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = limits.memory_mb * _MEBIBYTE
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def leave_no_dump() -> None:
    """Have a crash of this process write no core file, which would hold patients' pictures and the names of files."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def attempt(task: Callable[[Any, Any], Any], order: object, item: object) -> Any:
    """The task's result, or the refusal or the fault that came instead; no other exception passes."""
    _Clock.wind()
    try:
        return task(order, item)
    except UnreadableImageError as error:
        return Refusal(error.reason, error.skipped)
    except MemoryError:
        return Refusal(TOO_MUCH_MEMORY)
    except OSError as error:
        return Raised(error)
    except Exception as error:  # noqa: BLE001 -- a bug, or bytes that nobody has thought of: it costs this file
        return Refusal(f"unexpected {type(error).__name__} at {_place(error)}")
    finally:
        _Clock.stop()


def _packed(answer: object) -> bytes:
    try:
        return pack(answer)
    except MemoryError:
        return pack(Refusal(TOO_MUCH_MEMORY))


def _place(error: Exception) -> str:
    """File and line of ours where an error came up; its words may quote the file that was read."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).resolve().parents[2]
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(root) and ".venv" not in frame.filename]
    last = (ours or frames)[-1]
    return f"{'/'.join(Path(last.filename).parts[-2:])}:{last.lineno}"
