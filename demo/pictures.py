"""`python -m demo.pictures`: the pictures of docs/page.md, of the page on the demo's index, taken in Chromium.

All images on them are the demo's own, which may be shown (demo/studies.py has their sources).
"""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from demo.serving import CHROMIUM, FLAGS, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

_FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
_SIZE = {"width": 1440, "height": 900}
_QUALITY = 80
_PATIENCE_MS = 60_000
_IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"
_DRAWN_MS = 1500  # what the browser still moves and fades in when all is there


def main() -> None:
    """Take them anew, all of them."""
    from playwright.sync_api import sync_playwright

    _FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as no_collections,
        served(RADSEARCH_SETTINGS=no_collections) as page_of,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for name, act in _PICTURES.items():
            tab = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type]
            tab.set_default_timeout(_PATIENCE_MS)
            act(tab, page_of.address)
            _settle(tab)
            _save(tab.screenshot(), _FOLDER / f"{name}.webp")
            tab.close()
        browser.close()


def _search(tab: "Page", address: str) -> None:
    """A slice with a tumour, and the judgement of two hits."""
    tab.goto(f"{address}/browse?pathology=Tumor")
    tab.locator(".st-key-images .rs-act-similar").nth(2).click()
    tab.locator(".st-key-hits .rs-card").first.wait_for()
    for action, judged, place in (("like", "liked", 1), ("unlike", "disliked", 3)):
        _settle(tab)
        tab.locator(f".st-key-hits .rs-act-{action}").nth(place).click()
        tab.locator(f".st-key-judged .rs-{judged}").wait_for()
    tab.mouse.move(0, 0)


def _study(tab: "Page", address: str) -> None:
    """The same kind of slice, large, with the lung's window."""
    tab.goto(f"{address}/browse?pathology=Tumor")
    tab.locator(".st-key-images .rs-act-open").nth(2).click()
    tab.locator(".view img").wait_for()
    tab.locator(".st-key-window-name").get_by_text("lung", exact=True).click()


def _map(tab: "Page", address: str) -> None:
    """All images of the demo, by modality."""
    tab.goto(f"{address}/map")
    tab.locator(".st-key-make-map button:visible").click()
    tab.locator(".stPlotlyChart .nsewdrag").wait_for()


_PICTURES: dict[str, Callable[["Page", str], None]] = {"search": _search, "study": _study, "map": _map}


def _settle(tab: "Page") -> None:
    tab.wait_for_timeout(_DRAWN_MS)
    tab.wait_for_selector(_IDLE)
    tab.wait_for_timeout(_DRAWN_MS)


def _save(picture: bytes, file: Path) -> None:
    Image.open(io.BytesIO(picture)).convert("RGB").save(file, "WEBP", quality=_QUALITY, method=6)


if __name__ == "__main__":
    main()
