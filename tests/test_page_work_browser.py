"""Evaluation and Archive in a real browser: an ingest and an evaluation are started, end, and show what they made."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import NEEDED, opened

from demo.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

SECRET_NAME = "Mustermann-Erika"  # noqa: S105 -- a patient's name, as a file's
NASTY = "<img src=http://tracker.invalid/i.png onerror=alert(1)>"

pytestmark = NEEDED


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
    places = {
        "INDEX": tmp_path / "index", "REPORTS": tmp_path / "reports", "RUNS": tmp_path / "runs", "ARCHIVE": archive,
        "MANIFEST": archive / "manifest.csv", "DATASET": "ours",
    }  # fmt: skip
    with served(**{f"RADSEARCH_{name}": str(place) for name, place in places.items()}) as page_of:
        yield page_of.address


@pytest.fixture
def page(address: str) -> Iterator["Page"]:
    """A tab in which nothing is asked for from anywhere else, by no frame."""
    with opened(f"{address}/archive") as tab:
        yield tab


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
