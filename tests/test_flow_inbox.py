"""The inbox's flow, as a schedule runs it, with real files and a real index."""

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
import flows.ingesting
from flows.watch_inbox import watch_inbox
from ingest.inbox import hold
from prefect.client.orchestration import get_client
from radsearch.index import open_index
from radsearch.settings import Settings

flows.ingesting._RETRY_DELAYS_SECONDS = [0.0]
flows.ingesting.ingest_chunk.retry_delay_seconds = [0.0] * 3
folder, index = Path(sys.argv[1]), sys.argv[2]
told = {}

def run(name, inbox, **parameters):
    state = watch_inbox(**{"folder": inbox, "index": index, "return_state": True, **parameters})
    told[name] = [state.type.value, state.message]

inbox, done = folder / "inbox", folder / "done"
run("too early", inbox, done=done)
with hold(inbox):
    run("held", inbox, done=done)
run("unreachable", inbox, done=done, quiet_seconds=0, index="http://127.0.0.1:9")
told["stayed"] = len([path for path in inbox.rglob("*") if path.is_file() and ".radsearch" not in str(path)])
run("taken", inbox, done=done, quiet_seconds=0)
run("again", inbox, done=done, quiet_seconds=0)
run("missing", inbox / "gone")
run("negative", inbox, quiet_seconds=-1)
with get_client(sync_client=True) as client:
    artifacts = client.read_artifacts()
    told["logs"] = [log.message for log in client.read_logs()]
told["artifacts"] = [[artifact.key, artifact.data, artifact.description] for artifact in artifacts]
with open_index(Settings(index=index)) as opened:
    told["images"] = opened.count()
print(json.dumps(told))
"""


@pytest.mark.slow
def test_an_inbox_is_emptied_into_the_index_and_says_no_file_name(
    tmp_path: Path, write_png: Callable[..., Path], write_dicom: Callable[..., Path]
) -> None:
    for number in (1, 2):
        write_dicom(f"inbox/DOE-JANE/series/{number}.dcm")
    write_png("inbox/DOE-JANE.png")
    (tmp_path / "inbox" / "DOE-JANE" / "notes.txt").write_text("not a picture")
    (tmp_path / "inbox" / "DOE-JANE" / "broken.dcm").touch()
    (tmp_path / "inbox" / "DOE-JANE" / "sent.dcm.part").touch()
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(tmp_path / "index")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "RADSEARCH_QDRANT_SECONDS": "1"},
        cwd=Path(__file__).parents[1],
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["too early"] == ["COMPLETED", "0 series taken, 5 files wait"]
    assert told["held"] == ["COMPLETED", "another run is at work on this inbox"]
    assert told["unreachable"][0] == "FAILED"
    assert told["unreachable"][1].startswith("the Qdrant server at http://127.0.0.1:9 ")
    assert told["stayed"] == 6
    assert told["taken"] == ["COMPLETED", "3 series taken, 1 files refused, 0 files wait"]
    assert told["again"] == ["COMPLETED", "0 series taken, 0 files wait"]
    assert told["missing"] == ["FAILED", f"there is no inbox {tmp_path / 'inbox' / 'gone'}"]
    assert told["negative"] == ["FAILED", "quiet_seconds is 0 or more"]
    assert told["images"] == 3
    done = tmp_path / "done"
    assert sorted(str(path.relative_to(done)) for path in done.rglob("*") if path.is_file()) == [
        "DOE-JANE.png",
        "DOE-JANE/notes.txt",
        "DOE-JANE/series/1.dcm",
        "DOE-JANE/series/2.dcm",
        "refused/DOE-JANE/broken.dcm",
    ]
    tables = [json.loads(content) for key, content, _ in told["artifacts"] if key == "inbox-inbox"]
    assert len(tables) == 1
    assert {"what": "files moved away", "number": 5} in tables[0]
    assert "for flow 'watch-inbox'" in ran.stderr
    assert "DOE" not in json.dumps([told["artifacts"], told["logs"]]) + ran.stderr
