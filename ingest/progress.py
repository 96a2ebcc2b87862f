"""Progress: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ingest.report import Accounts

_PLAIN_EVERY_SECONDS = 10.0


class Progress:
    """Call it whenever something may have changed. Files are counted in the background, so that work starts at once."""

    def __init__(self, accounts: Accounts, count_files: Callable[[], int]) -> None:
        self._accounts = accounts
        self._count_files = count_files
        self._total: int | None = None
        self._begun = self._last_line = time.monotonic()
        self._bar = tqdm(unit="file", smoothing=0.1, file=sys.stderr) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self) -> None:
        done = self._accounts.done()
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._last_line >= _PLAIN_EVERY_SECONDS:
            self._last_line = time.monotonic()
            sys.stderr.write(self._line(done) + "\n")
            sys.stderr.flush()

    def _line(self, done: int) -> str:
        seconds = self._last_line - self._begun
        rate = done / seconds
        if self._total is None or not rate:
            return f"{done} files, {rate:.1f} files/s"
        left = max(0, self._total - done) / rate
        return f"{done} of {self._total} files, {rate:.1f} files/s, {left:.0f} s left"

    def _count(self) -> None:
        try:
            self._total = self._count_files()
        except Exception:  # noqa: BLE001 -- the run itself meets the same fault and says it
            self._total = None
