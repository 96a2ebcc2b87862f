"""The flows against a real Prefect server on loopback: schedules fire, parts are shared out, killed ones run again."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_server import CHECKOUT, Server, running, serving, wait

from radsearch.index import open_index
from radsearch.settings import Settings

FILES = 1100  # in two parts of three chunks each
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("prefect")) as made:
        yield made


def ended(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")]


def checksum(index: Path) -> tuple[int, str]:
    """Number of points, and a hash of all payloads and of the vectors as far as they do not depend on their batch."""
    digest = hashlib.sha256()
    with open_index(Settings(index=str(index))) as opened:
        stored = {point.id: point for page in opened.pages(vectors_of=["efficientnet-lite0"]) for point in page}
    for point in sorted(stored):
        vector = stored[point].vectors["efficientnet-lite0"]
        digest.update(json.dumps([point, stored[point].payload], sort_keys=True).encode())
        digest.update(np.argsort(vector)[-3:].tobytes())
    return len(stored), digest.hexdigest()


def process_of(run: str) -> int | None:
    """The process that a flow run runs in."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
            if f"PREFECT__FLOW_RUN_ID={run}".encode() in words and b"prefect.engine" in command:
                return int(folder.name)
    return None


@pytest.fixture
def archive(tmp_path: Path, write_png: Callable[..., Path]) -> Path:
    for number in range(FILES):
        write_png(f"archive/{number:04}.png", seed=number)
    return tmp_path / "archive"


def test_a_part_whose_process_is_killed_is_run_again_and_nothing_is_lost(
    server: Server, archive: Path, tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    command = ["ingest", str(archive), "--dataset", "scans", "--index", str(undisturbed)]
    with running(command, server.environment, tmp_path / "plain.log") as plain:
        assert plain.wait(300) == 0
    schedules = tmp_path / "flows.toml"
    schedules.write_text(
        f'[ingest.killed]\npath = "{archive}"\nindex = "{tmp_path / "index"}"\ndataset = "scans"\npartitions = 2\n'
    )
    log = tmp_path / "serve.log"
    with running(["flows", "serve", "--settings", str(schedules)], server.environment, log):
        found = wait(lambda: deployment(server, "ingest-archive/killed"), 60, log)
        server.ask(f"deployments/{found}/create_flow_run")

        def half_done() -> str | None:
            for run in server.runs("ingest-partition"):
                chunks = server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
                done = [one["state_type"] for one in chunks].count("COMPLETED")
                if run["state_type"] == "RUNNING" and done and process_of(run["id"]):
                    return str(run["id"])
            return None

        run = wait(half_done, 120, log)
        os.kill(process_of(run) or 0, signal.SIGKILL)
        (whole,) = wait(lambda: ended(server.runs("ingest-archive")), 180, log)
    assert (whole["state_type"], whole["state"]["message"]) == ("COMPLETED", "2 parts completed")
    states = sorted(one["state_type"] for one in server.runs("ingest-partition"))
    assert states == ["COMPLETED", "COMPLETED", "CRASHED"]
    table = json.loads(server.artifacts(whole["id"])["partitions"])
    assert sorted(row["tries"] for row in table) == [1, 2]
    assert checksum(tmp_path / "index") == checksum(undisturbed)
    assert checksum(undisturbed)[0] == FILES


def deployment(server: Server, name: str) -> str | None:
    flow, own = name.split("/")
    found = server.ask(
        "deployments/filter", {"deployments": {"name": {"any_": [own]}}, "flows": {"name": {"any_": [flow]}}}
    )
    return str(found[0]["id"]) if found else None


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_two_workers_of_a_pool_take_a_part_each_and_turns_at_an_index_in_a_folder(
    server: Server, tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    for number in range(400):
        write_png(f"archive/{number:04}.png", seed=number)
    log, environment = tmp_path / "workers.log", server.environment
    deploy = [sys.executable, "-m", "prefect", "--no-prompt"]
    made = [*deploy, "work-pool", "create", "radsearch", "--type", "process"]
    for command in (made, [*deploy, "deploy", "--all"]):
        subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True, timeout=180)
    # One runs the whole, which waits for its parts; each of the two others has room for one part.
    start = ["prefect", "worker", "start", "--pool", "radsearch", "--limit", "1"]
    with contextlib.ExitStack() as stack:
        workers = {stack.enter_context(running(start, environment, log)).pid for _ in range(3)}
        found = wait(lambda: deployment(server, "ingest-archive/pool"), 60, log)
        asked = {"path": str(tmp_path / "archive"), "index": str(tmp_path / "index"), "partitions": 2}
        whole = server.ask(f"deployments/{found}/create_flow_run", {"parameters": asked})["id"]

        def at_once() -> set[int] | None:
            runs = [run for run in server.runs("ingest-partition") if run["parent_task_run_id"] in tasks(server, whole)]
            processes = [process_of(run["id"]) for run in runs if run["state_type"] == "RUNNING"]
            return {parent_of(one) for one in processes if one} if len(processes) == 2 and all(processes) else None

        assert len(wait(at_once, 180, log) & workers) == 2
        wait(lambda: ended([server.get(f"flow_runs/{whole}")]), 180, log)
    told = server.get(f"flow_runs/{whole}")["state"]
    assert (told["type"], told["message"]) == ("COMPLETED", "2 parts completed")
    rows = json.loads(server.artifacts(whole)["partitions"])
    assert [(row["tries"], row["state"]) for row in rows] == [(1, "Completed")] * 2
    assert checksum(tmp_path / "index")[0] == 400


def tasks(server: Server, run: str) -> set[str]:
    return {one["id"] for one in server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})}


def test_schedules_fire_an_inbox_is_emptied_and_an_evaluation_writes_its_report(
    server: Server, tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    rows = ["filepath,patient,modality,region,labels"]
    for number in range(12):
        write_png(f"archive/{number:02}.png", seed=number)
        rows.append(f"{number:02}.png,p{number},CT,chest,{('nodule', 'cyst')[number % 2]}")
    (tmp_path / "archive" / "manifest.csv").write_text("\n".join(rows))
    index, inbox, runs = tmp_path / "index", tmp_path / "inbox", tmp_path / "runs"
    archive = tmp_path / "archive"
    manifest = ["--manifest", str(archive / "manifest.csv")]
    with running(["ingest", str(archive), *manifest, "--index", str(index)], server.environment, tmp_path / "l") as it:
        assert it.wait(180) == 0
    inbox.mkdir()
    schedules, log = tmp_path / "flows.toml", tmp_path / "serve.log"
    schedules.write_text(f"""
server = "{server.url}"

[inbox.minute]
cron = "* * * * *"
folder = "{inbox}"
done = "{tmp_path / "done"}"
quiet_seconds = 5
dataset = "inbox"
index = "{index}"

[evaluate.minute]
cron = "* * * * *"
index = "{index}"
runs = "{runs}"
""")
    with running(["flows", "serve", "--settings", str(schedules)], server.environment, log):
        wait(lambda: server.runs("watch-inbox"), 90, log)
        for number in range(3):
            write_png(f"inbox/series/{number}.png", seed=100 + number)
        taken = wait(
            lambda: [run for run in ended(server.runs("watch-inbox")) if "1 series taken" in run["state"]["message"]],
            240,
            log,
        )
        measured = wait(lambda: ended(server.runs("evaluate-models")), 240, log)
    assert taken[0]["state_type"] == "COMPLETED"
    assert taken[0]["auto_scheduled"]
    outcomes = [data for key, data in server.artifacts(taken[0]["id"]).items() if key.startswith("inbox-")]
    assert outcomes
    assert checksum(index)[0] == 15
    assert sorted(file.name for file in (tmp_path / "done").rglob("*.png")) == ["0.png", "1.png", "2.png"]
    assert measured[0]["state_type"] == "COMPLETED", measured[0]["state"]["message"]
    artifacts = server.artifacts(measured[0]["id"])
    (figures,) = [json.loads(data) for key, data in artifacts.items() if key.startswith("evaluation-figures")]
    assert (figures[0]["model"], figures[0]["queries"]) == ("efficientnet-lite0", 12)
    (summary,) = [data for key, data in artifacts.items() if key.startswith("evaluation-summary")]
    (report,) = [Path(line.split("`")[1]) for line in summary.splitlines() if "report:" in line]
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
