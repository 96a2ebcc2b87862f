"""Where a hit matches what is searched by, in a dialog of the page, run by Streamlit's own test driver."""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from gallery_driver import ask, cards, hits
from inline_pool import InlinePool
from patch_models import add_patch_model
from PIL import Image
from streamlit.testing.v1 import AppTest

from radsearch.catalogue import Catalogue
from radsearch.index import IndexedImage, open_index
from radsearch.models.base import load_model
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify
from radsearch.rendering import apart
from radsearch.settings import Settings
from radsearch.thumbnails import FOLDER, Thumbnails, thumbnail_of
from ui.searching import read_upload

pytestmark = pytest.mark.slow  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
ACCESS = '[groups]\nour-group = ["ours"]\n'


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    st.cache_data.clear()
    apart.close_readers()
    monkeypatch.setattr(apart, "IsolatedPool", InlinePool)
    for name, value in {"MODELS": tmp_path / "models", "MODEL": "patchy", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"RADSEARCH_{name}", str(value))
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "3")
    spec = add_patch_model(monkeypatch, tmp_path / "models")
    assert spec.name == "patchy"
    yield
    apart.close_readers()


@pytest.fixture
def files(write_png: Callable[..., Path]) -> list[Path]:
    """Three grey pictures, each with a white patch elsewhere."""
    pictures = [np.full((32, 32), 60, np.uint8) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture[8 * number : 8 * number + 8, :8] = 255
    return [write_png(f"Mustermann-{number}.png", picture) for number, picture in enumerate(pictures)]


@pytest.fixture
def ids(
    files: list[Path], settings: Settings, pseudonymizer: Pseudonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """All are indexed with thumbnails, the last one in a data set of its own; the catalogue knows their files."""
    from radsearch.models import built_in_models

    held = load_model(built_in_models()["patchy"], models_folder=tmp_path / "models", device="cpu").fingerprint
    known = [identify(file, pseudonymizer, name=str(file)) for file in files]
    points = [pseudonymizer.point_id(identity.instance, 1) for identity in known]
    thumbnails = Thumbnails(settings.index_folder / FOLDER)
    with open_index(settings, create_for=[held]) as index:
        index.admit([held], pseudonymizer.check)
        index.write([
            IndexedImage(
                point, {"patchy": np.array([0.8, 0.6], np.float32)},
                {
                    "modality": "CT", "patient": point, "instance": identity.instance, "content": identity.content,
                    "frame": 1, "dataset": "theirs" if number == 2 else "ours", "models": ["patchy"],
                    "thumbnail": thumbnails.write(thumbnail_of(np.asarray(Image.open(files[number])))),
                },
            )
            for number, (point, identity) in enumerate(zip(points, known, strict=True))
        ])  # fmt: skip
    Catalogue(tmp_path / "catalogue.sqlite").record(
        [(identity.instance, file) for identity, file in zip(known, files, strict=True)]
    )
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    monkeypatch.setenv("RADSEARCH_CATALOGUE", str(tmp_path / "catalogue.sqlite"))
    monkeypatch.setenv("RADSEARCH_AUDIT", str(tmp_path / "audit.jsonl"))
    return points


@pytest.fixture
def page(ids: list[str]) -> AppTest:
    """A search by the first image."""
    page = AppTest.from_file(str(APP), default_timeout=60)
    page.query_params["id"] = ids[0]
    return page.run()


def shown(page: AppTest) -> list[np.ndarray]:
    """The dialog's pictures, the query's first."""
    assert not page.exception
    told = [json.loads(one.proto.json) for one in page.get("bidi_component") if "viewer" in one.proto.component_name]
    content = [base64.b64decode(one["address"].partition("base64,")[2]) for one in told]
    return [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")).astype(int) for one in content]


def said(page: AppTest) -> str:
    return "\n".join(one.value for one in (*page.markdown, *page.caption, *page.error))


def colourful(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=2) - picture.min(axis=2)


def opened(folder: Path) -> list[list[str]]:
    lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    return [sorted(line["ids"]) for line in lines if line["action"] == "open"]


def test_the_heat_lies_on_what_both_pictures_have(page: AppTest, ids: list[str], tmp_path: Path) -> None:
    assert not shown(page)
    ask(page, "match", ids[1])
    of_query, of_hit = shown(page)
    for number, picture in enumerate((of_query, of_hit)):
        bright = picture[160 * number + 60 : 160 * number + 100, 60:100]
        assert colourful(bright).mean() > 2 * colourful(picture[500:600, 500:600]).mean()
    assert "Cosine 1.000 by patchy. The brightest place adds 0." in said(page)
    assert "all that is searched by together" not in said(page)
    assert "does not find disease" in said(page)
    assert "thumbnail" not in said(page)
    assert opened(tmp_path) == [sorted(ids[:2])]


def test_the_overlay_can_be_taken_off_and_nothing_is_worked_out_again(
    page: AppTest, ids: list[str], tmp_path: Path
) -> None:
    ask(page, "match", ids[1])
    page.toggle(key="match-heat").set_value(False).run()
    plain = shown(page)
    assert [colourful(picture).max() <= 3 for picture in plain] == [True, True]
    assert len(opened(tmp_path)) == 1


def test_an_uploaded_file_is_compared_as_it_was_rendered(page: AppTest, ids: list[str], files: list[Path]) -> None:
    settings = Settings(secret="a-secret-for-tests-of-more-than-32-characters")  # noqa: S106 -- protects nothing
    page.query_params.pop("id")
    page.session_state["uploads"] = [read_upload(files[2].read_bytes(), settings)]
    page.run()
    ask(page, "match", ids[0])
    of_query, _ = shown(page)
    assert colourful(of_query[380:420, 60:100]).mean() > 2 * colourful(of_query[60:100, 60:100]).mean()


def test_without_a_catalogue_the_thumbnails_are_compared_and_it_is_said(
    page: AppTest, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RADSEARCH_CATALOGUE")
    ask(page.run(), "match", ids[1])
    assert len(shown(page)) == 2
    assert "Of the query the thumbnail is taken" in said(page)
    assert "Of the hit the thumbnail is taken" in said(page)


def test_an_original_that_is_gone_leaves_its_thumbnail_and_a_sentence(
    page: AppTest, ids: list[str], files: list[Path]
) -> None:
    files[1].unlink()
    ask(page, "match", ids[1])
    assert len(shown(page)) == 2
    assert "not where it was" in said(page)
    assert "Of the query the thumbnail" not in said(page)
    assert "Mustermann" not in said(page)


def test_of_several_queries_one_is_chosen(page: AppTest, ids: list[str]) -> None:
    ask(page, "like", ids[1])
    ask(page, "match", ids[2])
    assert page.selectbox(key="match-query").options == ["image 1", "liked 1"]
    assert "all that is searched by together" in said(page)
    first = shown(page)[0]
    page.selectbox(key="match-query").set_value("liked 1").run()
    assert not np.array_equal(shown(page)[0], first)


def test_another_search_closes_it(page: AppTest, ids: list[str]) -> None:
    ask(page, "match", ids[1])
    ask(page, "similar", ids[1])
    assert shown(page) == []
    assert set(hits(page)) == {ids[0], ids[2]}


def test_without_a_query_there_is_nothing_to_match(page: AppTest) -> None:
    page.query_params.pop("id")
    assert cards(page.run())
    assert cards(page, among="match") == []


def test_a_model_without_patches_is_said_to_be_one(
    page: AppTest, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from radsearch.models.base import Embedder
    from radsearch.models.patches import map_of

    def none(self: Embedder, _: Any) -> None:
        network = type(self._network)(self._network.module, lambda batch: batch.flatten(1))
        map_of(network, self.spec, self._one(np.zeros((16, 16), np.uint8)))

    monkeypatch.setattr(Embedder, "maps", none)
    ask(page, "match", ids[1])
    assert shown(page) == []
    assert "Patchy gives no features by patch" in said(page)


def test_the_other_sides_image_is_not_there(ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a browser asks for: as a hit, or as what is searched by."""
    (tmp_path / "access.toml").write_text(ACCESS)
    monkeypatch.setenv("RADSEARCH_ACCESS", str(tmp_path / "access.toml"))
    page = AppTest.from_file(str(APP), default_timeout=60)
    page.secrets = {"auth": {"client_id": "radsearch"}}
    page.user = {"is_logged_in": True, "sub": "anna", "iat": int(time.time()), "groups": ["our-group"]}
    page.query_params["id"] = ids[0]
    page.run()
    assert hits(page) == [ids[1]]
    page.session_state["asked"] = ("match", ids[2], None)
    page.run()
    assert shown(page) == []
    assert "No image of that id is in the index" in said(page)
    page.query_params["like"] = ids[2]
    page.run()
    page.session_state["asked"] = ("match", ids[1], None)
    page.run()
    assert not any(ids[2] in point for points in opened(tmp_path) for point in points)
    ask_own = AppTest.from_file(str(APP), default_timeout=60)
    ask_own.secrets, ask_own.user = page.secrets, page.user
    ask_own.query_params["id"] = ids[0]
    assert len(shown(ask(ask_own.run(), "match", ids[1]))) == 2
