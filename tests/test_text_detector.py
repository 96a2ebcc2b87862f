"""Text that Tesseract finds is blanked, in every frame and at every window; what cannot be searched is refused."""

import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import SecondaryCaptureImageStorage

from ingest.decoding import DecodeJob, Identified, WorkOrder, decode_file
from ingest.sources import SourceFile
from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify
from radsearch.reading.isolation import Limits, Refusal
from radsearch.rendering import TextPolicy, apart, render_with_steps, tesseract, text
from radsearch.rendering.tesseract import Word, read_words
from radsearch.rendering.text import blank, find_text
from radsearch.rendering.windowing import windowed
from radsearch.search import QueryFile
from radsearch.settings import Settings
from radsearch.study import Facts, Greyscale, StudyImage

WITH_TESSERACT = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="needs Tesseract: apt-get install tesseract-ocr"
)
BLANK = TextPolicy("crop", blank=True)
NAME = "SCHNEIDER, ANNA"


def written(
    words: str, at: tuple[int, int] = (20, 30), *, size: int = 20, ground: int = 20, ink: int = 255
) -> "tuple[np.ndarray, np.ndarray]":
    """A picture of one grey value with words on it, and which of its pixels the letters have."""
    font = ImageFont.load_default(size)
    canvas = Image.new("L", (320, 200), ground)
    ImageDraw.Draw(canvas).text(at, words, font=font, fill=ink)
    mask = Image.new("L", canvas.size)
    ImageDraw.Draw(mask).text(at, words, font=font, fill=255)
    return np.asarray(canvas), np.asarray(mask) > 127


def covered(picture: "np.ndarray") -> "np.ndarray":
    return blank(np.ones_like(picture), find_text(picture))[0] == 0


@WITH_TESSERACT
@pytest.mark.parametrize("size", [10, 14, 20, 32])
@pytest.mark.parametrize(("ground", "ink"), [(20, 255), (0, 170), (230, 10)])
def test_a_name_is_blanked_and_the_rest_is_left(size: int, ground: int, ink: int) -> None:
    picture, letters = written(NAME, size=size, ground=ground, ink=ink)
    found = covered(picture)
    assert found[letters].all()
    rows, columns = np.nonzero(letters)
    assert not found[rows.max() + size :].any()
    assert not found[:, columns.max() + 4 * size :].any()


@WITH_TESSERACT
@pytest.mark.parametrize("words", ["12.03.1957", "ID 4471882", "2019-11-04 09:41"])
def test_dates_and_numbers_are_text(words: str) -> None:
    picture, letters = written(words)
    assert covered(picture)[letters].all()


@WITH_TESSERACT
def test_coloured_text_is_found() -> None:
    picture, letters = written(NAME, ground=0, ink=255)
    blue = np.zeros((*picture.shape, 3), np.uint8)
    blue[..., 2] = picture
    assert covered(blue)[letters].all()


@WITH_TESSERACT
def test_text_at_the_very_edge_is_found() -> None:
    picture, letters = written(NAME, (0, -3))
    assert covered(picture)[letters].all()


@WITH_TESSERACT
@pytest.mark.parametrize("rows", [30, 48, 60])
def test_text_that_fills_a_strip_is_found(rows: int) -> None:
    """Letters are a third of such a picture's height, as a trace's or a banner's are."""
    picture, letters = (whole[25 : 25 + rows] for whole in written(NAME, (20, 30), size=18))
    assert covered(picture)[letters].all()


@WITH_TESSERACT
@pytest.mark.parametrize("picture", [
    np.zeros((64, 64), np.uint8),
    np.tile(np.arange(256, dtype=np.uint8), (256, 1)),
    np.zeros((7, 300), np.uint8),
    np.zeros((300, 8), np.uint8),
    np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8),
])  # fmt: skip
def test_where_there_is_no_text_nothing_is_blanked(picture: "np.ndarray") -> None:
    assert find_text(picture) == ()


@WITH_TESSERACT
def test_of_a_real_picture_nothing_is_blanked(corpus: Path) -> None:
    picture = np.asarray(Image.open(corpus / "images" / "ct_cerr_pat_4_029.png").convert("L"))
    assert find_text(picture) == ()


@WITH_TESSERACT
def test_the_steps_say_how_much_was_blanked_and_not_what() -> None:
    picture, letters = written(NAME)
    rendered = render_with_steps(StudyImage(picture, Greyscale(), Facts()), BLANK)
    assert (rendered.picture[letters] == 0).all()
    assert rendered.steps[-1].startswith("text: ")
    assert "% of the picture blanked" in rendered.steps[-1]
    assert not any("SCHN" in step for step in rendered.steps)
    assert render_with_steps(StudyImage(np.zeros_like(picture), Greyscale(), Facts()), BLANK).steps[-1] == (
        "text: none found"
    )


@pytest.fixture
def apart_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    apart.close_readers()
    monkeypatch.setattr(apart, "IsolatedPool", InlinePool)
    yield
    apart.close_readers()


@WITH_TESSERACT
@pytest.mark.usefixtures("apart_here")
def test_text_that_one_window_shows_is_blanked_at_all(
    write_dicom: Callable[..., Path], pseudonymizer: Pseudonymizer
) -> None:
    """The name, 255 on 20, is white on white at a window around 10; the original's own window shows it."""
    picture, letters = written(NAME)
    path = write_dicom("shot.dcm", picture, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    image = apart.reader_apart(pseudonymizer, Limits(60, 4096), BLANK).read(path, 1)
    for shown in (image, windowed(image, 10, 5), windowed(image, 128, 256)):
        assert (render_with_steps(shown, BLANK).picture[letters] == 0).all()


@WITH_TESSERACT
def test_every_frame_is_searched_for_itself(write_dicom: Callable[..., Path], pseudonymizer: Pseudonymizer) -> None:
    frames = [written(NAME, at) for at in ((20, 30), (60, 150))]
    path = write_dicom("cine.dcm", np.stack([picture for picture, _ in frames]), Modality="US")
    identity = identify(path, pseudonymizer, name="")
    order = WorkOrder(pseudonymizer, (), pictures_travel=True, policy=BLANK)
    decoded = decode_file(order, DecodeJob(SourceFile(path, "cine.dcm", "cine.dcm"), Identified(identity, "")))
    assert not isinstance(decoded, Refusal)
    for image, (_, letters) in zip(decoded, frames, strict=True):
        assert image.picture is not None
        assert (image.picture[letters] == 0).all()


@WITH_TESSERACT
@pytest.mark.usefixtures("apart_here")
def test_a_query_is_blanked_as_the_index_is(tmp_path: Path, settings: Settings, pseudonymizer: Pseudonymizer) -> None:
    picture, letters = written(NAME)
    Image.fromarray(picture).save(tmp_path / "upload.png")
    query = QueryFile(tmp_path / "upload.png", replace(settings, blank_text=1), pseudonymizer)
    assert (query.shown.rendered.picture[letters] == 0).all()


def test_a_word_is_believed_by_itself_or_by_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = Word(20, 20, 60, 10, 90.0, 6)
    beside = Word(100, 22, 30, 10, 5.0, 1)  # 20 pixels off, twice the height
    below = Word(20, 60, 30, 10, 5.0, 3)
    taller = Word(20, 10, 30, 30, 5.0, 3)
    monkeypatch.setattr(text, "_VIEWS", text._VIEWS[:1])
    monkeypatch.setattr(text, "_words", lambda *_: [sure, beside, below, taller])
    monkeypatch.setattr(text, "_kept", OrderedDict())
    # margins: 0.4 heights up and down, 2 heights aside
    assert find_text(np.zeros((200, 200), np.uint8)) == ((16, 0, 34, 100), (18, 80, 36, 150))


def test_a_picture_is_searched_once_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr(text, "_kept", OrderedDict())
    monkeypatch.setattr(text, "_found", lambda picture: looked.append(picture.shape) or ((1, 2, 3, 4),))
    pictures = [np.full((90, 90), grey, np.uint8) for grey in range(12)]
    assert [find_text(picture) for picture in (*pictures, pictures[-1])] == 13 * [((1, 2, 3, 4),)]
    assert find_text(np.full((90, 30, 3), 11, np.uint8)) == ((1, 2, 3, 4),)  # the same bytes in another shape
    assert looked == [*12 * [(90, 90)], (90, 30, 3)]
    assert len(text._kept) == 8
    assert sum(len(digest) for _, digest in text._kept) == 8 * 32


@pytest.mark.parametrize(("confidence", "letters"), [(84, 3), (59, 4), (44, 6), (29, 20)])
def test_what_tesseract_guesses_is_no_text(monkeypatch: pytest.MonkeyPatch, confidence: float, letters: int) -> None:
    monkeypatch.setattr(text, "_words", lambda *_: [Word(20, 20, 60, 10, confidence, letters)])
    monkeypatch.setattr(text, "_kept", OrderedDict())
    assert find_text(np.zeros((100, 200), np.uint8)) == ()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("exit 3", "text cannot be looked for: tesseract does not run"),
        ("sleep 20", "it takes too long to look for text in it"),
        (None, "text cannot be looked for: tesseract does not run"),
    ],
)
def test_a_search_that_fails_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, reason: str
) -> None:
    if program is not None:
        (tmp_path / "tesseract").write_text(f"#!/bin/sh\n{program.replace('sleep', 'exec /bin/sleep')}\n")
        (tmp_path / "tesseract").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tesseract, "_SECONDS", 0.5)
    with pytest.raises(UnreadableImageError) as refused:
        read_words(np.zeros((20, 20), np.uint8))
    assert refused.value.reason == reason


def test_tesseract_runs_without_a_shell_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    table = "5\t1\t1\t1\t1\t1\t3\t4\t50\t9\t91.5\tO'BRI\tE\u2028N,\n4\t1\t1\t1\t1\t0\t3\t4\t50\t9\t-1\t\n"
    calls = []

    def run(command: object, **how: object) -> "subprocess.CompletedProcess[bytes]":
        calls.append((command, how))
        return subprocess.CompletedProcess([], 0, table.encode(), b"")

    monkeypatch.setattr(subprocess, "run", run)
    assert read_words(np.zeros((2, 3), np.uint8)) == [Word(3, 4, 50, 9, 91.5, 6)]
    ((command, how),) = calls
    assert command[:3] == ("tesseract", "stdin", "stdout")
    assert how["input"] == b"P5 3 2 255\n" + bytes(6)
    assert how["env"]["OMP_THREAD_LIMIT"] == "1"
    assert "shell" not in how
