"""`python -m radsearch render`: the picture of a file, and the steps that led to it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from PIL import Image
from pydicom.dataset import Dataset

from radsearch.__main__ import main
from radsearch.rendering import apart


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    apart.close_readers()
    monkeypatch.setattr(apart, "IsolatedPool", InlinePool)


@pytest.fixture
def ultrasound(write_dicom: Callable[..., Path]) -> Path:
    """Five grey frames of 6 x 8, each of one value, whose tissue fills rows 1 to 4 and columns 2 to 6."""
    region = Dataset()
    region.RegionSpatialFormat = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 6, 4
    pixels = np.repeat(np.arange(10, 60, 10, dtype=np.uint8), 48).reshape(5, 6, 8)
    return write_dicom("Marker-Patient.dcm", pixels, Modality="US", SequenceOfUltrasoundRegions=[region])


def test_the_middle_frame_is_written_as_a_png(ultrasound: Path, tmp_path: Path) -> None:
    assert main(["render", str(ultrasound), "--out", str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (5, 4))
        assert np.unique(np.asarray(picture)).tolist() == [30]


def test_a_frame_may_be_named(ultrasound: Path, tmp_path: Path) -> None:
    assert main(["render", str(ultrasound), "--frame", "5", "--out", str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert np.unique(np.asarray(picture)).tolist() == [50]


def test_the_steps_are_explained_in_their_order(ultrasound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(ultrasound), "--explain"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "read: DICOM, Explicit VR Little Endian, MONOCHROME2, frame 3 of 5",
        "pixels: 8 x 6, unsigned, 8 of 8 bits",
        "cut to rows 1-4, columns 2-6: ultrasound regions",
        "rescale: slope 1, intercept 0",
        "no window stored: 8 bits as they are",
        "text may be burned in (ultrasound): what lies outside the regions is cut off",
        "picture: 5 x 4, 8 bits",
    ]
    assert said.err == ""


def test_every_step_that_a_header_asks_for_is_named(
    write_dicom: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_dicom(
        pixels=np.arange(-60, 60, dtype=np.int16).reshape(10, 12),
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope="2",
        RescaleIntercept="-1000",
        WindowCenter=["-1000", "40"],
        WindowWidth=["100", "400"],
        VOILUTFunction="SIGMOID",
        PixelSpacing=["2", "1"],
    )
    main(["render", str(path), "--explain"])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "rescale: slope 2, intercept -1000",
        "window of the file: centre -1000, width 100, SIGMOID",
        "inverted: the lowest value is white (MONOCHROME1, or Presentation LUT Shape INVERSE)",
        "pixels 2 times as high as wide: resized to 12 x 20",
        "picture: 12 x 20, 8 bits",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say where to"),
        (["--explain", "--frame", "6"], "the file has 5 frames, and no frame 6"),
        (["--explain", "--frame", "0"], "the file has 5 frames, and no frame 0"),
        (["--out", "missing-folder/out.png"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    ultrasound: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", str(ultrasound), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1


def test_no_file_but_an_older_picture_is_overwritten(
    ultrasound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ultrasound.read_bytes()
    (tmp_path / "notes.txt").write_text("of value")
    for target in (ultrasound, tmp_path / "notes.txt"):
        assert main(["render", str(ultrasound), "--out", str(target)]) == 2
        assert "exists and is no picture of ours" in capsys.readouterr().err
    assert (ultrasound.read_bytes(), (tmp_path / "notes.txt").read_text()) == (before, "of value")
    for frame in ("1", "2"):
        assert main(["render", str(ultrasound), "--frame", frame, "--out", str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert np.unique(np.asarray(picture)).tolist() == [20]


def test_a_file_that_cannot_be_read_says_why_and_names_nobody(
    ultrasound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ultrasound.write_bytes(ultrasound.read_bytes()[:-20])
    assert main(["render", str(ultrasound), "--explain"]) == 2
    assert capsys.readouterr().err == "radsearch: the file cannot be read: truncated file\n"
    assert main(["render", str(tmp_path / "missing"), "--explain"]) == 2
    assert capsys.readouterr().err == "radsearch: the file cannot be opened: No such file or directory\n"


@pytest.mark.slow
def test_the_command_reads_in_a_process_apart(
    ultrasound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    apart.close_readers()
    assert main(["render", str(ultrasound), "--out", str(tmp_path / "out.png")]) == 0
    assert (tmp_path / "out.png").is_file()
