"""The index as all sessions of the page share it: open while they ask, and let go of soon after.

One process at a time may have an embedded index, and opening it takes a second where it is large. So it stays open
between two clicks, but never so long that an ingest which waits for it gives up.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from radsearch.errors import DamagedIndexError, IndexBusyError, IndexUnreachableError
from radsearch.index import Index, open_index
from radsearch.settings import Settings

_IDLE_SECONDS = 1.5
_LONGEST_SECONDS = 4.0  # under the ten that an ingest waits
_GAP_SECONDS = 0.6  # who waits asks every 0.2 s
_SERVER_SECONDS = 60.0  # a server's index is everybody's; its card is to be read anew now and then
_BUSY_SECONDS = 2.0
_BROKEN = (DamagedIndexError, IndexUnreachableError)


class Lease:
    """One index, for the threads of this process."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._idle, self._longest, self._gap = (
            (_SERVER_SECONDS, _SERVER_SECONDS, 0.0)
            if settings.on_server
            else (_IDLE_SECONDS, _LONGEST_SECONDS, _GAP_SECONDS)
        )
        self._turn = threading.Condition()
        self._index: Index | None = None
        self._users = 0
        self._since = self._used = self._closed = 0.0
        self._refusal: tuple[float, IndexBusyError] | None = None

    @contextmanager
    def index(self) -> Iterator[Index]:
        """The open index; raises what `open_index` raises. All who wait for it wait once."""
        index = self._taken()
        try:
            yield index
        except _BROKEN:
            self._since = 0.0  # so that it is opened anew
            raise
        finally:
            with self._turn:
                self._users -= 1
                self._used = time.monotonic()
                self._close_if_due()
                self._turn.notify_all()

    def _taken(self) -> Index:
        with self._turn:
            while self._users and self._overdue():
                self._turn.wait()
            if self._index is not None and self._overdue():
                self._close()
            if self._index is None:
                self._index = self._opened()
            self._users += 1
            return self._index

    def _opened(self) -> Index:
        if self._refusal and time.monotonic() - self._refusal[0] < _BUSY_SECONDS:
            raise self._refusal[1]
        time.sleep(max(0.0, self._closed + self._gap - time.monotonic()) if self._was_long else 0.0)
        try:
            index = open_index(self._settings)
        except IndexBusyError as error:
            self._refusal = (time.monotonic(), error)
            raise
        self._since = time.monotonic()
        self._watch(self._idle)
        return index

    def _overdue(self) -> bool:
        return time.monotonic() - self._since > self._longest

    @property
    def _was_long(self) -> bool:
        return self._closed - self._since > self._longest

    def _close_if_due(self) -> None:
        if self._index is None or self._users:
            return
        left = self._used + self._idle - time.monotonic()
        if left <= 0 or self._overdue():
            self._close()

    def _watch(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._look)
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        with self._turn:
            self._close_if_due()
            if self._index is not None:
                self._watch(max(0.1, self._used + self._idle - time.monotonic()) if not self._users else self._idle)

    def _close(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            try:
                index.close()
            finally:
                self._closed = time.monotonic()
