"""Worker processes: a file that crashes, hangs or eats memory costs itself and nothing else."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from radsearch.errors import TOO_LONG, TOO_MUCH_MEMORY, RadSearchError, UnreadableImageError
from radsearch.reading import isolation, read
from radsearch.reading.choice import ALL_FRAMES
from radsearch.reading.isolation import IsolatedPool, Limits, Refusal, renew_time_limit
from radsearch.rendering import SHOW_ALL, apart, render
from radsearch.rendering.apart import ReaderApart

# Tasks: they run in a spawned worker, which finds them by this module's name.


def shout(order: str, item: str) -> str:
    return f"{order} {item.upper()}"


def suffer(_order: str, item: str) -> str:
    """Does what its item says, as decoders do."""
    if item == "crash":
        os._exit(11)
    if item == "abort":
        os.abort()
    if item == "hang":
        time.sleep(60)
    if item == "eat":
        np.ones(1 << 30)  # 8 GiB
    if item == "damaged":
        raise UnreadableImageError("damaged pixel data")
    if item == "bug":
        raise KeyError("PatientName: Marker^Patient")
    if item == "disk":
        raise FileNotFoundError(2, "no such file")
    if item == "talk":
        sys.stdout.write("Marker^Patient\n")
        os.write(2, b"Marker^Patient")
    return item.upper()


def kill_itself_once(order: str, item: str) -> str:
    """Is killed from outside at the first try, as by a kernel that is out of memory."""
    mark = Path(order) / item
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def take_frames(_order: str, frames: int) -> int:
    for _ in range(frames):
        time.sleep(0.2)
        renew_time_limit()
    return frames


def process_of(_order: str, _item: str) -> int:
    return os.getpid()


def dump_limit_of(_order: str, _item: str) -> int:
    return resource.getrlimit(resource.RLIMIT_CORE)[0]


@pytest.fixture
def pool() -> Iterator[IsolatedPool[str]]:
    made = IsolatedPool("order", 1, Limits(seconds=1.0, memory_mb=2048))
    yield made
    made.close()


@pytest.mark.slow
def test_results_come_in_the_order_of_the_items(pool: IsolatedPool[str]) -> None:
    batches = [pool.begin(shout, [f"{number}a", f"{number}b"]) for number in range(5)]
    assert [batch.results() for batch in batches] == [[f"order {n}A", f"order {n}B"] for n in range(5)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("crash", isolation.CRASHED),
        ("abort", isolation.CRASHED),
        ("hang", TOO_LONG),
        ("eat", TOO_MUCH_MEMORY),
        ("damaged", "damaged pixel data"),
    ],
)
def test_a_bad_file_is_refused_and_its_neighbours_are_not(pool: IsolatedPool[str], item: str, reason: str) -> None:
    behind = [pool.begin(suffer, ["a", item, "b"]), pool.begin(suffer, ["c"])]
    assert behind[0].results() == ["A", Refusal(reason), "B"]
    assert behind[1].results() == ["C"]


@pytest.mark.slow
def test_every_worker_may_die_and_the_run_goes_on() -> None:
    pool = IsolatedPool("order", 2, Limits(seconds=20.0, memory_mb=2048))
    try:
        batches = [pool.begin(suffer, ["a", "crash", "b"]) for _ in range(4)]
        assert [batch.results() for batch in batches] == [["A", Refusal(isolation.CRASHED), "B"]] * 4
    finally:
        pool.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_from_outside_costs_no_file(tmp_path: Path) -> None:
    pool = IsolatedPool(str(tmp_path), 1, Limits(seconds=20.0, memory_mb=2048))
    try:
        assert pool.begin(kill_itself_once, ["a", "b"]).results() == ["alive", "alive"]
    finally:
        pool.close()


@pytest.mark.slow
def test_the_time_limit_is_one_for_each_frame(pool: IsolatedPool[str]) -> None:
    """Eight frames of 0.2 s take longer than the limit of 1 s; none of them does."""
    assert pool.begin(take_frames, [8]).results() == [8]


@pytest.mark.slow
def test_a_bug_costs_the_file_and_says_where_but_not_what(pool: IsolatedPool[str]) -> None:
    (refused, after) = pool.begin(suffer, ["bug", "a"]).results()
    assert isinstance(refused, Refusal)
    assert refused.reason.startswith("unexpected KeyError at tests/test_isolation.py:")
    assert "Marker" not in refused.reason
    assert after == "A"


@pytest.mark.slow
def test_the_disks_faults_are_raised_where_the_result_is_asked_for(pool: IsolatedPool[str]) -> None:
    with pytest.raises(FileNotFoundError):
        pool.begin(suffer, ["a", "disk", "b"]).results()
    assert pool.begin(suffer, ["c"]).results() == ["C"]


@pytest.mark.slow
def test_what_a_decoder_prints_is_heard_by_nobody(pool: IsolatedPool[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert pool.begin(suffer, ["talk"]).results() == ["TALK"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_neither_a_worker_nor_its_caller_leaves_a_dump_of_its_memory() -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    pool = IsolatedPool("order", 1, Limits(seconds=20.0, memory_mb=2048))
    try:
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        assert pool.begin(dump_limit_of, ["a"]).results() == [0]
    finally:
        pool.close()
        resource.setrlimit(resource.RLIMIT_CORE, (before, hard))


@pytest.mark.slow
def test_a_closed_pool_leaves_no_process_and_no_caller_waiting(pool: IsolatedPool[str]) -> None:
    (process,) = pool.begin(process_of, ["a"]).results()
    waiting = pool.begin(suffer, ["hang"])
    pool.close()
    with pytest.raises(CancelledError):
        waiting.results()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.slow
def test_a_query_is_read_apart_as_it_is_here(pseudonymizer, write_dicom, tmp_path: Path) -> None:
    path = write_dicom(pixels=np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    reader = ReaderApart(pseudonymizer, Limits(seconds=20.0, memory_mb=2048), SHOW_ALL)
    assert reader.identify(path, name="x", choice=ALL_FRAMES).chosen == (1, 2)
    shown = reader.show(path, 2)
    (expected,) = [render(image) for image in read(path, pseudonymizer, [2])]
    assert shown.rendered.picture.tolist() == expected.tolist()
    assert shown.facts.patient == pseudonymizer.pseudonym("patient", "", "MRN-0001")
    (tmp_path / "empty").touch()
    with pytest.raises(UnreadableImageError, match="empty file"):
        reader.show(tmp_path / "empty", 1)
    with pytest.raises(FileNotFoundError):
        reader.show(tmp_path / "missing", 1)
    reader.close()


def test_a_query_that_crashes_the_decoder_is_a_refusal(monkeypatch: pytest.MonkeyPatch, pseudonymizer) -> None:
    monkeypatch.setattr(apart, "IsolatedPool", lambda *_: CrashingPool())
    with pytest.raises(UnreadableImageError, match="the decoder crashed"):
        ReaderApart(pseudonymizer, Limits(seconds=1.0, memory_mb=1), SHOW_ALL).show(Path("any"), 1)


class CrashingPool:
    def begin(self, _task: object, items: list[object]) -> "CrashingPool":
        self.items = items
        return self

    def results(self) -> list[Refusal]:
        return [Refusal(isolation.CRASHED) for _ in self.items]


def test_no_time_limit_runs_outside_a_worker() -> None:
    renew_time_limit()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.slow
def test_a_pool_that_is_closed_cancels_what_is_begun_later() -> None:
    pool = IsolatedPool("order", 1, Limits(seconds=20.0, memory_mb=2048))
    pool.close()
    with pytest.raises(CancelledError):
        pool.begin(shout, ["a"]).results()


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_an_error_and_no_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_PROGRAM", "raise SystemExit(3)")
    pool = IsolatedPool("order", 1, Limits(seconds=20.0, memory_mb=2048))
    with pytest.raises(RadSearchError, match="cannot be started"):
        pool.begin(shout, ["a"]).results()
    pool.close()


@pytest.mark.slow
def test_a_worker_that_a_file_has_taken_over_runs_no_code_here(pool: IsolatedPool[str]) -> None:
    given = pool.begin(give, ["a", "trap", "b", "c"]).results()
    assert given == ["a", Refusal(isolation.NO_ANSWER), "b", "c"]
    assert pool.begin(give, ["d", "e"]).results() == ["d", "e"]


@pytest.mark.slow
def test_the_file_behind_a_trap_is_tried_twice_like_any_other(tmp_path: Path) -> None:
    pool = IsolatedPool(str(tmp_path), 1, Limits(seconds=20.0, memory_mb=2048))
    try:
        assert pool.begin(die_and_give, ["trap", "b"]).results() == [Refusal(isolation.NO_ANSWER), "b"]
    finally:
        pool.close()


class Trap:
    """Unpacks in no process but a worker."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return (open_trap, (os.getpid(),))


def open_trap(process: int) -> str:
    if process != os.getpid():
        raise RuntimeError("here only")
    return "open"


def give(_order: str, item: str) -> object:
    return Trap() if item == "trap" else item


def die_and_give(order: str, item: str) -> object:
    """Dies at the first try; but not in a worker that has answered with a trap, to which nobody listens any more."""
    lost = Path(order) / f"trapped-{os.getpid()}"
    if not lost.exists():
        kill_itself_once(order, item)
    if item == "trap":
        lost.touch()
    return give(order, item)


GUARDLESS = """
import sys
from pathlib import Path
from radsearch.privacy import Pseudonymizer
from radsearch.reading import ALL_FRAMES
from radsearch.reading.isolation import Limits
from radsearch.rendering import SHOW_ALL
from radsearch.rendering.apart import reader_apart
reader = reader_apart(Pseudonymizer(bytes(32)), Limits(20, 2048), SHOW_ALL)
print(reader.show(Path(sys.argv[-1]), 1).rendered.picture.shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script without a guard", "standard input", "closed stdout and stderr"])
def test_a_reader_works_wherever_its_program_comes_from(tmp_path: Path, write_png, how: str) -> None:
    """A worker does not run the main module once more, and needs no output of its caller's."""
    image, script = write_png(pixels=np.full((4, 5), 7, np.uint8)), tmp_path / "script.py"
    script.write_text(GUARDLESS)
    if how == "standard input":
        ended = subprocess.run(
            [sys.executable, "-", image], input=GUARDLESS, capture_output=True, text=True, timeout=60, check=True
        )
    elif how == "script without a guard":
        ended = subprocess.run([sys.executable, script, image], capture_output=True, text=True, timeout=60, check=True)
    else:
        quiet = f"{sys.executable} {script} {image} 2>&- >&-; echo ended with $?"
        ended = subprocess.run(["/bin/sh", "-c", quiet], capture_output=True, text=True, timeout=60, check=True)
        assert ended.stdout.strip() == "ended with 0"
        return
    assert ended.stdout.strip() == "(4, 5)"


@pytest.mark.slow
def test_workers_end_with_their_parent_even_while_they_hang(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, os\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_isolation as t\n"
        "pool = t.IsolatedPool('order', 1, t.Limits(0, 2048))\n"
        "print(pool.begin(t.process_of, ['a']).results()[0], flush=True)\n"
        "pool.begin(t.suffer, ['hang'])\n"
        "import time; time.sleep(0.5); os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    process = int(ended.stdout)
    for _ in range(50):
        if not Path(f"/proc/{process}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the worker is still there")
