"""The page as page_latency.py has it: served by a process of its own, looked at by Chromium."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 120_000
POLL_MS = 25  # how far a wait may be taken too long; looking at every frame would take a core from what is measured
_SIZE = {"width": 1440, "height": 1000}
_IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is served, by which process, and how long it took till that answered."""

    address: str
    process: int
    seconds: float

    def resident_mb(self) -> float:
        """Of the server's process."""
        status = Path(f"/proc/{self.process}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6

    def processor_seconds(self) -> float:
        """That the server's process has used, all threads together."""
        fields = Path(f"/proc/{self.process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(environment: dict[str, str]) -> Iterator[Served]:
    """Serve the page until the end of the block."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    begun = time.perf_counter()
    command = [sys.executable, "-m", "ui", "--port", str(port)]
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            while not _answers(f"http://localhost:{port}/_stcore/health"):
                if server.poll() is not None or time.perf_counter() - begun > PATIENCE_MS / 1000:
                    raise SystemExit("the page did not start")
                time.sleep(0.02)
            yield Served(f"http://localhost:{port}", server.pid, time.perf_counter() - begun)
        finally:
            server.terminate()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address).close()  # noqa: S310 -- our own server
    except OSError:
        return False
    return True


def tab_of(browser: "Browser") -> "Page":
    """A visitor with a browser of his own: nothing cached, no state."""
    tab = browser.new_context(viewport=_SIZE).new_page()  # type: ignore[arg-type]
    tab.set_default_timeout(PATIENCE_MS)
    return tab


def settle(tab: "Page", grid: str | None = None, condition: str = "cards => cards.length > 0") -> None:
    """Wait until the app is idle and the cards of a grid are as the condition says."""
    tab.wait_for_selector(_IDLE)
    if grid is not None:
        script = f"""() => document.querySelector("{_IDLE}") &&
            ({condition})([...document.querySelectorAll(".st-key-{grid} .rs-card")].map(card => card.textContent))"""
        tab.wait_for_function(script, polling=POLL_MS)


@contextmanager
def one_browser() -> Iterator[str]:
    """A browser that several threads share; its address."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # its children may write on for a while
        command = [CHROMIUM, *FLAGS, "--headless", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:  # noqa: S603
            port = Path(folder, "DevToolsActivePort")
            try:
                while not port.is_file() or not port.read_text(encoding="ascii"):
                    time.sleep(0.05)
                yield f"http://localhost:{port.read_text(encoding='ascii').split()[0]}"
            finally:
                browser.terminate()
                browser.wait()
