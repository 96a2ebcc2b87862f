"""An embedded index that is written to: readers get in between two batches, other writers do not."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from test_index_embedded import CHECKOUT, MODEL, held_by_another_process, image

from radsearch.errors import IndexBusyError, RadSearchError
from radsearch.index import holding, open_index
from radsearch.settings import Settings
from radsearch.study import SearchFilter

pytestmark = pytest.mark.slow
BATCHES = 40
WRITE = """
import sys, time
sys.path.insert(0, "tests")
from test_index_embedded import MODEL, image
from radsearch.index import open_index
from radsearch.settings import Settings
with open_index(Settings(index=sys.argv[1]), create_for=[MODEL], sole_writer=True) as index:
    print("begun", flush=True)
    for number in range(int(sys.argv[2])):
        index.write([image(2 * number), image(2 * number + 1)])
        time.sleep(0.1)
    print(index.count(), flush=True)
"""


@contextmanager
def written_by_another_process(index: str, batches: int = BATCHES) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", WRITE, index, str(batches)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=60)[0].strip()


def test_who_reads_gets_in_between_two_batches_and_nothing_is_lost(settings: Settings) -> None:
    with written_by_another_process(settings.index) as writer:
        counts = []
        for _ in range(3):
            with open_index(replace(settings, busy_wait_seconds=20)) as index:
                counts.append(index.count())
                assert index.nearest({"first": image(0).vectors["first"]}, SearchFilter(), 1)
            assert writer.poll() is None
        assert counts == sorted(counts)
        assert counts[-1] < 2 * BATCHES
        assert said(writer) == str(2 * BATCHES)
    with open_index(settings) as index:
        assert index.count() == 2 * BATCHES
    assert not list(Path(settings.index).glob(f"{holding.WAITING}*"))


HOLD_AND_WRITE = WRITE.replace(", sole_writer=True", "")


def test_who_asks_for_an_index_in_vain_does_it_no_harm(settings: Settings) -> None:
    """The engine's own attempt to open a folder that is open clears files away there, and writes are lost."""
    command = [sys.executable, "-c", HOLD_AND_WRITE, settings.index, "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        asked = 0
        while writer.poll() is None and asked < 200:
            try:
                open_index(replace(settings, busy_wait_seconds=0)).close()
            except IndexBusyError:
                asked += 1
            time.sleep(0.01)
        assert said(writer) == "60"
    assert asked > 20
    with open_index(settings) as index:
        assert index.count() == 60
        assert sum(len(page) for page in index.pages()) == 60


def test_nobody_else_writes_meanwhile(settings: Settings) -> None:
    with written_by_another_process(settings.index) as writer:
        reading = open_index(replace(settings, busy_wait_seconds=20))  # the writer has let go
        with reading, pytest.raises(IndexBusyError):
            open_index(replace(settings, busy_wait_seconds=0.5), sole_writer=True)
        assert said(writer) == str(2 * BATCHES)
    open_index(settings, sole_writer=True).close()
    open_index(settings, sole_writer=True).close()


def test_a_second_writer_waits_for_its_turn_and_says_nothing_where_it_comes_soon(settings: Settings) -> None:
    with written_by_another_process(settings.index, batches=5) as writer:
        with open_index(replace(settings, busy_wait_seconds=30), sole_writer=True) as index:
            assert index.count() == 10
        assert said(writer) == "10"


def test_other_threads_wait_while_the_index_is_away(settings: Settings) -> None:
    with open_index(settings, create_for=[MODEL], sole_writer=True) as index:
        index.write([image(number) for number in range(10)])
        mark = Path(settings.index, f"{holding.WAITING}1-1")
        counts: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                counts.append(index.count())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(10, 13):
                mark.touch()
                time.sleep(1.1)  # a turn at most each second
                index.write([image(number)])
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(counts) <= {10, 11, 12, 13}
        assert index.count() == 13


def test_a_folder_that_one_may_not_write_to_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_index(settings, create_for=[MODEL]).close()

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(holding.os, "open", forbidden)
    for sole_writer in (False, True):
        with pytest.raises(RadSearchError, match="Permission denied"):
            open_index(settings, sole_writer=sole_writer)


def test_a_mark_that_a_kill_has_left_is_not_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_index(settings, create_for=[MODEL], sole_writer=True) as index:
        mark = Path(settings.index, f"{holding.WAITING}1-1")
        mark.touch()
        os.utime(mark, (time.time() - 60, time.time() - 60))
        monkeypatch.setattr(holding.Holding, "_let_go", lambda _self: pytest.fail("let go for nobody"))
        index.write([image(1)])
        assert not mark.exists()
        monkeypatch.undo()


def test_an_index_that_does_not_come_back_is_said_to_all_threads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_index(settings, create_for=[MODEL]).close()
    index = open_index(settings, sole_writer=True)
    monkeypatch.setattr(holding, "_LONGEST_TURN_SECONDS", 0.1)
    taken = holding.Holding._taken

    def taken_by_another(self: holding.Holding, *arguments: float) -> object:
        with held_by_another_process(settings.index):
            return taken(self, *arguments)

    monkeypatch.setattr(holding.Holding, "_taken", taken_by_another)
    Path(settings.index, f"{holding.WAITING}1-1").touch()
    with pytest.raises(IndexBusyError, match="in use by another process"):
        index.write([image(1)])
    with pytest.raises(IndexBusyError):
        index.count()
    index.close()
    monkeypatch.undo()
    with open_index(settings) as again:
        assert again.count() == 1


def test_a_folder_that_cannot_be_locked_is_held_to_the_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(holding.fcntl, "flock", no_locks)
    with open_index(settings, create_for=[MODEL], sole_writer=True) as index:
        with pytest.raises(IndexBusyError):  # by the engine's own lock, at once
            open_index(settings)
        Path(settings.index, f"{holding.WAITING}1-1").touch()
        monkeypatch.setattr(holding.Holding, "_let_go", lambda _self: pytest.fail("let go without a lock"))
        index.write([image(1)])
        monkeypatch.undo()
