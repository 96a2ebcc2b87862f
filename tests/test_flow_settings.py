"""The schedules: read from TOML, held against the flows; what is wrong is one line that names the job."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.settings import Job, load_schedules
from radsearch.errors import SettingsError

CHECKOUT = Path(__file__).resolve().parents[1]
GOOD = """
server = "http://127.0.0.1:4200/api"

[ingest.archive]
cron = "0 1 * * *"
timezone = "Europe/Berlin"
path = "/data/archive"
models = ["efficientnet-lite0"]
partitions = 8

[evaluate.weekly]
index = "/data/index"
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "flows.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_jobs_are_read_with_their_parameters(tmp_path: Path) -> None:
    schedules = load_schedules(written(tmp_path, GOOD))
    assert schedules.server == "http://127.0.0.1:4200/api"
    path, models = "/data/archive", ["efficientnet-lite0"]
    assert schedules.jobs == (
        Job("ingest", "archive", {"path": path, "models": models, "partitions": 8}, "0 1 * * *", "Europe/Berlin"),
        Job("evaluate", "weekly", {"index": "/data/index"}),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no job"),
        ("[ingest", "are no TOML"),
        ("[ingset.archive]\npath = '/data'", "ingset is no flow; there are ingest, inbox"),
        ("[ingest]\npath = '/data'", r"a job has a name: \[ingest.NAME\]"),
        ("server = 4200\n[maintain.nightly]", "server is a text in quotes"),
        ("[maintain.nightly]\ncron = 5", "cron is a text in quotes"),
        ("[maintain.'a/b']\nsamples = 5", "a job's name is of letters, digits"),
        ("[maintain.'']\nsamples = 5", "a job's name is of letters, digits"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        load_schedules(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_schedules(tmp_path / "none.toml")


def checked(file: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "flows", "check", "--settings", str(file)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_the_schedules_are_listed_when_all_is_well(tmp_path: Path) -> None:
    told = checked(written(tmp_path, GOOD))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[1:] == [
        "ingest.archive   0 1 * * *  Europe/Berlin",
        "evaluate.weekly  by hand    UTC",
    ]


@pytest.mark.slow
def test_what_no_flow_takes_is_refused_in_one_line_that_names_the_job(tmp_path: Path) -> None:
    """Each alone, as the first is what is told; in one process, as Prefect takes seconds to import."""
    wrong = {
        "path = '/data'\ncron = 'now and then'": "'now and then' is no cron string",
        "path = '/data'\ncron = '0 25 * * *'": "is no cron string",
        "path = '/data'\ncron = '0 1 * * *'\ntimezone = 'Mars/Olympus'": "there is no timezone 'Mars/Olympus'",
        "path = '/data'\nmodel = 'x'": "there is no model; there are cron, timezone, path",
        "models = ['x']": "lacks path",
        "path = '/data'\npartitions = 'many'": "has a value of another kind",
        "path = '/data'\npartitions = -1": "partitions is 1 or more",
        "path = '/data'\ncron = '0 0 30 2 *'": "or is never due",
        'path = "/data/\\u0000"': "has a text with a NUL in it",
        "path = '/data'\nindex = 'http://user:geheim@127.0.0.1:6333'": "an index's address holds no password",
    }
    script = """
import sys
from pathlib import Path
from flows.settings import load_schedules
from flows.serve import deployments_of
from radsearch.errors import SettingsError
for file in sys.argv[1:]:
    try:
        deployments_of(load_schedules(Path(file)).jobs)
    except SettingsError as error:
        print(error)
"""
    files = []
    for number, text in enumerate(wrong):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(f"[ingest.mine]\n{text}\n")
    command = [sys.executable, "-c", script, *map(str, files)]
    told = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=120)
    lines = told.stdout.splitlines()
    assert len(lines) == len(wrong)
    for line, said in zip(lines, wrong.values(), strict=True):
        assert line.startswith("[ingest.mine]")
        assert said in line
        assert "geheim" not in line
