"""The page, served as a user serves it, for whoever drives it in a browser: pictures, tests, benchmarks."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")  # Debian's
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 120.0
_ANSWER_SECONDS = 2.0
_END_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is served, by which process, and how many seconds it took till that answered."""

    address: str
    process: int
    seconds: float


@contextmanager
def served(**surroundings: str) -> Iterator[Served]:
    """Start `python -m ui` on a free port, and end it after the block.

    Args:
        surroundings: environment variables beside those that there are.

    Raises:
        TimeoutError: it did not start within two minutes.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ui", "--port", str(port)]
    environment = {**os.environ, **surroundings}
    begun = time.monotonic()
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL) as server:  # noqa: S603 -- ours  # nosec B603
        try:
            while not _answers(f"http://localhost:{port}/_stcore/health"):
                if server.poll() is not None or time.monotonic() - begun > _START_SECONDS:
                    raise TimeoutError("the page did not start")
                time.sleep(_PAUSE_SECONDS)
            yield Served(f"http://localhost:{port}", server.pid, time.monotonic() - begun)
        finally:
            end(server)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, and end it where it does not."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        _DIRECTLY.open(address, timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
