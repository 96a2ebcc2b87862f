"""The page as page_latency.py has it: served by a process of its own, looked at by Chromium."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from demo.serving import CHROMIUM, FLAGS, Served, end

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 120_000
POLL_MS = 25  # how far a wait may be taken too long; looking at every frame would take a core from what is measured
_START_SECONDS = 60.0
_SIZE = {"width": 1440, "height": 1000}
_IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


def resident_mb(page_of: Served) -> float:
    """Of the server's process."""
    status = Path(f"/proc/{page_of.process}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def processor_seconds(page_of: Served) -> float:
    """That the server's process has used, all threads together."""
    fields = Path(f"/proc/{page_of.process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    """A browser that several threads share; its address.

    Raises:
        TimeoutError: it ended, or did not start within a minute.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # its children may write on for a while
        command = [str(CHROMIUM), *FLAGS, "--headless", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:  # noqa: S603 -- ours
            port = Path(folder, "DevToolsActivePort")
            deadline = time.monotonic() + _START_SECONDS
            try:
                while not port.is_file() or not port.read_text(encoding="ascii"):
                    if browser.poll() is not None or time.monotonic() > deadline:
                        raise TimeoutError("the browser did not start")
                    time.sleep(0.05)
                yield f"http://localhost:{port.read_text(encoding='ascii').split()[0]}"
            finally:
                end(browser)
