"""The map in a real browser: made by a click, drawn, and a box around its points gives their cards."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import NEEDED, opened, press

from demo.serving import served
from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint

if TYPE_CHECKING:
    from playwright.sync_api import Page

MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 8, "none", "float32", 1)
IMAGES, OF_CT = 60, 40
NASTY = "<img src=x onerror=alert(1)> ![i](http://tracker.invalid/i.png)"

pytestmark = NEEDED


@pytest.fixture
def address(settings: Settings, pseudonymizer: Pseudonymizer) -> Iterator[str]:
    """Forty CT images around one direction and twenty of ultrasound around another."""
    noise = np.random.default_rng(0).normal(0, 0.05, (IMAGES, 8)).astype(np.float32)
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number),
                {MODEL.model: np.eye(8, dtype=np.float32)[int(number < OF_CT)] + noise[number]},
                {
                    "modality": "CT" if number < OF_CT else "US", "pathology": [NASTY], "patient": str(number),
                    "models": [MODEL.model],
                },
            )
            for number in range(IMAGES)
        ])  # fmt: skip
    with served(RADSEARCH_INDEX=settings.index) as page_of:
        yield page_of.address


def drag(page: "Page", corners: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """From one corner of the chart to another, as parts of its width and height."""
    box = page.locator(".stPlotlyChart .nsewdrag").bounding_box()
    assert box is not None
    (left, top), (right, bottom) = (
        (box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in corners
    )
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(right, bottom, steps=5)
    page.mouse.up()


def test_a_box_around_points_gives_their_cards(address: str) -> None:
    from playwright.sync_api import expect

    with opened(f"{address}/map") as page:
        press(page, "make-map")
        expect(page.locator(".stPlotlyChart .nsewdrag")).to_be_visible()
        words = "Images as points, those alike near each other, coloured by modality. CT: 40, US: 20."
        expect(page.locator(".stPlotlyChart")).to_have_attribute("aria-label", words)
        page.locator(".modebar-btn[data-val=select]").click()
        drag(page, ((0.02, 0.02), (0.5, 0.98)))  # the two kinds lie left and right of the middle
        cards = page.locator(".st-key-taken .rs-card")
        expect(cards).not_to_have_count(0)
        taken = {card.split()[0] for card in cards.all_inner_texts() if card.strip()}
        assert len(taken) == 1
        drag(page, ((0.98, 0.99), (0.01, 0.01)))  # from outside of the first, which would be moved else
        expect(page.get_by_text("60 images taken")).to_be_visible()
        expect(cards).to_have_count(24)
        assert page.locator(".stPlotlyChart img, .st-key-taken img").count() == 0
