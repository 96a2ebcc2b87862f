"""The page's jobs: what they say, how they end, and which words of theirs are shown."""

import io
import json
import time
from pathlib import Path

import pytest
import streamlit as st
from job_driver import PATIENCE_SECONDS, ended

from radsearch.errors import RadSearchError
from radsearch.settings import Settings
from ui import holdings as held
from ui import jobs as job_module
from ui.hiding import may_show, without_paths
from ui.jobs import Advance, Jobs, _hear_all, _Words, advance_of
from ui.wording import duration, moment, told_apart

SECRET_NAME = "Mustermann^Erika.dcm"  # noqa: S105 -- a patient's name, as a file's


@pytest.mark.parametrize(
    ("line", "advance"),
    [
        (
            '{"done": 1, "total": 4, "files_per_second": 0.5, "seconds_left": 6}',
            Advance(1, 4, 0.5, 6.0),
        ),
        ('{"done": 1, "total": null, "files_per_second": 0, "seconds_left": null}', Advance(1, None, 0.0, None)),
        ('{"done": 1}', None),
        ("3", None),
        ("[" * 100_000, None),
        (f"refused {SECRET_NAME}", None),
    ],
)
def test_only_lines_of_progress_are_read_as_such(line: str, advance: Advance | None) -> None:
    assert advance_of(line) == advance


@pytest.mark.parametrize("name", ["done", "total", "files_per_second", "seconds_left"])
@pytest.mark.parametrize("number", ["NaN", "1e999", "-1"])
def test_progress_in_numbers_that_cannot_be_is_none(name: str, number: str) -> None:
    line = '{"done": 1, "total": 4, "files_per_second": 0.5, "seconds_left": 6}'
    told = json.loads(line) | {name: float(number)}
    assert advance_of(line) is not None
    assert advance_of(json.dumps(told)) is None


def test_the_part_that_is_done_is_never_more_than_all() -> None:
    assert Advance(1, 4, 1.0, None).part == 0.25
    assert Advance(5, 4, 1.0, None).part == 1.0
    assert Advance(5, None, 1.0, None).part == Advance(0, 0, 1.0, None).part == 0.0


def test_of_what_a_command_says_only_its_sentences_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    words = _Words()
    said = f"warning: {SECRET_NAME}\nradsearch: it cannot be done\n" + "x" * 100_000 + "\n"
    _hear_all(io.BytesIO(said.encode() + b"\xff\n"), words)
    assert words.sentence == "it cannot be done"
    assert SECRET_NAME in capsys.readouterr().err  # the server's log


def test_paths_are_taken_out_of_a_sentence_unless_names_may_be_shown() -> None:
    words = f"the report /data/of us/{SECRET_NAME} cannot be written, nor '/tmp/x y' and ~/z (No space left)"
    hidden = without_paths(words, [Path("/data/of us"), Path("/tmp/x y"), Path(), Path("/"), None])  # noqa: S108 -- a word only
    assert hidden == "the report [a path] cannot be written, nor '[a path]' and [a path] (No space left)"
    assert may_show(words, Settings(show_file_names=1)) == words
    said = "There is no index in [a path]; make one with: python -m ingest ARCHIVE --index [a path]"
    assert without_paths(said.replace("[a path]", "/x/Erika M")) == said
    assert "Mustermann" not in may_show(words, Settings(archive_folder=Path("/data/of us")))


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        ("/archive/Erika Mustermann/1.dcm", "[a path]"),
        ("the file /archive/Erika (1)/O'Brien, Max/1 2.dcm cannot be read (Input/output error)",
         "the file [a path] cannot be read (Input/output error)"),
        ("the snapshot '/a/Erika M' cannot be restored to ~erika/x y (No space left)",
         "the snapshot '[a path]' cannot be restored to [a path] (No space left)"),
        ("/data/O'Brien, Max: No such file", "[a path]: No such file"),
        ("the server at https://host:6333/x has no collection 'y'",
         "the server at https://host:6333/x has no collection 'y'"),
        ("no map can be written to my index/maps (Read-only)", "no map can be written to [a path] (Read-only)"),
        ("the runs in runs/Erika M are damaged; remove them", "the runs in [a path]; remove them"),
        ("/a/Erika (1).dcm", "[a path]"),
        ("/a/Erika (1)", "[a path]"),
        ("/a/Erika (Mustermann)", "[a path]"),
        ("/a/Mustermann, erika (2).dcm", "[a path]"),
        ("/a/Mustermann; geb. 1950.dcm", "[a path]"),
        ("no file can be read from /a/Erika (1) (Input/output error)",
         "no file can be read from [a path] (Input/output error)"),
        ("/a/Erika (1).sqlite cannot be used (OperationalError).", "[a path] cannot be used (OperationalError)."),
        ("the folder of tiny, /a/Erika (1), holds no weights (a.pth), or not all of their parts",
         "the folder of tiny, [a path], holds no weights (a.pth), or not all of their parts"),
        ("/x/Erika exists and is no index of ours; name a new folder",
         "[a path] exists and is no index of ours; name a new folder"),
    ],
)  # fmt: skip
def test_a_path_is_hidden_to_its_end_and_the_sentence_stays(words: str, hidden: str) -> None:
    assert may_show(words, Settings(index="my index", runs_folder=Path("runs"))) == hidden


def test_where_the_audit_lies_is_hidden_too() -> None:
    settings = Settings(audit=Path("of Erika M/audit.jsonl"), access=Path("of Erika M/access.toml"))
    words = "the audit of Erika M/audit.jsonl cannot be written (PermissionError)"
    assert may_show(words, settings) == "the audit [a path] cannot be written (PermissionError)"


def test_times_and_names_in_words() -> None:
    assert [duration(one) for one in (7.6, 185, 7800)] == ["8 s", "3 min 5 s", "2 h 10 min"]
    assert moment(0) == "1970-01-01 00:00:00"
    assert [moment(far) for far in (-1e18, 1e18)] == ["1-01-01 00:00:00", "9999-12-31 23:59:59"]
    assert told_apart(["a", "b", "a"]) == ["a", "b", "a (2)"]


def test_what_a_visitor_can_clear_leaves_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_made", [])
    jobs = held.jobs()
    st.cache_resource.clear()
    assert held.jobs() is jobs


@pytest.mark.parametrize("other_session", [False, True])
def test_a_job_ends_where_its_log_cannot_be_written_and_where_it_left_somebody_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, other_session: bool
) -> None:
    (tmp_path / "leaving.py").write_text(
        "import subprocess, sys\nsys.stderr.write('a warning\\nradsearch: said after it\\n')\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'],\n"
        f"                 start_new_session={other_session})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(job_module, "_PATIENCE_SECONDS", 0.1)
    closed = io.StringIO()
    closed.close()
    jobs = Jobs()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", closed)
        jobs.start("ingest", ["leaving"], tmp_path)
        jobs._jobs["ingest"].process.wait(PATIENCE_SECONDS)
        jobs.stop("ingest")
        told = ended(jobs, "ingest")
    assert (told.code, told.sentence) == (0, "said after it")


def test_what_no_process_can_have_as_argument_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RadSearchError, match="cannot be started"):
        Jobs().start("ingest", ["a\0b"], tmp_path)


def test_one_job_of_a_kind_is_at_work_at_a_time_and_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(
        "import sys, time\nsys.stderr.write('ready\\n'); sys.stderr.flush()\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit('radsearch: stopped')\n"
    )
    jobs = Jobs()
    before = jobs.state
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(tmp_path))
        jobs.start("ingest", ["waiting"], tmp_path)
        with pytest.raises(RadSearchError, match="at work already"):
            jobs.start("ingest", ["waiting"], tmp_path)
        jobs.start("evaluation", ["no_such_module_anywhere"], tmp_path)
    assert jobs.state != before
    assert ended(jobs, "evaluation").code == 1
    time.sleep(0.5)  # until it waits; what is stopped before that ends, too
    jobs.stop("ingest")
    told = ended(jobs, "ingest")
    assert told.stopping
    assert told.code != 0


def test_a_job_that_hears_no_ctrl_c_ends_with_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deaf.py").write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        """sys.stderr.write('{"done": 1, "total": 2, "files_per_second": 1, "seconds_left": 1}\\n')\n"""
        "sys.stderr.flush()\ntime.sleep(20)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(job_module, "_LEAVING_SECONDS", 0.2)
    jobs = Jobs()
    jobs.start("ingest", ["deaf"], tmp_path)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (told := jobs.told("ingest")) is None or told.advance is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    jobs.stop_all()
    assert ended(jobs, "ingest").code == -9
