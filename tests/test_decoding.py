"""What an ingest's workers do: patience with a disk, and which pictures they leave to the models' device."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ingest import decoding
from ingest.decoding import DecodeJob, Identified, WorkOrder, decode_file, identify_file
from ingest.sources import Archive
from radsearch.models import Preprocessing
from radsearch.privacy import Pseudonymizer
from radsearch.reading import ALL_FRAMES
from radsearch.reading.isolation import Refusal

HOW = Preprocessing(8, "squash", 8, "bilinear", (0.0,) * 3, (1.0,) * 3)


def travelled(folder: Path, pseudonymizer: Pseudonymizer) -> list[bool]:
    """Of each frame of the one file whether it came as it was rendered; else it came resized."""
    order = WorkOrder(pseudonymizer, (HOW,), ALL_FRAMES, pictures_travel=True)
    (file,) = Archive(folder).files(pseudonymizer)
    identified = identify_file(order, file)
    assert isinstance(identified, Identified)
    images = decode_file(order, DecodeJob(file, identified))
    assert isinstance(images, list)
    for image in images:
        assert (image.picture is None) == (image.squares.keys() == {HOW})
    return [image.picture is not None for image in images]


@pytest.mark.parametrize(
    ("shape", "travels"), [((700, 800), True), ((2048, 500), True), ((1200, 1000), False), ((2049, 9), False)]
)
def test_a_picture_travels_where_that_is_less_work_than_resizing(
    tmp_path: Path,
    write_png: Callable[..., Path],
    pseudonymizer: Pseudonymizer,
    shape: tuple[int, int],
    *,
    travels: bool,
) -> None:
    write_png("one/a.png", np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
    assert travelled(tmp_path / "one", pseudonymizer) == [travels]


def test_of_very_many_frames_no_more_travel_than_there_is_memory_for(
    tmp_path: Path,
    write_dicom: Callable[..., Path],
    pseudonymizer: Pseudonymizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_dicom("one/a.dcm", np.random.default_rng(1).integers(0, 256, (5, 40, 50), dtype=np.uint8))
    monkeypatch.setattr(decoding, "_TRAVELLING_FILE", 2 * 40 * 50)
    assert travelled(tmp_path / "one", pseudonymizer) == [True, True, False, False, False]


def test_a_failing_disk_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_READ_PAUSE_SECONDS", 0)
    tries = []

    def work() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.EIO, "input/output error", "/archive/name-of-a-patient.dcm")
        return "read"

    assert decoding._with_patience(work) == "read"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EIO, "file cannot be read (EIO)"),
        (errno.ENOENT, "file is missing"),
        (errno.EACCES, "no permission to read the file"),
    ],
)
def test_a_file_that_stays_out_of_reach_is_refused_without_its_name(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    monkeypatch.setattr(decoding, "_READ_PAUSE_SECONDS", 0)

    def work() -> None:
        raise OSError(number, os.strerror(number), "/archive/name-of-a-patient.dcm")

    assert decoding._with_patience(work) == Refusal(reason)
