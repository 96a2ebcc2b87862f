"""The page's search where scores were calibrated: how probable a hit is, and nothing where nothing is alike."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_driver import ask, cards, hits
from streamlit.testing.v1 import AppTest

from radsearch.audit import Audit
from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.reading import choice_of, identify
from radsearch.search.calibration import Calibration, Curve, keep
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Hit
from ui import searching
from ui.cards import Shown, card_of
from ui.state import State, query_of, state_of

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)
BASE = replace(MODEL, model="efficientnet-lite1")
MADE = {"queries": 4, "patients": 4, "date": "2026-11-26", "ece": 0.01}
LINE = {"": Curve(((0.0, 0.2), (1.0, 0.8)))}

slow = pytest.mark.slow  # whole pages, each on an index of its own


def test_a_card_says_in_words_how_probable_its_hit_is_where_that_is_known() -> None:
    hit = Hit("id", 0.5, 1, Facts())
    assert card_of(Shown.of_hit(hit))["probable"] == ""
    assert card_of(Shown.of_hit(replace(hit, probability=0.734)))["probable"] == "shares the finding: 73 %"


def test_insisting_is_in_the_address_and_ends_with_the_search_that_it_was_for() -> None:
    insisting = State(ids=("a",), anyway=True)
    assert query_of(insisting)["anyway"] == ["1"]
    assert state_of({"anyway": ["1"]}).anyway
    assert not state_of({"anyway": ["yes"]}).anyway
    assert insisting.having(shown=48).anyway
    assert not insisting.similar_to("b").anyway
    assert not insisting.without_example("ids", "a").anyway


@pytest.fixture
def content(write_png: Callable[..., Path]) -> bytes:
    return write_png().read_bytes()


@pytest.fixture
def page(
    settings: Settings,
    pseudonymizer: Pseudonymizer,
    monkeypatch: pytest.MonkeyPatch,
    write_png: Callable[..., Path],
) -> AppTest:
    """Four images at right angles; the first is the file that is uploaded, so that no model is needed for it."""
    written = identify(write_png(), pseudonymizer, name="", choice=choice_of(settings)).content
    with open_index(settings, create_for=[MODEL, BASE]) as index:
        index.admit([MODEL, BASE], pseudonymizer.check)
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number),
                {model.model: np.eye(4, dtype=np.float32)[number] for model in (MODEL, BASE)},
                {
                    "modality": "CT", "patient": str(number), "frame": 1, "models": [MODEL.model, BASE.model],
                    **({"content": written} if number == 0 else {}),
                },
            )
            for number in range(4)
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    return AppTest.from_file(str(APP), default_timeout=30)


def calibrate(settings: Settings, least: float, *, space: Fingerprint = MODEL) -> None:
    keep(settings.settings_folder, str(settings.index_folder), Calibration(MODEL, space, LINE, {"": least}, MADE))


def upload(page: AppTest, content: bytes) -> AppTest:
    page.run()
    page.file_uploader[0].upload("picture.png", content).run()
    assert not page.exception
    assert not page.error
    return page


@slow
def test_hits_say_how_probable_they_are(page: AppTest, settings: Settings, content: bytes) -> None:
    calibrate(settings, -1.0)
    upload(page, content)
    assert [card["probable"] for card in cards(page, among="like")] == ["shares the finding: 20 %"] * 3
    ask(page, "like", hits(page)[0])  # the middle of two images is at other scores
    assert [card["probable"] for card in cards(page, among="like")] == [""] * 2


@slow
@pytest.mark.parametrize("space", [MODEL, BASE])
def test_nothing_is_shown_where_nothing_is_similar_enough_until_that_is_asked_for(
    page: AppTest, settings: Settings, content: bytes, space: Fingerprint
) -> None:
    calibrate(settings, 0.5, space=space)
    upload(page, content)
    assert hits(page) == []
    said = page.info[0].value.replace("\\", "")
    assert said.startswith("Nothing similar enough in this archive: the nearest image, CT,")
    assert "0.500 is the least" in said
    page.button(key="anyway").click().run()
    assert not page.exception
    assert len(hits(page)) == 3
    assert page.query_params["anyway"] in ("1", ["1"])
    assert not page.info
    ask(page, "drop", cards(page, among="drop")[0]["id"])
    assert "anyway" not in page.query_params


@slow
def test_the_model_that_strangers_are_told_by_is_ready_before_the_index_is_held(
    page: AppTest, settings: Settings, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: list[str] = []
    monkeypatch.setattr(searching, "_make_ready", lambda name, *_: ready.append(name))
    calibrate(settings, 0.5, space=BASE)
    upload(page, content)
    assert ready == [MODEL.model, BASE.model]


@slow
def test_a_calibration_of_another_model_is_left_out_and_said(page: AppTest, settings: Settings, content: bytes) -> None:
    calibrate(settings, 0.5, space=replace(BASE, weights="sha256:1"))
    upload(page, content)
    assert [card["probable"] for card in cards(page, among="like")] == [""] * 3
    assert any("is left out" in one.value for one in page.caption)


@slow
def test_an_indexed_image_is_searched_by_without_that_question(
    page: AppTest, settings: Settings, pseudonymizer: Pseudonymizer
) -> None:
    calibrate(settings, 0.5)
    page.query_params["id"] = pseudonymizer.point_id("instance", 0)
    page.run()
    assert not page.exception
    assert len(hits(page)) == 3


@slow
def test_what_was_not_shown_is_no_hit_in_the_audit(
    page: AppTest, settings: Settings, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(settings, 0.5)
    noted: list[dict[str, object]] = []
    monkeypatch.setattr(Audit, "note", lambda _self, action, **said: noted.append({"action": action, **said}))
    upload(page, content)
    assert [one["hits"] for one in noted if one["action"] == "search"] == [[]]
