"""The page in a real browser, served as a user serves it: from an upload to an exported collection."""

import csv
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import NEEDED, act, cards, opened, press
from PIL import Image

from demo.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[1]
NASTY = "<b>Mass</b> ![i](http://tracker.invalid/i.png) **x** :smile:"

pytestmark = NEEDED


@pytest.fixture
def archive(tmp_path: Path, write_dicom: Callable[..., Path]) -> Path:
    """Twelve CT slices, eleven of which the manifest names, and four ultrasound pictures, all of other patients."""
    pixels = np.random.default_rng(0)
    rows = [["filepath", "patient", "modality", "region", "labels"]]
    for number in range(12):
        write_dicom(
            f"archive/slice-{number}.dcm",
            pixels.integers(-500, 500, (64, 64)).astype(np.int16),
            PatientID=f"MRN-{number}",
        )
        rows.append([f"slice-{number}.dcm", f"p{number}", "CT", "chest", NASTY])
    rows.pop()
    for number in range(4):
        Image.fromarray(pixels.integers(0, 255, (48, 48), dtype=np.uint8)).save(tmp_path / "archive" / f"{number}.png")
        rows.append([f"{number}.png", f"u{number}", "US", "lung", "No Finding"])
    with (tmp_path / "archive" / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path / "archive"


@pytest.fixture
def address(archive: Path, tmp_path: Path) -> Iterator[str]:
    index, manifest = str(tmp_path / "index"), str(archive / "manifest.csv")
    ingest = [sys.executable, "-m", "ingest", str(archive), "--manifest", manifest, "--index", index]
    surroundings = {"RADSEARCH_INDEX": index, "RADSEARCH_CATALOGUE": str(tmp_path / "catalogue.sqlite")}
    subprocess.run(ingest, cwd=ROOT, check=True, capture_output=True, env=os.environ | surroundings)
    with served(**surroundings) as page_of:
        yield page_of.address


@pytest.fixture
def page(address: str) -> Iterator["Page"]:
    """A tab in which nothing is asked for from anywhere else."""
    with opened(address) as tab:
        yield tab


def test_from_an_upload_to_an_exported_collection(page: "Page", address: str, archive: Path) -> None:
    from playwright.sync_api import expect

    page.set_input_files("input[type=file]", archive / "slice-11.dcm")
    cards(page, "hits").to_have_count(15)
    assert page.locator(".st-key-query img").count() == 1
    assert NASTY in page.locator(".st-key-hits").inner_text()

    page.locator(".st-key-field-modality input").click()
    page.get_by_role("option", name=re.compile("^US")).click()
    cards(page, "hits").to_have_count(4)
    expect(page).to_have_url(re.compile("modality=US"))
    press(page, "clear-filter")
    cards(page, "hits").to_have_count(15)

    act(page, "like")
    cards(page, "hits").to_have_count(14)
    act(page, "unlike", 1)
    cards(page, "hits").to_have_count(13)
    act(page, "similar")
    cards(page, "query").to_have_count(1)
    cards(page, "hits").to_have_count(14)
    expect(page).to_have_url(re.compile(r"\?id=[-0-9a-f]+$"))
    link = page.url

    act(page, "add")
    expect(page.locator("[data-testid=stToast]").first).to_contain_text("Added to Collection 1")
    act(page, "open")
    expect(page.locator(".view img")).to_be_visible()
    page.goto(link)
    cards(page, "hits").to_have_count(14)
    page.goto(f"{address}/collections")
    cards(page, "saved").to_have_count(1)
    with page.expect_download() as taken:
        press(page, "take-zip")
    with zipfile.ZipFile(io.BytesIO(Path(taken.value.path()).read_bytes())) as taken_away:
        rows = list(csv.DictReader(io.StringIO(taken_away.read("manifest.csv").decode("utf-8"))))
    assert [row["modality"] in ("CT", "US") for row in rows] == [True]


def drag(page: "Page", box: "Locator", start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place to another, in shares of the box."""
    edges = box.bounding_box()
    assert edges is not None
    for place, (across, down) in enumerate((start, end)):
        page.mouse.move(edges["x"] + across * edges["width"], edges["y"] + down * edges["height"], steps=5)
        (page.mouse.up if place else page.mouse.down)()


def test_the_window_is_dragged_and_a_part_is_searched_by(page: "Page", address: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"{address}/browse?modality=CT")
    cards(page, "images").to_have_count(11)
    act(page, "open")
    picture = page.locator(".view img")
    expect(picture).to_be_visible()
    before = picture.get_attribute("src")
    drag(page, page.locator(".view"), (0.5, 0.5), (0.7, 0.4))
    expect(page).to_have_url(re.compile("window="))
    expect(picture).not_to_have_attribute("src", before or "")
    page.locator(".view").press("+")
    expect(page.locator(".told")).to_contain_text("1.3 x")

    press(page, "similar-large")
    cards(page, "hits").to_have_count(10)
    act(page, "part")
    view = page.get_by_role("dialog").locator(".view")
    expect(view.locator("img")).to_be_visible()
    drag(page, view, (0.45, 0.3), (0.6, 0.8))
    press(page, "part-search")
    expect(page).to_have_url(re.compile("part="))
    expect(page.locator(".st-key-query")).to_contain_text("part of the query")
    cards(page, "hits").to_have_count(10)


def test_a_bar_filters_what_is_browsed_and_a_zip_is_answered_with_a_sentence(page: "Page", address: str) -> None:
    from playwright.sync_api import expect

    page.set_input_files("input[type=file]", {"name": "x.zip", "mimeType": "", "buffer": b"PK\3\4rest"})
    expect(page.get_by_role("alert").first).to_contain_text("cannot be searched by")
    page.goto(f"{address}/browse")
    cards(page, "images").to_have_count(15)
    page.locator(".st-key-facets .rs-bar").filter(has_text="US").click()
    expect(page).to_have_url(re.compile("modality="))
