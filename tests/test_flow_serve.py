"""The flows against a real Prefect server on loopback: schedules fire, parts are shared out, killed ones run again."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from radsearch.index import open_index
from radsearch.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[1]
FILES = 1100  # in two parts of three chunks each
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Server:
    """A Prefect server and its API."""

    url: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {"PREFECT_HOME": str(self.home), "PREFECT_API_URL": self.url, "RADSEARCH_DEVICE": "cpu"}
        return {**os.environ, **ours, "PREFECT_RUNNER_POLL_FREQUENCY": "2", "PREFECT_WORKER_QUERY_SECONDS": "2"}

    def ask(self, path: str, asked: dict[str, Any] | None = None) -> Any:
        return httpx.post(f"{self.url}/{path}", json=asked or {}, timeout=30).raise_for_status().json()

    def runs(self, flow: str) -> list[dict[str, Any]]:
        return list(self.ask("flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}))

    def artifacts(self, run: str) -> dict[str, Any]:
        found = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {one["key"]: one["data"] for one in found}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=CHECKOUT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    made = Server(f"http://127.0.0.1:{port}/api", home)
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    with running(["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)], environment, home / "log"):
        wait(lambda: answers(made), 120, home / "log")
        yield made


def answers(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def wait(until: Callable[[], Any], seconds: float, log: Path) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := until():
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:g} s; the log ends: {log.read_text(errors='replace')[-3000:]}")


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
