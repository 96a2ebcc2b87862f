"""Runs the whole system on planted studies; home and temporary folder of every program are where its files are found.

What is given (`given`) holds marks. What names files by contract lies in `private`; all else that is written lies in
`written`, with what every program says.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
from local_server import listening
from marks import Marks
from planted_studies import (
    SIDE,
    in_japanese,
    known,
    noise,
    planted,
    with_pixels,
    write,
    write_archive,
    write_listed,
    write_refused,
)
from prefect_server import CHECKOUT, running, serving

from radsearch.index import open_index
from radsearch.settings import Settings

_SECONDS = 240
# As loud as a user may set the libraries. Not so Prefect's server: at DEBUG it writes the headers that it is sent, and
# with them its password (docs/operations.md).
_LOUD = {
    "PYTHONWARNINGS": "always",
    "PYTHONFAULTHANDLER": "1",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
    "PREFECT_LOGGING_LOG_PRINTS": "true",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "pydicom,PIL,nibabel,radsearch,ingest",
    "STREAMLIT_LOGGER_LEVEL": "debug",
    "RUST_LOG": "debug",
    "RUST_BACKTRACE": "1",
}
_BUG = """
import sys
from pathlib import Path
from flows.ingest_archive import ingest_archive
from ingest.pipeline import Ingestion

def failing(self, waiting):
    raise ValueError(f"a bug that quotes {waiting[0][0].source.path} and {waiting[0][0].source.said}")

Ingestion._store = failing
ingest_archive(path=Path(sys.argv[1]), index=sys.argv[2], return_state=True)
"""


class _Echo(BaseHTTPRequestHandler):
    """A Qdrant server that refuses everybody, and repeats the key that it was sent."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        said = json.dumps({"status": {"error": f"{self.headers} {self.rfile.read(length)!r}"}}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_GET  # noqa: N815 -- the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(slots=True)
class Stage:
    """The folders of one run, and what its programs are told."""

    root: Path
    marks: Marks = field(default_factory=Marks)
    codes: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in (self.given, self.private, self.said, self.written / "tmp", self.written / "work"):
            folder.mkdir(parents=True)
        foreign = ("RADSEARCH", "PREFECT", "XDG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environment = {
            **kept,
            **_LOUD,
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(self.written / "home"),
            "TMPDIR": str(self.written / "tmp"),
            "RADSEARCH_INDEX": str(self.index),
            "RADSEARCH_SETTINGS": str(self.written / "settings"),
            "RADSEARCH_CATALOGUE": str(self.private / "catalogue.sqlite"),
            "RADSEARCH_AUDIT": str(self.written / "audit" / "audit.jsonl"),
            "RADSEARCH_RUNS": str(self.written / "runs"),
            "RADSEARCH_REPORTS": str(self.private / "reports"),
            "RADSEARCH_ARCHIVE": str(self.given / "archive"),
            "RADSEARCH_WORKERS": "2",
            "RADSEARCH_DEVICE": "cpu",
            "RADSEARCH_SECRET": self.marks.secret("RADSEARCH_SECRET"),
            "RADSEARCH_QDRANT_API_KEY": self.marks.secret("RADSEARCH_QDRANT_API_KEY"),
            "PREFECT_HOME": str(self.written / "prefect"),
            "PREFECT_API_AUTH_STRING": f"admin:{self.marks.secret('PREFECT_API_AUTH_STRING')}",
        }
        self.environment["PREFECT_SERVER_API_AUTH_STRING"] = self.environment["PREFECT_API_AUTH_STRING"]

    @property
    def given(self) -> Path:
        return self.root / "given"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def written(self) -> Path:
        return self.root / "written"

    @property
    def said(self) -> Path:
        return self.written / "said"

    @property
    def index(self) -> Path:
        return self.written / "index"

    def run(self, name: str, *command: str, more: Mapping[str, str] | None = None) -> str:
        """Run `python -m COMMAND`, keep its exit code and what it says, and give what it said on stdout."""
        ran = subprocess.run(
            [sys.executable, *command], cwd=self.written / "work", env={**self.environment, **(more or {})},
            capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        (self.said / f"{name}.out").write_bytes(ran.stdout)
        (self.said / f"{name}.err").write_bytes(ran.stderr)
        self.codes[name] = ran.returncode
        return ran.stdout.decode()

    def log_of(self, name: str) -> str:
        return (self.said / f"{name}.err").read_text()

    @contextmanager
    def running(self, name: str, *command: str) -> Iterator[None]:
        """Have `python -m COMMAND` run, with what it says kept."""
        with running(command, self.environment, self.said / f"{name}.log"):
            yield


def plant(stage: Stage) -> dict[str, Path]:
    """Write all that is given: an archive, one with a manifest, an inbox, and files to search by."""
    marks, given = stage.marks, stage.given
    files = write_archive(marks, given / "archive")
    (given / "listed").mkdir()
    write_listed(marks, given / "listed")
    write_refused(marks, given / "inbox" / marks.name("folder in the inbox"))
    arrived = given / "inbox" / marks.name("series in the inbox") / f"{marks.name('file in the inbox')}.dcm"
    write(with_pixels(known(planted(marks), marks, 40, "CT"), noise(40, SIDE, SIDE)), arrived, marks)
    query = given / "queries" / f"{marks.name('file to search by')} (1).dcm"
    files["query"] = write(in_japanese(marks, 41), query, marks)
    files["damaged query"] = query.with_name(f"{marks.name('damaged file to search by')}.dcm")
    files["damaged query"].write_bytes(query.read_bytes()[:-3000])
    return files


def command_line(stage: Stage, files: Mapping[str, Path]) -> None:
    """Ingest, search, measure, and everything else that is done by command, over one index."""
    archive, index = str(stage.given / "archive"), ("-m", "radsearch", "index")
    report = ("--report", str(stage.private / "reports" / "by-hand.json"))
    stage.run("ingest", "-m", "ingest", archive, *report, "--progress-json")
    stage.run("ingest-again", "-m", "ingest", archive, "--retry", report[1], "--report", f"{report[1][:-5]}-2.json")
    listed = ("--manifest", str(stage.given / "listed" / "manifest.csv"), "--dataset", "ours")
    stage.run("ingest-listed", "-m", "ingest", str(stage.given / "listed"), *listed)
    search = ("-m", "radsearch", "search")
    hits = stage.run("search", *search, str(files["query"]), "--json").splitlines()
    stage.run("search-id", *search, "--id", json.loads(hits[0])["id"])
    stage.run("search-damaged", *search, str(files["damaged query"]))
    stage.run("search-missing", *search, str(files["query"].parent / f"{stage.marks.name('missing query')}.dcm"))
    nowhere = {"RADSEARCH_INDEX": f"http://user:{stage.marks.secret('password in an address')}@127.0.0.1:9"}
    stage.run("search-nowhere", *search, "--id", json.loads(hits[0])["id"], more=nowhere)
    with listening(_Echo) as address:
        stage.run("search-refused", *search, "--id", json.loads(hits[0])["id"], more={"RADSEARCH_INDEX": address})
    stage.run(
        "render",
        "-m",
        "radsearch",
        "render",
        str(files["ct"]),
        "--explain",
        "--out",
        str(stage.written / "rendered.png"),
    )
    compared = ("-m", "radsearch", "evidence", str(files["ct"]), json.loads(hits[0])["id"])
    stage.run("evidence", *compared, "--out", str(stage.written / "evidence.png"))
    stage.run("map", *index, "map")
    stage.run("snapshot", *index, "snapshot", str(stage.written / "snapshot"))
    stage.run("facets", *index, "facets", "--json")
    runs = [str(stage.written / "runs" / name) for name in ("one", "two")]
    for number, folder in enumerate(runs):
        stage.run(f"evaluate-{number}", "-m", "evaluation", "run", "--out", folder)
    stage.run("compare", "-m", "evaluation", "compare", *runs, "--html", str(stage.written / "comparison.html"))


def published_vectors(stage: Stage) -> None:
    """A run over vectors and the manifest that names their files: these names are what the run tells of."""
    manifest = stage.given / "listed" / "manifest.csv"
    good = manifest.with_name("good.csv")
    good.write_text("\n".join(manifest.read_text().splitlines()[:13]) + "\n")
    vectors = stage.given / "listed" / "vectors.npy"
    np.save(vectors, np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32))
    named = ("--vectors", str(vectors), "--manifest", str(good), "--out", str(stage.private / "published"))
    stage.run("evaluate-published", "-m", "evaluation", "run", *named)


def flows(stage: Stage) -> None:
    """The jobs on a real Prefect server, which keeps what it is told: one that is done, some that fail, a bug."""
    schedules = stage.written / "flows.toml"
    with listening(_Echo) as refusing, serving(stage.written / "prefect", stage.environment) as server:
        schedules.write_text(_jobs(stage, refusing))
        address = {"PREFECT_API_URL": server.url}
        for job in ("ingest.listed", "ingest.missing", "ingest.refused", "inbox.ward", "evaluate.weekly"):
            stage.run(f"flow-{job}", "-m", "flows", "run", "--settings", str(schedules), job, more=address)
        bug = (str(stage.given / "archive"), str(stage.written / "other-index"))
        stage.run("flow-bug", "-c", _BUG, *bug, more=address)


def _jobs(stage: Stage, refusing: str) -> str:
    return f"""
        [ingest.listed]
        path = "{stage.given / "listed"}"
        manifest = "{stage.given / "listed" / "manifest.csv"}"
        dataset = "ours"
        report = "{stage.private / "reports" / "flow.json"}"
        [ingest.missing]
        path = "{stage.given / "nowhere"}"
        [ingest.refused]
        path = "{stage.given / "listed"}"
        index = "{refusing}"
        [inbox.ward]
        folder = "{stage.given / "inbox"}"
        done = "{stage.given / "done"}"
        state = "{stage.private / "inbox-state"}"
        quiet_seconds = 0
        [evaluate.weekly]
        runs = "{stage.written / "runs"}"
    """


def payloads(stage: Stage) -> int:
    """Write out what the index holds, whose own files are packed; gives the number of images."""
    with open_index(Settings(index=str(stage.index))) as index:
        points = [(point.id, point.payload) for page in index.pages() for point in page]
    (stage.said / "payloads.json").write_text(json.dumps(points))
    return len(points)


def mutated_code(folder: Path, mistakes: Mapping[str, tuple[str, str]]) -> Path:
    """A copy of the code with mistakes. Args: mistakes: by file, what stands there and what is to stand there."""
    for room in ("radsearch", "ingest"):
        shutil.copytree(CHECKOUT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (right, wrong) in mistakes.items():
        source = (folder / name).read_text()
        assert source.count(right) == 1, f"{name} has changed: where is {right}?"
        (folder / name).write_text(source.replace(right, wrong))
    return folder
