"""An embedded index's shard in the hands of this process, and now and then in another's.

One process at a time may have the engine open a folder: even an attempt that the engine then refuses clears away files
of the one that has it, whose writes of minutes are lost with them. So there is a lock of ours before the engine's.

Whoever wants the folder leaves a mark and waits for the lock. Who writes lets go between two batches where there is
such a mark, and takes the folder back as soon as it is free. Meanwhile no other writer gets in: over the whole of its
run a writer keeps a second lock. Who holds the folder for long to read looks for marks, too (`is_wanted`).
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import qdrant_edge as edge

from radsearch.errors import IndexBusyError, RadSearchError
from radsearch.index.damage import (
    OPENING_BYTES,
    check_files,
    damaged,
    forget_files,
    note_files,
    require_room,
    words_of_engine,
)
from radsearch.index.folder import holder_of, leave_word, read_card, take_word_back
from radsearch.index.records import IndexCard

WAITING, LOCK = ".waits-", ".lock-"  # what the names of marks and locks begin with
_RETRY_SECONDS = 0.2
_FRESH_SECONDS = 3.0  # an older mark was left by a kill
_PAUSE_SECONDS = (1.0, 5.0)  # between two turns: as long as the last one took, within these bounds
_LONGEST_TURN_SECONDS = 600.0
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

Loader = Callable[[IndexCard], edge.EdgeShard]


class Holding:
    """The shard of a folder, from all threads of this process."""

    def __init__(self, folder: Path, load: Loader, *, sole_writer: bool, patience_seconds: float) -> None:
        """Wait for the folder, and take it.

        Args:
            folder: of the index.
            load: opens the shard as its card says.
            sole_writer: nobody else writes from now on until `close`; readers are let in by `let_others_in` only.
            patience_seconds: how long to wait.

        Raises:
            IndexBusyError: another process still has it.
            DamagedIndexError: it cannot be read.
            DiskFullError: there is no room to open it.
        """
        self._folder = folder
        self._load = load
        self._idle = threading.Condition()
        self._users = 0
        self._away = False
        self._lost: RadSearchError | None = None
        self._noted = True
        self._next_turn = 0.0
        deadline = time.monotonic() + patience_seconds
        with contextlib.ExitStack() as undo:
            self._writing = _Lock(folder, "writer")
            self._having = _Lock(folder, "holder")
            undo.callback(self._unlock)
            if sole_writer:
                self._writing.wait(deadline)
            with _mark(folder) as renew_mark:
                self._shard, self.card = self._taken(deadline, renew_mark)
            undo.pop_all()

    @contextmanager
    def using(self, *, to_change: bool = False) -> Iterator[edge.EdgeShard]:
        """The shard, for one question or one change.

        Raises:
            DamagedIndexError: whatever the engine raises.
        """
        with self._idle:
            while self._away:
                self._idle.wait()
            if self._lost:
                raise self._lost
            if to_change and self._noted:
                forget_files(self._folder)
                self._noted = False
            self._users += 1
        try:
            yield self._shard
        except BaseException as error:
            words = words_of_engine(error)
            if words is None:
                raise
            raise damaged(self._folder, words) from error
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def let_others_in(self) -> None:
        """Call it between two batches: whoever waits to read gets the folder, and is waited for.

        Raises:
            IndexBusyError: it was not given back in ten minutes.
        """
        if not self._writing.held or time.monotonic() < self._next_turn or not _somebody_waits(self._folder):
            return
        with self._idle:
            if self._away:
                return
            self._away = True
            while self._users:
                self._idle.wait()
        begun = time.monotonic()
        try:
            self._let_go()
            time.sleep(2 * _RETRY_SECONDS)  # who waits asks at least once
            self._shard, self.card = self._taken(time.monotonic() + _LONGEST_TURN_SECONDS)
        except RadSearchError as error:
            self._lost = error
            raise
        finally:
            low, high = _PAUSE_SECONDS
            self._next_turn = time.monotonic() + min(high, max(low, time.monotonic() - begun))
            with self._idle:
                self._away = False
                self._idle.notify_all()

    def is_wanted(self) -> bool:
        """Whether somebody waits for the folder."""
        return _somebody_waits(self._folder)

    def close(self) -> None:
        """Bring all to the disk and let go of the folder."""
        try:
            if self._lost is None:
                self._let_go()
        finally:
            self._unlock()

    def _let_go(self) -> None:
        try:
            self._shard.flush()
            note_files(self._folder)
            self._noted = True
        except BaseException as error:
            words = words_of_engine(error)
            if words is None:
                raise
            raise damaged(self._folder, words) from error
        finally:
            take_word_back(self._folder)
            self._shard.close()
            self._having.release()

    def _unlock(self) -> None:
        self._having.release()
        self._writing.release()

    def _taken(self, deadline: float, waiting: Callable[[], None] = lambda: None) -> tuple[edge.EdgeShard, IndexCard]:
        self._having.wait(deadline, waiting)
        try:
            card = read_card(self._folder)
            check_files(self._folder)
            require_room(self._folder, OPENING_BYTES)
            shard = self._load(card)
        except (OSError, ValueError) as error:
            self._having.release()
            raise RadSearchError(
                f"the card of the index in {self._folder} cannot be read ({type(error).__name__})"
            ) from error
        except BaseException as error:
            self._having.release()
            words = words_of_engine(error)
            if words is None:
                raise
            if "WouldBlock" in words:  # on a file system without locks, where nobody can wait
                raise _busy(self._folder) from error
            raise damaged(self._folder, words) from error
        leave_word(self._folder)
        return shard, card


class _Lock:
    """A lock on an index, of one process at a time; nobody has it after a kill."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._file = folder / f"{LOCK}{name}"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it; not on a file system without such locks."""
        return self._descriptor is not None

    def wait(self, deadline: float, waiting: Callable[[], None] = lambda: None) -> None:
        """Take it; `waiting` is called now and then meanwhile. Raises IndexBusyError where another one still has it."""
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise RadSearchError(
                f"the index in {self._folder} cannot be opened ({error.strerror}): also to search it one must be able "
                "to write there"
            ) from error
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise _busy(self._folder) from None
                    waiting()
                    time.sleep(_RETRY_SECONDS)
                else:
                    self._descriptor, descriptor = descriptor, -1
                    return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def release(self) -> None:
        """Let the next one have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _busy(folder: Path) -> IndexBusyError:
    return IndexBusyError(
        f"the index in {folder} is in use by another process{holder_of(folder)}; one at a time holds an "
        "embedded index: try again when it is done, or use a Qdrant server for more than one"
    )


@contextmanager
def _mark(folder: Path) -> Iterator[Callable[[], None]]:
    """Gives what makes and renews a mark that somebody waits for the folder."""
    mark = folder / f"{WAITING}{os.getpid()}-{threading.get_ident()}"

    def renew() -> None:
        with contextlib.suppress(OSError):  # a folder that may only be read
            mark.touch(mode=0o600)

    try:
        yield renew
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def _somebody_waits(folder: Path) -> bool:
    fresh = False
    for mark in folder.glob(f"{WAITING}*"):
        with contextlib.suppress(OSError):  # it has just got in
            if abs(time.time() - mark.stat().st_mtime) <= _FRESH_SECONDS:
                fresh = True
            else:
                mark.unlink()
    return fresh
