"""Evaluation and Archive in a real browser: an ingest and an evaluation are started, end, and show what they made."""

import csv
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ROOT = Path(__file__).parents[1]
SECRET_NAME = "Mustermann-Erika"  # noqa: S105 -- a patient's name, as a file's
NASTY = "<img src=http://tracker.invalid/i.png onerror=alert(1)>"
START_SECONDS, PATIENCE_MS = 60, 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium in {CHROMIUM} (apt-get install chromium)"),
]


@pytest.fixture
def archive(tmp_path: Path, write_dicom: Callable[..., Path]) -> Path:
    """Twelve CT slices of twelve patients with two findings, and one file that is empty."""
    noise = np.random.default_rng(0)
    rows = [["filepath", "patient", "modality", "region", "labels"]]
    for number in range(12):
        pixels = noise.integers(-500, 500, (64, 64)).astype(np.int16)
        write_dicom(f"archive/slice-{number}.dcm", pixels, PatientID=f"MRN-{number}")
        rows.append([f"slice-{number}.dcm", f"p{number}", "CT", "chest", NASTY if number % 2 else "No Finding"])
    (tmp_path / "archive" / f"{SECRET_NAME}.dcm").touch()
    rows.append([f"{SECRET_NAME}.dcm", "p12", "CT", "chest", "Mass"])
    with (tmp_path / "archive" / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path / "archive"


@pytest.fixture
def address(archive: Path, tmp_path: Path) -> Iterator[str]:
    """The page, served as a user serves it, of an index that is not there yet."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    places = {
        "INDEX": tmp_path / "index", "REPORTS": tmp_path / "reports", "RUNS": tmp_path / "runs", "ARCHIVE": archive,
        "MANIFEST": archive / "manifest.csv", "DATASET": "ours",
    }  # fmt: skip
    environment = {**os.environ, **{f"RADSEARCH_{name}": str(place) for name, place in places.items()}}
    command = [sys.executable, "-m", "ui", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:
        try:
            _wait_for(f"http://localhost:{port}/_stcore/health")
            yield f"http://localhost:{port}"
        finally:
            server.terminate()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(address).close()  # noqa: S310 -- our own server
        except OSError:
            assert time.monotonic() < deadline, "the page did not start"
            time.sleep(0.2)
        else:
            return


@pytest.fixture
def page(address: str) -> Iterator["Page"]:
    """A tab in which nothing is asked for from anywhere else, by no frame."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    asked: set[str] = set()
    with sync_playwright() as driver, driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS) as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 1200})
        tab.set_default_timeout(PATIENCE_MS)
        tab.on("request", lambda request: asked.add(urlsplit(request.url).hostname or "data"))
        tab.goto(f"{address}/archive")
        yield tab
        assert tab.locator("[data-testid=stException]").count() == 0
    assert asked <= {"localhost", "data"}


def test_an_ingest_and_an_evaluation_are_started_and_the_report_is_opened(
    page: "Page", address: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page.locator(".st-key-start-ingest button").click()
    expect(page.locator(".st-key-job-ingest")).to_contain_text("Ingest at work")
    done = page.get_by_test_id("stAlert").filter(has_text="The ingest of")
    expect(done).to_contain_text("12 indexed, 0 unchanged, 0 skipped, 1 refused")
    expect(page.locator(".rs-facts")).to_contain_text("12")
    assert SECRET_NAME not in page.content()
    assert len(list((tmp_path / "reports").glob("*.json"))) == 1

    page.goto(f"{address}/evaluation")
    page.get_by_text("Measure a model of the index").click()
    page.locator(".st-key-start-evaluation button").click()
    expect(page.get_by_test_id("stAlert").filter(has_text="The evaluation of")).to_contain_text("12 queries")
    expect(page.locator(".st-key-misses .rs-card").first).to_be_visible()

    page.locator(".st-key-show-report label").click()
    report = page.frame_locator("iframe[title^='Report of']").frame_locator("iframe")
    expect(report.locator("h1")).to_have_text("efficientnet-lite0: leave-patient-out")
    with page.expect_download() as taken:
        page.locator(".st-key-take-report button").click()
    assert Path(taken.value.path()).read_bytes().startswith(b"<!")


def test_an_ingest_that_was_stopped_says_so_and_can_be_started_again(page: "Page") -> None:
    from playwright.sync_api import expect

    page.locator(".st-key-start-ingest button").click()
    page.locator(".st-key-stop-ingest button:visible").click()
    expect(page.get_by_test_id("stAlert").filter(has_text="The ingest of")).to_be_visible()
    expect(page.locator(".st-key-start-ingest button")).to_be_enabled()
