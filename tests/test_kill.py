"""kill -9 at any moment: the next run ends where an undisturbed one would have.

RADSEARCH_TEST_KILLS=20 .venv/bin/python -m pytest -s tests/test_kill.py -k each_kill
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsearch.index import open_index
from radsearch.settings import Settings
from radsearch.study import SearchFilter
from radsearch.thumbnails import Thumbnails

CHECKOUT = Path(__file__).resolve().parents[1]
FILES = 300
KILLS = 4
WORKED_SECONDS = 4.0


def start(archive: Path, index: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ingest", str(archive), "--dataset", "scans", "--index", str(index)]
    environment = {**os.environ, "RADSEARCH_DEVICE": "cpu"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment, start_new_session=True
    )


def run_to_the_end(archive: Path, index: Path) -> tuple[str, float]:
    begun = time.monotonic()
    process = start(archive, index)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said, time.monotonic() - begun


@pytest.fixture
def archive(tmp_path: Path, write_png: Callable[..., Path]) -> Path:
    for number in range(FILES):
        write_png(f"archive/{number:03}.png", seed=number)
    return tmp_path / "archive"


def points(index: Path) -> dict[str, str]:
    """Content by id, of every point; and each of them has its vector and its thumbnail."""
    with open_index(Settings(index=str(index))) as opened:
        count = opened.count()
        hits = opened.nearest({"efficientnet-lite0": np.ones(1280, np.float32)}, SearchFilter(), 10 * FILES)
        assert len({hit.id for hit in hits}) == len(hits) == count
        stored = opened.retrieve([hit.id for hit in hits])
    thumbnails = Thumbnails(index / "thumbnails")
    assert all(thumbnails.read(point.payload["thumbnail"]) for point in stored)
    return {point.id: point.payload["content"] for point in stored}


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_an_undisturbed_one_when_run_again(archive: Path, tmp_path: Path) -> None:
    said, seconds = run_to_the_end(archive, tmp_path / "undisturbed")
    assert f"{FILES} indexed" in said
    undisturbed = points(tmp_path / "undisturbed")
    assert len(undisturbed) == FILES

    chance = random.Random(11)
    ends, held = [], [0]
    for _ in range(KILLS):
        process = start(archive, tmp_path / "killed")
        time.sleep(seconds * chance.uniform(0.25, 0.7))
        os.killpg(process.pid, signal.SIGKILL)  # with its workers, as a power cut would
        process.communicate()
        ends.append(process.returncode)
        held.append(len(points(tmp_path / "killed")) if (tmp_path / "killed").exists() else 0)
    assert -signal.SIGKILL in ends
    assert held == sorted(held), "a kill lost what an earlier run had stored"

    said, _ = run_to_the_end(archive, tmp_path / "killed")
    assert " 0 skipped, 0 refused" in said
    assert points(tmp_path / "killed") == undisturbed
    said, _ = run_to_the_end(archive, tmp_path / "killed")
    assert f"{FILES} unchanged" in said
    assert points(tmp_path / "killed") == undisturbed


def checksum(index: Path) -> tuple[int, str]:
    """Number of points, and a hash of all payloads and of the vectors as far as they do not depend on their batch."""
    digest = hashlib.sha256()
    with open_index(Settings(index=str(index))) as opened:
        stored = {point.id: point for page in opened.pages(vectors_of=["efficientnet-lite0"]) for point in page}
        count = opened.count()
    assert len(stored) == count
    for point in sorted(stored):
        vector = stored[point].vectors["efficientnet-lite0"]
        digest.update(json.dumps([point, stored[point].payload], sort_keys=True).encode())
        digest.update(np.argsort(vector)[-3:].tobytes())
    return count, digest.hexdigest()


@pytest.mark.slow
def test_after_each_kill_a_run_to_the_end_gives_the_index_of_an_undisturbed_one(archive: Path, tmp_path: Path) -> None:
    index = tmp_path / "killed"
    _, seconds = run_to_the_end(archive, tmp_path / "undisturbed")
    undisturbed = checksum(tmp_path / "undisturbed")
    chance = random.Random(23)
    for kill in range(int(os.environ.get("RADSEARCH_TEST_KILLS", "3"))):
        shutil.rmtree(index, ignore_errors=True)
        process = start(archive, index)
        time.sleep(seconds * chance.uniform(0.2, 1.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        held = checksum(index)[0] if index.exists() else 0
        run_to_the_end(archive, index)
        after = checksum(index)
        print(f"kill {kill + 1}: {held} of {FILES} points survived it; after the next run: {after}")  # noqa: T201 -- with -s
        assert after == undisturbed


def workers_of(process: int) -> list[int]:
    """Its children, whichever of its threads has started them."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found.extend(map(int, (thread / "children").read_text().split()))
    return found


@pytest.mark.slow
def test_workers_that_are_killed_in_the_middle_cost_no_file_and_not_the_run(
    tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    """As by a kernel that is short of memory: every worker is killed, once it has worked for a while.

    Not sooner: a file whose worker dies twice in a row is refused, and a loaded machine takes seconds to start one.
    """
    for number in range(3 * FILES):
        write_png(f"archive/{number:03}.png", seed=number)
    process = start(tmp_path / "archive", tmp_path / "index")
    killed = 0
    first_seen: dict[int, float] = {}
    while process.poll() is None:
        time.sleep(0.2)
        for worker in workers_of(process.pid):
            if time.monotonic() - first_seen.setdefault(worker, time.monotonic()) > WORKED_SECONDS:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed += 1
    _, said = process.communicate()
    assert killed >= 2
    assert process.returncode == 0, said
    assert f"{3 * FILES} indexed" in said
