"""Progress on stderr: a bar with rate and time left on a terminal, else a plain line now and then, or JSON lines."""

import json
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ingest.report import Accounts

_PLAIN_EVERY_SECONDS = 10.0
_JSON_EVERY_SECONDS = 1.0


class Progress:
    """Call it whenever something may have changed. Files are counted in the background, so that work starts at once.

    As JSON it is an object a line, one a second at most, and one at the end: `done` (files), `total` (files, null
    until they are counted), `files_per_second`, `seconds_left` (null while it is not known).
    """

    def __init__(self, accounts: Accounts, count_files: Callable[[], int], *, as_json: bool = False) -> None:
        self._accounts = accounts
        self._count_files = count_files
        self._total: int | None = None
        self._begun = self._last_line = time.monotonic()
        self._as_json = as_json
        self._bar = tqdm(unit="file", smoothing=0.1, file=sys.stderr) if sys.stderr.isatty() and not as_json else None

    def __enter__(self) -> Self:
        threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._as_json:
            self._write_line()

    def __call__(self) -> None:
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.update(self._accounts.done() - self._bar.n)
        elif time.monotonic() - self._last_line >= (_JSON_EVERY_SECONDS if self._as_json else _PLAIN_EVERY_SECONDS):
            self._write_line()

    def _write_line(self) -> None:
        self._last_line = time.monotonic()
        done = self._accounts.done()
        sys.stderr.write((self._object(done) if self._as_json else self._line(done)) + "\n")
        sys.stderr.flush()

    def _line(self, done: int) -> str:
        rate, left = self._rate(done), self._seconds_left(done)
        if self._total is None or left is None:
            return f"{done} files, {rate:.1f} files/s"
        return f"{done} of {self._total} files, {rate:.1f} files/s, {left:.0f} s left"

    def _object(self, done: int) -> str:
        left = self._seconds_left(done)
        return json.dumps({
            "done": done,
            "total": self._total,
            "files_per_second": round(self._rate(done), 2),
            "seconds_left": None if left is None else round(left, 1),
        })  # fmt: skip

    def _rate(self, done: int) -> float:
        seconds = self._last_line - self._begun
        return done / seconds if seconds else 0.0

    def _seconds_left(self, done: int) -> float | None:
        rate = self._rate(done)
        return None if self._total is None or not rate else max(0, self._total - done) / rate

    def _count(self) -> None:
        try:
            self._total = self._count_files()
        except Exception:  # noqa: BLE001 -- the run itself meets the same fault and says it
            self._total = None
