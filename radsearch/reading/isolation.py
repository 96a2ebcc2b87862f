"""Worker processes for work on files: one that crashes, hangs or eats memory costs that one file, not the run.

A native decoder may do all three on damaged bytes. Each worker takes a batch of items and answers item by item, so that
it is known which one it died of; it is then replaced, and the rest of its batch goes on in the new one. A worker may
die of something else than its file, so the file is tried once more; not so after a time limit.
"""

import contextlib
import multiprocessing
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from radsearch.errors import UnreadableImageError
from radsearch.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

TOO_LONG = "took longer than the time limit"
TOO_MUCH_MEMORY = "needs too much memory"
KILLED = "the decoder was killed"
CRASHED = "the decoder crashed"

_JOIN_SECONDS = 10.0
_MEBIBYTE = 1 << 20

_Order = TypeVar("_Order")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings ask for."""
    return Limits(settings.file_seconds, settings.file_memory_mb)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


class _LostError(Exception):
    """The process at the other end is gone."""


@contextlib.contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise _LostError from error


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


class Pending(Generic[_Result]):
    """Work that has begun; `results` waits for it and gives one result or refusal an item."""

    def __init__(self, future: "Future[list[_Result | Refusal]]") -> None:
        self._future = future

    def results(self) -> "list[_Result | Refusal]":
        """Raises whatever the task raised, but for `UnreadableImageError`, which is a refusal."""
        return self._future.result()


class IsolatedPool(Generic[_Order]):
    """Worker processes that can be lost. `order` is what every task needs to know; it is sent once."""

    def __init__(self, order: _Order, workers: int, limits: Limits) -> None:
        self._work: queue.SimpleQueue[tuple[Any, Sequence[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._workers = [_Worker(order, limits) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def begin(self, task: "Callable[[_Order, _Item], _Result | Refusal]", items: Sequence[_Item]) -> "Pending[_Result]":
        """Start work on a few items. `task` is a function of a module, called with the order and an item."""
        future: Future[list[_Result | Refusal]] = Future()
        self._work.put((task, list(items), future))
        return Pending(future)

    def close(self) -> None:
        """End the workers; work that is not done is cancelled."""
        for worker in self._workers:
            worker.close()
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        while True:
            with contextlib.suppress(queue.Empty):
                left = self._work.get_nowait()
                if left is not None:
                    left[2].cancel()
                continue
            return

    def _run(self, worker: "_Worker") -> None:
        worker.begin()  # now, while the caller loads its model
        while (work := self._work.get()) is not None:
            task, items, future = work
            try:
                future.set_result(worker.run(task, items))
            except BaseException as error:  # noqa: BLE001 -- it is raised where the result is asked for
                future.set_exception(error)


class _Worker:
    """One process, and another one in its place whenever it has died."""

    def __init__(self, order: object, limits: Limits) -> None:
        self._order, self._limits = order, limits
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._closed = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the process, unless the pool is closed already."""
        with self._lock:
            if self._closed or self._process is not None:
                return
            context = multiprocessing.get_context("spawn")  # a fork of a process with threads (torch, Prefect) may hang
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._order, self._limits), name="radsearch-reader", daemon=True
            )
            self._process.start()
            theirs.close()

    def run(self, task: Callable[[Any, Any], Any], items: Sequence[Any]) -> list[Any]:
        """One result an item, in their order."""
        results: list[Any] = []
        died_before = False  # of the item that is next
        while len(results) < len(items):
            done = len(results)
            try:
                self._exchange(task, items[done:], results)
            except _LostError:
                if self._closed:
                    raise CancelledError from None
                cause = self._bury()
                died_before = died_before and len(results) == done
                if died_before or cause == TOO_LONG:
                    results.append(Refusal(cause))
                died_before = not died_before and cause != TOO_LONG
        return results

    def _exchange(self, task: Callable[[Any, Any], Any], items: Sequence[Any], results: list[Any]) -> None:
        self.begin()
        connection = self._connection
        if connection is None or self._closed:
            raise CancelledError
        with _lost_if_it_fails():
            connection.send((task, items))
        for _ in items:
            with _lost_if_it_fails():
                answer = connection.recv()
            if isinstance(answer, _Raised):  # the worker has ended the batch there
                raise answer.error
            results.append(answer)

    def _bury(self) -> str:
        """Take a dead process away and say what it died of."""
        with self._lock:
            process, self._process = self._process, None
            if self._connection is not None:
                self._connection.close()
        if process is None:
            return CRASHED
        process.join(_JOIN_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        by_signal = {-signal.SIGALRM: TOO_LONG, -signal.SIGKILL: KILLED}
        return by_signal.get(process.exitcode or 0, CRASHED)

    def close(self) -> None:
        """End the process now; whoever waits for it gets `CancelledError`."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.join(_JOIN_SECONDS)


def _serve(connection: Connection, order: object, limits: Limits) -> None:
    """What a worker process does until its parent is gone."""
    _begin_worker(limits)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            task, items = connection.recv()
            for item in items:
                answer = _attempt(task, order, item)
                connection.send(answer)
                if isinstance(answer, _Raised):
                    break


def _begin_worker(limits: Limits) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _Clock.seconds = limits.seconds
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold a patient's picture
    if limits.memory_mb:
        limit = limits.memory_mb * _MEBIBYTE
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    silence = os.open(os.devnull, os.O_WRONLY)  # native decoders write what they think of a file to stderr
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(silence, stream.fileno())


def _attempt(task: Callable[[Any, Any], Any], order: object, item: object) -> Any:
    _Clock.wind()
    try:
        return task(order, item)
    except UnreadableImageError as error:
        return Refusal(error.reason, error.skipped)
    except MemoryError:
        return Refusal(TOO_MUCH_MEMORY)
    except OSError as error:
        return _Raised(error)
    except Exception as error:  # noqa: BLE001 -- a bug, or bytes that nobody has thought of: it costs this file
        return Refusal(f"unexpected {type(error).__name__} at {_place(error)}")
    finally:
        _Clock.stop()


def _place(error: Exception) -> str:
    """File and line of ours where an error came up; its words may quote the file that was read."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).resolve().parents[2]
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(root) and ".venv" not in frame.filename]
    last = (ours or frames)[-1]
    return f"{'/'.join(Path(last.filename).parts[-2:])}:{last.lineno}"
