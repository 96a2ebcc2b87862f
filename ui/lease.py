"""The index as all sessions of the page share it: open until another process wants it, or nobody has asked for long.

One process at a time may have an embedded index, and opening it takes a second where it is large. So it stays open, and
whoever else wants it is let in as soon as the questions that are being answered are.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from radsearch.errors import DamagedIndexError, IndexBusyError, IndexUnreachableError
from radsearch.index import Index, open_index
from radsearch.settings import Settings

_LOOK_SECONDS = 0.3  # between two looks at who waits
_IDLE_SECONDS = 600.0
_GAP_SECONDS = 0.6  # who waits asks every 0.2 s
_SERVER_SECONDS = 60.0  # a server's index is everybody's; its card is to be read anew now and then
_BUSY_SECONDS = 2.0
_BROKEN = (DamagedIndexError, IndexUnreachableError)


class Lease:
    """One index, for the threads of this process."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._turn = threading.Condition()
        self._index: Index | None = None
        self._users = 0
        self._due = False  # to be closed when its users are done
        self._since = self._used = self._free_until = self._gap = 0.0
        self._refusal: tuple[float, IndexBusyError] | None = None

    @contextmanager
    def index(self) -> Iterator[Index]:
        """The open index; raises what `open_index` raises. All who wait for it wait once."""
        index = self._taken()
        try:
            yield index
        except _BROKEN:
            self._due = True  # so that it is opened anew
            raise
        finally:
            with self._turn:
                self._users -= 1
                self._used = time.monotonic()
                try:
                    self._close_if_due()
                finally:
                    self._turn.notify_all()

    def _taken(self) -> Index:
        with self._turn:
            while self._users and self._due:
                self._turn.wait()
            self._close_if_due()
            if self._index is None:
                self._index = self._opened()
            self._users += 1
            return self._index

    def _opened(self) -> Index:
        if self._refusal and time.monotonic() - self._refusal[0] < _BUSY_SECONDS:
            raise self._refusal[1]
        time.sleep(max(0.0, self._free_until - time.monotonic()))
        try:
            index = open_index(self._settings)
        except IndexBusyError as error:
            self._refusal = (time.monotonic(), error)
            raise
        self._since = self._used = time.monotonic()
        self._due = False
        threading.Thread(target=self._look_after, args=(index,), daemon=True).start()
        return index

    def _look_after(self, index: Index) -> None:
        """Close it as soon as somebody else waits for it; ends with it."""
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                wanted = index.is_wanted()
            except OSError:  # of a share that is away for a moment
                wanted = False
            with self._turn:
                if self._index is not index:
                    return
                now = time.monotonic()
                idle = not self._users and now - self._used > _IDLE_SECONDS
                old = self._settings.on_server and now - self._since > _SERVER_SECONDS
                self._gap = max(self._gap, _GAP_SECONDS * wanted)
                self._due |= wanted or idle or old
                self._close_if_due()

    def _close_if_due(self) -> None:
        if self._index is None or self._users or not self._due:
            return
        index, self._index, self._due = self._index, None, False
        try:
            index.close()
        finally:
            self._free_until = time.monotonic() + self._gap
            self._gap = 0.0
