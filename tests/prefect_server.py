"""A Prefect server of a test's own, on a free port of loopback, and other programs that run beside a test."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

CHECKOUT = Path(__file__).resolve().parents[1]


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

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}/{path}", timeout=30).raise_for_status().json()

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


def answers(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def wait(until: Callable[[], Any], seconds: float, log: Path) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TimeoutException):  # a busy server's: it is asked again
            if found := until():
                return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:g} s; the log ends: {log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def serving(home: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Server]:
    """The server, which keeps all that it has in its home and tells `log` there what it does."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    made = Server(f"http://127.0.0.1:{port}/api", home)
    surroundings = {**environment, "PREFECT_HOME": str(home)}
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, surroundings, home / "log"):
        wait(lambda: answers(made), 120, home / "log")
        yield made
