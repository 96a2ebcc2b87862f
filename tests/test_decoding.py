"""What an ingest's workers do: patience with a disk."""

import errno
import os

import pytest

from ingest import decoding
from radsearch.reading.isolation import Refusal


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
