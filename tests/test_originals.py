"""The files behind indexed images, as the page reads them: the right one, or a sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radsearch.catalogue import Catalogue
from radsearch.errors import RadSearchError
from radsearch.index import Stored
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify
from radsearch.rendering.apart import close_readers
from radsearch.settings import Settings
from ui import originals as module
from ui.originals import Originals

STUDY = "1.2.826.0.1.3680043.8.498.7"


@pytest.fixture(scope="module", autouse=True)
def _no_reader_is_left() -> "object":
    yield
    close_readers()


class Case:
    """One indexed file, and the ways to it."""

    def __init__(self, path: Path, settings: Settings, key: Pseudonymizer) -> None:
        self.path, self.settings = path, settings
        identity = identify(path, key, name=str(path))
        self.point = Stored(
            key.point_id(identity.instance, 1),
            {"instance": identity.instance, "content": identity.content, "frame": 1, "frames": identity.frames},
        )
        assert settings.catalogue is not None
        Catalogue(settings.catalogue).record([(identity.instance, path)])

    @property
    def originals(self) -> Originals:
        return Originals(self.settings)


@pytest.fixture
def case(tmp_path: Path, settings: Settings, pseudonymizer: Pseudonymizer, write_dicom: Callable[..., Path]) -> Case:
    pixels = np.stack([np.full((16, 16), value, np.int16) for value in (10, 20, 30)])
    path = write_dicom("three.dcm", pixels, StudyInstanceUID=STUDY)
    settings = replace(
        settings, catalogue=tmp_path / "catalogue.sqlite", viewer="https://pacs/v?s={study}",
        secret=pseudonymizer.secret.decode(),
    )  # fmt: skip
    return Case(path, settings, pseudonymizer)


def test_every_frame_of_the_file_can_be_seen(case: Case) -> None:
    originals = case.originals
    assert originals.are_known(case.point)
    assert [int(originals.frame(case.point, number).pixels[0, 0]) for number in (1, 3)] == [10, 30]


def test_a_frame_is_read_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    originals = case.originals
    first = originals.frame(case.point, 1)
    assert originals.frame(case.point, 1) is first
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    originals.frame(case.point, 2)
    assert originals.frame(case.point, 1) is not first, "more is kept than may be"


def test_it_leads_to_the_study_in_the_viewer(case: Case) -> None:
    assert case.originals.viewer_of(case.point) == f"https://pacs/v?s={STUDY}"
    case.settings = replace(case.settings, viewer=None)
    assert case.originals.viewer_of(case.point) is None


def test_a_file_to_search_by_is_the_same_one_again(case: Case) -> None:
    originals = case.originals
    file = originals.query_file(case.point)
    assert originals.query_file(case.point) is file
    assert file.shown.rendered.picture.shape == (16, 16)


def test_a_file_that_is_another_by_now_is_not_shown(case: Case, write_dicom: Callable[..., Path]) -> None:
    originals = case.originals
    originals.frame(case.point, 1)
    write_dicom("three.dcm", np.zeros((9, 9), np.int16))
    with pytest.raises(RadSearchError, match="has changed"):
        originals.frame(case.point, 1)


def test_a_file_that_is_gone_is_a_sentence_without_its_path(case: Case) -> None:
    case.path.unlink()
    for act in (lambda: case.originals.frame(case.point, 1), lambda: case.originals.viewer_of(case.point)):
        with pytest.raises(RadSearchError, match="not where it was") as caught:
            act()
        assert case.path.name not in str(caught.value)


def test_without_a_catalogue_no_original_is_known(case: Case) -> None:
    case.settings = replace(case.settings, catalogue=None)
    assert not case.originals.are_known(case.point)
    with pytest.raises(RadSearchError, match="has not been kept"):
        case.originals.frame(case.point, 1)
