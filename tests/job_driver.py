"""Waits for jobs of the page."""

import time
from typing import Any

from ui.jobs import Jobs, Told

PATIENCE_SECONDS = 90


def ended(jobs: Jobs, kind: Any) -> Told:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while jobs.running(kind):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    told = jobs.told(kind)
    assert told is not None
    return told
