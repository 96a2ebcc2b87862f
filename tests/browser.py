"""A tab of a real browser that notices whether anything is asked for from anywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from demo.serving import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import LocatorAssertions, Page

PATIENCE_MS = 60_000
NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium in {CHROMIUM} (apt-get install chromium)"),
]


@contextmanager
def opened(address: str) -> Iterator["Page"]:
    """The tab; at its end no traceback may be shown, and no other host have been asked, by any frame."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    asked: set[str] = set()
    with sync_playwright() as driver, driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS) as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        tab.set_default_timeout(PATIENCE_MS)
        tab.on("request", lambda request: asked.add(urlsplit(request.url).hostname or "data"))
        tab.goto(address)
        yield tab
        assert tab.locator("[data-testid=stException]").count() == 0
    assert asked <= {"localhost", "data"}


def press(page: "Page", name: str) -> None:
    """Press the button whose key begins so."""
    page.locator(f"[class*=st-key-{name}] button:visible").first.click()


def act(page: "Page", name: str, place: int = 0) -> None:
    """Press the button of that name below an image."""
    page.locator(f".rs-act-{name}:visible").nth(place).click()


def cards(page: "Page", grid: str) -> "LocatorAssertions":
    """What is to be expected of the cards of a grid."""
    from playwright.sync_api import expect

    return expect(page.locator(f".st-key-{grid} .rs-card"))
