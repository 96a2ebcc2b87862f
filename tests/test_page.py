"""The page's logic, run by Streamlit's own test driver on a real index."""

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)


@pytest.fixture
def page(settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number),
                {MODEL.model: np.eye(4, dtype=np.float32)[number]},
                {"modality": "CT" if number < 2 else "US", "pathology": ["<b>Tumor</b>"], "patient": str(number)},
            )
            for number in range(4)
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    return AppTest.from_file(str(APP), default_timeout=30)


def test_page_opens_with_filters_that_carry_their_counts(page: AppTest) -> None:
    page.run()
    assert not page.exception
    assert page.sidebar.multiselect[0].options == ["CT (2)", "US (2)"]
    assert page.info[0].value == "Drop an image above, or name an indexed one."


def test_search_by_id_shows_all_others_under_the_filter(page: AppTest, pseudonymizer: Pseudonymizer) -> None:
    page.run()
    page.sidebar.multiselect[0].select("US")
    page.text_input[0].set_value(pseudonymizer.point_id("instance", 0)).run()
    assert not page.exception
    shown = page.dataframe[0].value
    assert list(shown["modality"]) == ["US", "US"]
    assert list(shown["rank"]) == [1, 2]


def test_nonsense_id_is_answered_with_a_sentence(page: AppTest) -> None:
    page.run()
    page.text_input[0].set_value("nonsense").run()
    assert not page.exception
    assert "no id of an indexed image" in page.error[0].value


def test_missing_index_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSEARCH_INDEX", str(tmp_path / "none"))
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not page.exception
    assert page.error[0].value.startswith("there is no index in")
