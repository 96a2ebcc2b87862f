"""The page, served as a user serves it, for whoever drives it in a browser: pictures, tests, benchmarks."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60.0


@contextmanager
def served(**surroundings: str) -> Iterator[str]:
    """Start `python -m ui` on a free port; gives its address, and ends it.

    Args:
        surroundings: environment variables beside those that there are.

    Raises:
        TimeoutError: it did not start within a minute.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ui", "--port", str(port)]
    environment: Mapping[str, str] = {**os.environ, **surroundings}
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL) as server:  # noqa: S603 -- ours
        try:
            _wait_for(f"http://localhost:{port}/_stcore/health")
            yield f"http://localhost:{port}"
        finally:
            server.terminate()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(address).close()  # noqa: S310 -- our own server
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError("the page did not start") from None
            time.sleep(0.1)
        else:
            return
