"""The Study page on an indexed file whose original the catalogue knows, run by Streamlit's own test driver."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from radsearch.catalogue import Catalogue
from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify
from radsearch.rendering.apart import close_readers
from radsearch.settings import Settings
from radsearch.study import Fingerprint

pytestmark = pytest.mark.slow  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)
STUDY = "1.2.826.0.1.3680043.8.498.7"


@pytest.fixture(autouse=True, scope="module")
def _no_reader_is_left() -> Iterator[None]:
    yield
    close_readers()


@pytest.fixture
def file(write_dicom: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    """Two frames of a CT in HU, from -1000 to 1000, and one of a single value; a test may give it further elements."""
    rising = np.linspace(-1000, 1000, 2 * 16 * 16).reshape(2, 16, 16)
    slices = np.concatenate([rising, np.full((1, 16, 16), 7)]).astype(np.int16)
    return write_dicom(
        "MRN-77.dcm", slices, Modality="CT", StudyInstanceUID=STUDY, RescaleSlope=1, RescaleIntercept=0,
        **getattr(request, "param", {}),
    )  # fmt: skip


@pytest.fixture
def page(
    file: Path, tmp_path: Path, settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch
) -> AppTest:
    identity = identify(file, pseudonymizer, name=str(file))
    Catalogue(tmp_path / "catalogue.sqlite").record([(identity.instance, file)])
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        index.write([
            IndexedImage(
                pseudonymizer.point_id(identity.instance, number),
                {MODEL.model: np.eye(4, dtype=np.float32)[number]},
                {
                    "modality": "CT", "series": "one", "instance": identity.instance, "content": identity.content,
                    "frame": number, "frames": 3,
                },
            )
            for number in (1, 2)
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    monkeypatch.setenv("RADSEARCH_CATALOGUE", str(tmp_path / "catalogue.sqlite"))
    monkeypatch.setenv("RADSEARCH_SECRET", pseudonymizer.secret.decode())
    monkeypatch.setenv("RADSEARCH_VIEWER", "https://pacs/v?s={study}")
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.run()
    app.switch_page("views/study.py")
    app.query_params["image"] = pseudonymizer.point_id(identity.instance, 1)
    return app.run()


def steps(page: AppTest) -> str:
    return "\n".join(one.value for one in page.text)


def test_it_says_how_the_picture_was_rendered_and_takes_another_window(page: AppTest) -> None:
    assert not page.exception
    assert "no window stored: CT preset, centre 40, width 400" in steps(page)
    assert page.slider(key="window-centre").value == 40
    page.button_group(key="window-name").set_value("lung").run()
    assert not page.exception
    assert page.query_params["window"] == "-600,1500"
    assert "window of the file: centre -600, width 1500" in steps(page)
    page.slider(key="window-width").set_value(200.0).run()
    assert page.query_params["window"] == "-600,200"


def test_another_frame_of_the_file_is_a_slide_away(page: AppTest) -> None:
    (frame,) = [one for one in page.slider if one.label == "frame"]
    frame.set_value(2).run()
    assert not page.exception
    assert "frame 2 of 3" in steps(page)
    assert page.query_params["frame"] == "2"


def test_it_leads_to_its_neighbour_in_the_series_and_to_the_viewer(page: AppTest) -> None:
    links = [one.proto.url for one in page.get("link_button")]
    assert links == [f"https://pacs/v?s={STUDY}"]
    assert page.button(key="step-before").disabled
    first = page.query_params["image"]
    page.button(key="step-after").click().run()
    assert page.query_params["image"] != first
    assert page.button(key="step-after").disabled


@pytest.mark.parametrize("file", [{"BurnedInAnnotation": "YES"}], indirect=True)
def test_an_original_that_may_hold_names_is_not_shown(page: AppTest) -> None:
    assert not page.exception
    assert "text may be burned in \\(its header says so\\)" in page.error[0].value
    assert "window of the file" not in steps(page)
    assert not [one for one in page.slider if one.key == "window-centre"]


def test_an_original_that_is_gone_leaves_its_thumbnail_and_a_sentence(page: AppTest, file: Path) -> None:
    file.unlink()
    page.run()
    assert not page.exception
    said = " ".join(one.value for one in page.error)
    assert "not where it was" in said
    assert "MRN" not in said
    assert not [one for one in page.slider if one.label == "centre"]


def test_without_a_catalogue_the_thumbnail_is_shown_and_how_to_have_more(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RADSEARCH_CATALOGUE")
    page.run()
    assert not page.exception
    assert not page.get("link_button")
    assert any("RADSEARCH_CATALOGUE" in one.value for one in page.caption)


def test_a_frame_of_one_value_and_windows_of_any_size_are_shown(page: AppTest) -> None:
    page.query_params["frame"] = "3"
    for window in ("", "40,400", "0,0.5", "-1e6,1e6", "nonsense"):
        page.query_params["window"] = window
        page.run()
        assert not page.exception
        assert "frame 3 of 3" in steps(page)
