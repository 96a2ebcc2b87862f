"""Worker processes for work on files: one that crashes, hangs or eats memory costs that one file, not the run.

A native decoder may do all three on damaged bytes. Each worker takes a batch of items and answers item by item, so that
it is known which one it died of; it is then replaced, and the rest of its batch goes on in the new one. A worker may
die of something else than its file, so the file is tried once more; not so after a time limit.

Workers are programs of their own (not children of `multiprocessing`, which would run the main module once more: the
page, or a script without a guard). What is sent to them names its functions by module, so a task stands in a module.
"""

import contextlib
import fcntl
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from radsearch.errors import TOO_LONG, RadSearchError
from radsearch.reading.answers import NoAnswerError, unpack
from radsearch.reading.worker import READY, Limits, Raised, Refusal, leave_no_dump, renew_time_limit
from radsearch.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = [
    "CRASHED",
    "KILLED",
    "IsolatedPool",
    "Limits",
    "Pending",
    "Refusal",
    "limits_of",
    "renew_time_limit",
]

KILLED = "the decoder was killed"
CRASHED = "the decoder crashed"
NO_ANSWER = "the decoder gave no answer of ours"

_JOIN_SECONDS = 10.0
_START_SECONDS = 120.0
_STARTS = 5
_FIRST_OWN_DESCRIPTOR = 3  # behind standard input, output and error, which a caller may have closed
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from radsearch.reading.worker import serve; serve(int(sys.argv[1]))"

_Order = TypeVar("_Order")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings ask for."""
    return Limits(settings.file_seconds, settings.file_memory_mb)


class _LostError(Exception):
    """The process at the other end is gone."""


@contextlib.contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise _LostError from error


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
        leave_no_dump()  # whoever has files read holds their pictures: an ingest, a search, the page
        self._work: queue.SimpleQueue[tuple[Any, Sequence[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._workers = [_Worker(order, limits) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def begin(self, task: "Callable[[_Order, _Item], _Result | Refusal]", items: Sequence[_Item]) -> "Pending[_Result]":
        """Start work on a few items. `task` is a function of a module, called with the order and an item.

        Of a closed pool the results are `CancelledError`.
        """
        if task.__module__ == "__main__":
            raise TypeError("a task stands in a module that a worker can import, not in the program that is run")
        future: Future[list[_Result | Refusal]] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(CancelledError())
            else:
                self._work.put((task, list(items), future))
        return Pending(future)

    def close(self) -> None:
        """End the workers; work that is not done is cancelled."""
        with self._lock:
            self._closed = True
        for worker in self._workers:
            worker.close()
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def _run(self, worker: "_Worker") -> None:
        with contextlib.suppress(Exception):  # what keeps it from starting is raised where its work is asked for
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
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closed = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the process where there is none, and wait until it is ready; one that dies on the way is tried again.

        Raises:
            RadSearchError: it does not start.
            CancelledError: the pool is closed.
        """
        cause = ""
        for _ in range(_STARTS):
            try:
                if self._start():
                    return
            except OSError as error:
                raise RadSearchError(f"the process that reads files cannot be started ({error.strerror})") from error
            cause = self._bury()
            if self._closed:
                raise CancelledError
        raise RadSearchError(f"the process that reads files cannot be started ({cause})")

    def _start(self) -> bool:
        """Whether there is a process that is ready."""
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._process is not None:
                return True
            self._connection, theirs = Pipe()
            descriptor = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN_DESCRIPTOR)
            theirs.close()
            command = [sys.executable, "-c", _PROGRAM, str(descriptor), *sys.path]
            silence = subprocess.DEVNULL  # native decoders write what they think of a file to stderr
            try:
                self._process = subprocess.Popen(  # noqa: S603 -- this interpreter and this module  # nosec B603
                    command, pass_fds=[descriptor], stdin=silence, stdout=silence, stderr=silence
                )
            finally:
                os.close(descriptor)
        try:
            self._connection.send((self._order, self._limits))
            return self._connection.poll(_START_SECONDS) and self._connection.recv_bytes() == READY
        except (EOFError, OSError):
            return False
        except BaseException:
            self._bury()
            raise

    def run(self, task: Callable[[Any, Any], Any], items: Sequence[Any]) -> list[Any]:
        """One result an item, in their order."""
        results: list[Any] = []
        died_before = False  # of the item that is next
        while len(results) < len(items):
            done = len(results)
            self.begin()
            fault = None
            try:
                fault = self._exchange(task, items[done:], results)
            except _LostError:
                if self._closed:
                    raise CancelledError from None
                cause = self._bury()
                died_before = died_before and len(results) == done
                if died_before or cause == TOO_LONG:
                    results.append(Refusal(cause))
                died_before = not died_before and cause != TOO_LONG
            except NoAnswerError:
                self._bury()  # it may do what it likes: the next file gets another one
                results.append(Refusal(NO_ANSWER))
                died_before = False
            except BaseException:
                self._bury()  # answers may be on their way that nobody would wait for
                raise
            if fault is not None:
                raise fault
        return results

    def _exchange(self, task: Callable[[Any, Any], Any], items: Sequence[Any], results: list[Any]) -> Exception | None:
        """Add an answer an item; gives the fault of the disk at which the worker has ended the batch, if any."""
        connection = self._connection
        assert connection is not None  # noqa: S101 -- `begin` has made it
        message = pickle.dumps((task, items))
        with _lost_if_it_fails():
            connection.send_bytes(message)
        for _ in items:
            with _lost_if_it_fails():
                content = connection.recv_bytes()
            answer = unpack(content)
            if isinstance(answer, Raised):
                if not isinstance(answer.error, OSError):
                    raise NoAnswerError
                return answer.error
            results.append(answer)
        return None

    def _bury(self) -> str:
        """Take a dead process away, or one that is of no further use, and say what it died of."""
        with self._lock:
            process, self._process = self._process, None
            if self._connection is not None:
                self._connection.close()
        if process is None:
            return CRASHED
        try:
            process.wait(_JOIN_SECONDS / 10)
        except subprocess.TimeoutExpired:
            _kill(process)
        by_signal = {-signal.SIGALRM: TOO_LONG, -signal.SIGKILL: KILLED}
        return by_signal.get(process.returncode, CRASHED)

    def close(self) -> None:
        """End the process now; whoever waits for it gets `CancelledError`."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process; one that waits for a dead disk cannot be ended, and is not waited for either."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_JOIN_SECONDS)
