"""What maintenance removes, and what never; and its flow, with a real index."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from flows.pruning import prune_runs, prune_snapshots, snapshot_in
from radsearch.errors import RadSearchError
from radsearch.settings import Settings

NIGHTS = [f"202611{day:02}-020000" for day in range(1, 6)]

SCRIPT = """
import json, sys
from pathlib import Path
from unittest.mock import patch
import flows.pruning
from flows.maintain import maintain
from ingest.__main__ import main as ingest
from prefect.client.orchestration import get_client
from radsearch.index import open_index
from radsearch.index.snapshots import restore
from radsearch.index.verify import Recall, Verdict
from radsearch.settings import load_settings
from dataclasses import replace

archive, index, snapshots, runs = map(Path, sys.argv[1:])
told = {}

def run(name, **parameters):
    state = maintain(**{"index": str(index), "snapshots": snapshots, "runs": runs, "return_state": True, **parameters})
    told[name] = [state.type.value, state.message, sorted(path.name for path in snapshots.glob("*"))]

ingest([str(archive), "--index", str(index)])
run("missing", index=str(index) + "-gone")
run("negative", keep_snapshots=0)
with open_index(replace(load_settings(), index=str(index)), sole_writer=True):
    run("busy")
unsound = Verdict("efficientnet-lite0", 3, 2, (Recall("no filter", 3, 3, 0.5),))
with patch("flows.maintain.verify", lambda *_: unsound):
    run("unsound")
with patch("radsearch.index.snapshots.tarfile.open", side_effect=OSError(28, "No space left on device")):
    run("full")
told["runs before"] = sorted(path.name for path in runs.iterdir())
run("sound", keep_snapshots=2, keep_runs=1)
told["runs after"] = sorted(path.name for path in runs.iterdir())
newest = max(snapshots.iterdir())
told["restored"] = restore(newest, replace(load_settings(), index=str(index) + "-restored"))
with get_client(sync_client=True) as client:
    told["tables"] = [json.loads(one.data) for one in client.read_artifacts() if one.key == "maintain-index"]
print(json.dumps(told))
"""


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    for night in NIGHTS:
        (folder / f"{night}-radsearch.tar").write_bytes(b"index")
    return folder


def make_run(runs: Path, name: str, *files: str) -> Path:
    folder = runs / name
    (folder / "studies").mkdir(parents=True)
    for file in files:
        (folder / file).write_text("{}")
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_snapshots_stay(snapshots: Path) -> None:
    newest = snapshots / f"{NIGHTS[-1]}-radsearch.tar"
    assert prune_snapshots(newest, 2) == 3
    assert names_in(snapshots) == [f"{night}-radsearch.tar" for night in NIGHTS[-2:]]
    assert prune_snapshots(newest, 1) == 1
    assert names_in(snapshots) == [newest.name]


def test_the_snapshot_of_now_stays_even_where_the_clock_was_set_back(snapshots: Path) -> None:
    written = snapshots / "20200101-000000-radsearch.tar"
    written.write_bytes(b"index")
    assert prune_snapshots(written, 1) == 5
    assert names_in(snapshots) == [written.name]


def test_only_what_has_the_exact_name_of_a_snapshot_is_removed(snapshots: Path, tmp_path: Path) -> None:
    others = ["20200101-000000-radsearch.tar.bak", "before-20200101-000000-radsearch.tar", "radsearch.tar", "notes.txt"]
    for name in others:
        (snapshots / name).touch()
    (snapshots / "20200101-000000-radsearch.snapshot").mkdir()
    (tmp_path / "elsewhere.tar").touch()
    (snapshots / "20200102-000000-radsearch.tar").symlink_to(tmp_path / "elsewhere.tar")
    newest = snapshots / f"{NIGHTS[-1]}-radsearch.tar"
    prune_snapshots(newest, 1)
    assert names_in(snapshots) == sorted(
        [*others, "20200101-000000-radsearch.snapshot", "20200102-000000-radsearch.tar", newest.name]
    )


def test_half_a_snapshot_that_a_kill_left_is_removed_after_a_day(snapshots: Path) -> None:
    old, new = (snapshots / f".{NIGHTS[0]}-radsearch.tar.{number}" for number in (17, 18))
    for half in (old, new):
        half.touch()
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    prune_snapshots(snapshots / f"{NIGHTS[-1]}-radsearch.tar", 9)
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(("index", "ending"), [("folder", "tar"), ("http://localhost:6333", "snapshot")])
def test_a_snapshots_name_says_when_it_was_made_and_of_what(settings: Settings, index: str, ending: str) -> None:
    name = snapshot_in(Path(), replace(settings, index=index)).name
    stamp, _, rest = name.rpartition("-")
    assert rest == f"radsearch.{ending}"
    assert datetime.strptime(stamp, "%Y%m%d-%H%M%S")  # noqa: DTZ007 -- only whether it is a time


def test_old_runs_go_model_by_model_and_accepted_ones_stay_uncounted(tmp_path: Path) -> None:
    for night in NIGHTS:
        make_run(tmp_path, f"{night}-denner2024-first", "metrics.json", "report.html")
    make_run(tmp_path, f"{NIGHTS[0]}-leave-patient-out-first", "metrics.json")
    make_run(tmp_path, f"{NIGHTS[0]}-denner2024-second", "metrics.json")
    (tmp_path / f"{NIGHTS[1]}-denner2024-first" / "accepted").touch()
    assert prune_runs(tmp_path, 2) == 2
    assert names_in(tmp_path) == [
        f"{NIGHTS[0]}-denner2024-second",
        f"{NIGHTS[0]}-leave-patient-out-first",
        f"{NIGHTS[1]}-denner2024-first",
        f"{NIGHTS[3]}-denner2024-first",
        f"{NIGHTS[4]}-denner2024-first",
    ]


def test_what_is_no_run_of_the_evaluation_is_never_removed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    kept = [
        make_run(runs, f"{NIGHTS[0]}-denner2024-first", "queries.csv"),
        make_run(runs, f"{NIGHTS[0]}-denner1999-first", "metrics.json"),
        make_run(runs, "my-run", "metrics.json"),
        make_run(runs, f"{NIGHTS[0]}-denner2024-", "metrics.json"),
    ]
    outside = make_run(tmp_path, "outside", "metrics.json")
    (runs / f"{NIGHTS[0]}-denner2024-linked").symlink_to(outside)
    (runs / f"{NIGHTS[1]}-denner2024-file").touch()
    make_run(runs, f"{NIGHTS[2]}-denner2024-first", "metrics.json")
    make_run(runs, f"{NIGHTS[2]}-denner2024-linked", "metrics.json")
    assert prune_runs(runs, 1) == 0
    assert all((folder / "studies").is_dir() for folder in [*kept, outside])
    assert len(names_in(runs)) == 8


def test_a_run_whose_removal_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    make_run(tmp_path, f".{NIGHTS[0]}-denner2024-first.removed")
    make_run(tmp_path, ".mine.removed")
    prune_runs(tmp_path, 1)
    assert names_in(tmp_path) == [".mine.removed"]
    assert prune_runs(tmp_path / "none-yet", 1) == 0


def test_what_cannot_be_removed_is_said(snapshots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(RadSearchError, match=r"what is old in .* cannot be removed \(Permission denied\)"):
        prune_snapshots(snapshots / f"{NIGHTS[-1]}-radsearch.tar", 1)


@pytest.mark.slow
def test_the_flow_saves_a_sound_index_and_removes_nothing_otherwise(
    tmp_path: Path, snapshots: Path, write_png: Callable[..., Path]
) -> None:
    for number in range(3):
        write_png(f"archive/{number}.png", seed=number)
    runs = tmp_path / "runs"
    for night in NIGHTS[:2]:
        make_run(runs, f"{night}-denner2024-first", "metrics.json")
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            *(str(path) for path in (tmp_path / "archive", tmp_path / "index", snapshots, runs)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "RADSEARCH_BUSY_WAIT_SECONDS": "0"},
        cwd=Path(__file__).parents[1],
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    there = [f"{night}-radsearch.tar" for night in NIGHTS]
    for name, words in (
        ("missing", "there is no index in"),
        ("negative", "keep_snapshots is 1 or more"),
        ("busy", "is in use by another process"),
        ("unsound", "efficientnet-lite0: 2 of 3 sampled images find themselves, recall@10 0.5000 (no filter)"),
        ("full", "cannot be written (No space left on device)"),
    ):
        state, message, files = told[name]
        assert (state, files) == ("FAILED", there)
        assert words in message
        assert "\n" not in message
    assert told["runs before"] == [f"{night}-denner2024-first" for night in NIGHTS[:2]]

    state, message, files = told["sound"]
    assert state == "COMPLETED"
    assert message.startswith("optimize: 3 images; verify: efficientnet-lite0: 3 of 3 sampled images find themselves")
    assert len(files) == 2
    assert files[0] == there[-1]
    assert told["runs after"] == [f"{NIGHTS[1]}-denner2024-first"]
    assert told["restored"] == 3
    whole = [table for table in told["tables"] if len(table) == 5]
    assert [row["step"] for row in whole[0]] == [
        "optimize",
        "verify",
        "snapshot",
        "remove old snapshots",
        "remove old runs",
    ]
    assert whole[0][3]["outcome"] == "4 removed"
    assert ["failed" in row["outcome"] for table in told["tables"] if len(table) == 3 for row in table] == [
        False,
        False,
        True,
    ]
