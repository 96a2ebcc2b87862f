"""The worker processes: patience with a disk, and what a crash costs. Without torch, as the workers import it all."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest import decoding
from ingest.decoding import DecodingPool, Refusal, WorkOrder
from ingest.sources import SourceFile
from radsearch.privacy import Pseudonymizer


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


def test_a_picture_that_memory_cannot_hold_is_refused() -> None:
    def work() -> None:
        raise MemoryError

    assert decoding._with_patience(work) == Refusal("picture too large")


def crash_at_the_bad_one(_order: WorkOrder, files: Sequence[SourceFile]) -> list[str]:
    """Runs in a spawned worker: dies as a decoder written in C may."""
    if any(file.name == "bad" for file in files):
        os._exit(11)
    return [file.name.upper() for file in files]


@pytest.mark.slow
def test_a_crash_of_a_worker_costs_only_the_file_that_caused_it(pseudonymizer: Pseudonymizer) -> None:
    pool = DecodingPool(WorkOrder(pseudonymizer, ()), workers=1)
    files = {name: SourceFile(Path(name), name, name) for name in ("a", "bad", "b", "c")}
    try:
        with_bad = pool.begin(crash_at_the_bad_one, [files["a"], files["bad"], files["b"]])
        behind = pool.begin(crash_at_the_bad_one, [files["c"]])  # waits in the same pool when it breaks
        assert with_bad.results() == ["A", Refusal("the decoder crashed"), "B"]
        assert behind.results() == ["C"]
        assert pool.begin(crash_at_the_bad_one, [files["c"]]).results() == ["C"]
    finally:
        pool.close()
