"""The Prefect flow: the same pipeline, seen from Prefect's side."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
from flows.ingest_archive import ingest_archive
from flows.ingesting import ingest_chunk
from ingest.pipeline import Ingestion
from prefect.client.orchestration import get_client
from radsearch.errors import IndexUnreachableError

ingest_chunk.retry_delay_seconds = [0, 0, 0]
whole = Ingestion.ingest_chunk
tries = []
def failing_once(self, chunk):
    tries.append(chunk.number)
    if len(tries) == 1:
        raise IndexUnreachableError("the server went away")
    return whole(self, chunk)
Ingestion.ingest_chunk = failing_once

state = ingest_archive(path=Path(sys.argv[1]), index=sys.argv[2], return_state=True)
with get_client(sync_client=True) as client:
    artifacts = {artifact.key: artifact.data for artifact in client.read_artifacts()}
missing = ingest_archive(path=Path(sys.argv[1]) / "gone", index=sys.argv[2], return_state=True)
print(json.dumps({
    "state": state.type.value, "message": state.message, "tries": tries,
    "progress": artifacts["ingest-progress"], "outcomes": json.loads(artifacts["ingest-outcomes"]),
    "missing": [missing.type.value, missing.message],
}))
"""


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A script over the folder's archive and index, in a process of its own: Prefect reads its settings once."""
    return subprocess.run(
        [sys.executable, "-c", script, str(folder / "archive"), str(folder / "index")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PREFECT_HOME": str(folder / "prefect"), "RADSEARCH_DEVICE": "cpu"},
        cwd=Path(__file__).parents[1],
    )


@pytest.mark.slow
def test_flow_retries_a_chunk_and_leaves_its_progress_and_outcomes_as_artifacts(
    tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    for number in range(3):
        write_png(f"archive/{number}.png", seed=number)
    (tmp_path / "archive" / "empty.dcm").touch()
    done = run(SCRIPT, tmp_path)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["state"] == "COMPLETED"
    assert told["message"].startswith("4 files: 3 indexed (3 images), 0 unchanged, 0 skipped, 1 refused;")
    assert told["tries"] == [1, 1]
    assert told["progress"] == 100.0
    assert {"outcome": "refused", "reason": "empty file", "files": 1} in told["outcomes"]
    assert told["missing"] == ["FAILED", f"there is no file or folder {tmp_path / 'archive' / 'gone'}"]


NAMELESS = """
import json, sys
from pathlib import Path
from flows.ingest_archive import ingest_archive
from flows.ingesting import ingest_chunk
from ingest.pipeline import Ingestion
ingest_chunk.retry_delay_seconds = [0, 0, 0]
def gone(self, chunk):
    Path(chunk.jobs[0].decode.source.path.with_name("gone") / "Weber^Anna.dcm").read_bytes()
def bug(self, chunk):
    raise ValueError(f"no idea what {chunk.jobs[0].decode.source.path} is")
told = []
for fault in (gone, bug):
    Ingestion.ingest_chunk = fault
    state = ingest_archive(path=Path(sys.argv[1]), index=sys.argv[2], return_state=True)
    told.append([state.type.value, state.message])
print(json.dumps(told))
"""


@pytest.mark.slow
def test_no_name_of_a_file_reaches_prefect(tmp_path: Path, write_png: Callable[..., Path]) -> None:
    write_png("archive/Weber^Anna.png")
    (tmp_path / "archive" / "Weber^Anna.dcm").touch()
    done = run(NAMELESS, tmp_path)
    told = json.loads(done.stdout.splitlines()[-1])
    words = "the run was ended by the disk or the network (No such file or directory); the next one goes on"
    assert told[0] == ["FAILED", words]
    assert told[1][0] == "FAILED"
    assert "ValueError in <string>, line" in told[1][1]
    assert "chunk-1" in done.stderr
    assert "Weber" not in done.stderr
    kept = b"".join(file.read_bytes() for file in (tmp_path / "prefect").rglob("*") if file.is_file())
    assert b"ingest-archive" in kept
    assert b"Weber" not in kept


ADDING = """
import json, sys
from pathlib import Path
from flows.add_model import add_model
from flows.ingest_archive import ingest_archive
archive, index = Path(sys.argv[1]), sys.argv[2]
def told(state):
    return [state.type.value, state.message.split(";")[0]]
none = add_model("efficientnet-lite1", archive, index=index, return_state=True)
first = ingest_archive(archive, index=index, partitions=2, return_state=True)
(archive / "0.png").rename(archive / "moved.png")
gone = add_model("efficientnet-lite1", archive, index=index, return_state=True)
(archive / "moved.png").rename(archive / "0.png")
added = add_model("efficientnet-lite1", archive, index=index, return_state=True)
late = add_model("efficientnet-lite1", archive, index=index, hours=0.0, return_state=True)
slow = ingest_archive(archive, models=["efficientnet-lite2"], index=index, hours=0.0, return_state=True)
wrong = ingest_archive(archive, index=index, partitions=0, return_state=True)
print(json.dumps([told(state) for state in (none, first, gone, added, late, slow, wrong)]))
"""


@pytest.mark.slow
def test_a_model_is_added_to_all_that_is_indexed(tmp_path: Path, write_png: Callable[..., Path]) -> None:
    for number in range(4):
        write_png(f"archive/{number}.png", seed=number)
    index = str(tmp_path / "index")
    done = run(ADDING, tmp_path)
    none, first, gone, added, late, slow, wrong = json.loads(done.stdout.splitlines()[-1])
    assert none[0] == "FAILED"
    assert index in none[1]
    assert first == ["COMPLETED", "2 parts completed"]
    # What an archive of plain files calls an image is its path: one that was moved is another one.
    assert gone == ["FAILED", "3 of 4 images have a vector of efficientnet-lite1"]
    assert added == ["COMPLETED", "4 of 4 images have a vector of efficientnet-lite1"]
    assert late == ["COMPLETED", "4 of 4 images have a vector of efficientnet-lite1"]  # there was nothing to be done
    assert slow == ["FAILED", "the time limit of 0 h was reached, the next run goes on"]
    assert wrong == ["FAILED", "partitions is 1 or more"]


def test_importing_the_flows_switches_prefects_reports_off() -> None:
    script = "import os, flows; print(os.environ['PREFECT_SERVER_ANALYTICS_ENABLED'], os.environ['DO_NOT_TRACK'])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.split() == ["false", "1"]
