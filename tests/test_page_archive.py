"""The page's Archive: what is indexed, reports of ingests, damaged ones among them, and the one ingest it may start."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from job_driver import ended
from streamlit.testing.v1 import AppTest

from radsearch.errors import RadSearchError, SettingsError
from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint
from ui import holdings as held
from ui import report_files, work
from ui.jobs import Advance, Jobs, Told
from ui.report_files import read_reports, refused_files
from ui.work import start_evaluation, start_ingest

pytestmark = pytest.mark.slow  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0123456789abcdef", 4, "none", "float32", 1)
SECRET_NAME = "Mustermann^Erika.dcm"  # noqa: S105 -- a patient's name, as a file's


class FakeJobs(Jobs):
    """Keeps what it is asked to start, and is at work or not as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, list[str], Path]] = []
        self.job: Told | None = None

    def start(self, kind: Any, arguments: Any, made: Path) -> None:
        self.asked.append((kind, list(arguments), made))

    def told(self, kind: Any) -> Told | None:
        return self.job if self.job is not None and self.job.kind == kind else None


@pytest.fixture
def filled(settings: Settings, pseudonymizer: Pseudonymizer) -> Settings:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number), {MODEL.model: np.eye(4, dtype=np.float32)[number]},
                {"modality": "CT", "dataset": "<i>one</i>", "models": [MODEL.model]},
            )
            for number in range(3)
        ])  # fmt: skip
    return settings


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    return folder


@pytest.fixture
def page(filled: Settings, reports: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppTest]:
    st.cache_data.clear()
    monkeypatch.setattr(held, "_made", [])
    monkeypatch.setattr(held, "_last", {})
    monkeypatch.setenv("RADSEARCH_INDEX", filled.index)
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "3")
    monkeypatch.setenv("RADSEARCH_REPORTS", str(reports))

    def opened() -> AppTest:
        test = AppTest.from_file(str(APP), default_timeout=30).run()
        return test.switch_page("views/archive.py").run()

    return opened


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    from ui import failing, work

    fake = FakeJobs()
    for module in (held, failing, work):
        monkeypatch.setattr(module, "jobs", lambda: fake)
    return fake


def write_report(folder: Path, name: str = "20261126-140000.json", **changes: Any) -> Path:
    """As `ingest.report` writes it."""
    told: dict[str, Any] = {
        "found": 4, "indexed": 2, "unchanged": 0, "skipped": {"a text file": 1}, "refused": {"the file is empty": 1},
        "images": 2, "seconds": 2.0, "images_per_second": 1.0, "model": {"model": "m"}, "models": [{"model": "m"}],
    } | changes  # fmt: skip
    files = [
        {"file": "a.dcm", "outcome": "indexed", "reason": None},
        {"file": SECRET_NAME, "outcome": "refused", "reason": "the file is empty"},
    ]
    lines = ",\n".join("  " + json.dumps(one) for one in files)
    path = folder / name
    path.write_text(json.dumps(told, indent=1)[:-2] + ',\n "files": [\n' + lines + "\n ]\n}\n")
    return path


def words_of(page: AppTest) -> str:
    """All that a visitor can read."""
    several = [one.value for kind in ("caption", "info", "error", "markdown", "success") for one in page.get(kind)]
    several += [one.proto.body for one in page.get("html")] + [str(one.value) for one in page.dataframe]
    return "\n".join(str(one) for one in several)


def test_the_report_of_an_ingest_is_read_by_its_beginning(reports: Path) -> None:
    write_report(reports)
    (one,) = read_reports(reports).reports
    assert (one.found, one.indexed, one.models, one.skipped) == (4, 2, ("m",), {"a text file": 1})
    assert refused_files(one) == [(SECRET_NAME, "the file is empty")]


def test_a_report_of_many_files_is_not_gone_through_to_list_it(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(reports)
    with path.open("a") as stream:
        stream.write("no JSON at all " * 100)
    monkeypatch.setattr(report_files, "_LONGEST_FIGURES", path.stat().st_size - 200)
    (one,) = read_reports(reports).reports
    assert one.found == 4
    monkeypatch.setattr(report_files, "_LARGEST", 10)
    with pytest.raises(SettingsError, match="is larger than"):
        refused_files(one)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"found": 1, "files": []}', b'{"files": [', b'{"found": 1e999}',
    ],
)  # fmt: skip
def test_foreign_json_is_passed_over_and_counted(reports: Path, content: bytes) -> None:
    (reports / "foreign.json").write_bytes(content)
    write_report(reports)
    (reports / ".hidden.json").touch()
    (reports / "notes.txt").touch()
    read = read_reports(reports)
    assert (len(read.reports), read.foreign) == (1, 1)


@pytest.mark.parametrize(
    "changes", [{"found": 5}, {"indexed": -1}, {"seconds": "2"}, {"refused": {"x": True}}, {"skipped": {"\ud800": 1}}]
)
def test_a_report_whose_figures_do_not_add_up_is_passed_over(reports: Path, changes: dict[str, Any]) -> None:
    write_report(reports, **changes)
    read = read_reports(reports)
    assert (read.reports, read.foreign) == ((), 1)


def test_reports_come_newest_first_and_the_oldest_are_counted_only(
    reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_files, "MOST_REPORTS", 2)
    for number in range(3):
        os.utime(write_report(reports, f"{number}.json"), (number, number))
    read = read_reports(reports)
    assert ([one.file.name for one in read.reports], read.older) == (["2.json", "1.json"], 1)
    assert read.reports[0].when == 2


def test_a_damaged_list_of_files_and_a_report_that_is_gone_are_sentences(reports: Path) -> None:
    path = write_report(reports)
    (one,) = read_reports(reports).reports
    path.write_text('"outcome": "refused"')
    with pytest.raises(SettingsError, match="is damaged"):
        refused_files(one)
    path.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        refused_files(one)


def test_a_pipe_and_a_link_to_itself_are_counted_and_half_a_character_is_shown(reports: Path) -> None:
    path = write_report(reports)
    path.write_text(path.read_text().replace(SECRET_NAME, "\\udce4.dcm"))
    (reports / "loop.json").symlink_to("loop.json")
    os.mkfifo(reports / "pipe.json")
    read = read_reports(reports)
    assert read.foreign == 1  # a pipe is no file
    assert refused_files(read.reports[0]) == [("\\udce4.dcm", "the file is empty")]


def test_a_folder_of_reports_that_is_not_there_has_none(reports: Path) -> None:
    assert read_reports(reports / "none").reports == ()
    (reports / "file").touch()
    with pytest.raises(SettingsError, match="RADSEARCH_REPORTS cannot be read"):
        read_reports(reports / "file")


def test_no_path_of_the_machine_is_on_the_page_unless_the_settings_say_so(
    page: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = page()
    assert "a folder of this machine" in words_of(shown)
    shown.session_state["notice"] = f"the index in {tmp_path}/Erika M is damaged"
    shown.run()
    assert "[a path] is damaged" in shown.error[0].value.replace("\\", "")
    monkeypatch.setenv("RADSEARCH_INDEX", str(tmp_path / "Erika M"))
    shown.switch_page("views/browse.py").run()
    assert "There is no index in [a path]" in shown.error[0].value.replace("\\", "")
    assert str(tmp_path) not in words_of(shown)
    monkeypatch.setenv("RADSEARCH_SHOW_FILE_NAMES", "1")
    shown.run()
    assert "Erika M" in shown.error[0].value


def test_an_ingest_takes_the_configured_folder_and_no_secret_as_argument(jobs: FakeJobs, tmp_path: Path) -> None:
    start_ingest(
        Settings(
            index="https://doctor:secret@host", secret="secret", qdrant_api_key="secret",  # noqa: S106 -- opens nothing
            archive_folder=tmp_path / "archive", reports_folder=tmp_path / "reports",
            manifest=tmp_path / "labels.csv", dataset="--name",
        ),
        ["m"],
    )  # fmt: skip
    ((kind, arguments, made),) = jobs.asked
    assert (kind, made.parent) == ("ingest", tmp_path / "reports")
    assert arguments == [
        "ingest", str(tmp_path / "archive"), f"--report={made}", "--progress-json", "--model=m",
        f"--manifest={tmp_path / 'labels.csv'}", "--dataset=--name",
    ]  # fmt: skip
    with pytest.raises(RadSearchError, match="RADSEARCH_ARCHIVE"):
        start_ingest(Settings(), ["m"])


def test_an_evaluation_goes_to_a_folder_that_maintenance_knows(jobs: FakeJobs, tmp_path: Path) -> None:
    from flows.pruning import _RUN

    start_evaluation(tmp_path, "../some model", "denner2024", single_label=True)
    ((_, arguments, made),) = jobs.asked
    assert made.parent == tmp_path
    assert _RUN.fullmatch(made.name)
    assert arguments == [
        "evaluation", "run", "--model=../some model", "--protocol=denner2024", f"--out={made}", "--single-label",
    ]  # fmt: skip
    with pytest.raises(RadSearchError, match="protocol"):
        start_evaluation(tmp_path, "m", "--other", single_label=False)


def test_the_page_shows_the_index_by_model_and_says_what_is_not_set(
    page: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RADSEARCH_REPORTS")
    shown = page()
    assert not shown.exception
    (models,) = [one.value for one in shown.dataframe]
    assert list(models.iloc[0]) == [MODEL.model, 3, 4, "float32", "sha256:0123456789ab"]
    words = words_of(shown)
    assert "start the page with RADSEARCH_ARCHIVE and RADSEARCH_REPORTS set" in words
    assert "RADSEARCH_REPORTS set to the folder" in words
    assert not [one for one in shown.button if one.key == "start-ingest"]


def test_names_of_files_are_hidden_unless_the_settings_show_them(
    page: Callable[[], AppTest], reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(reports, f"{SECRET_NAME}.json", refused={"the file is <b>empty</b>": 1})
    (reports / "foreign.json").write_text("{")
    shown = page()
    assert not shown.exception
    assert list(shown.dataframe[1].value["refused"]) == [1]
    assert list(shown.dataframe[2].value["reason"]) == ["the file is <b>empty</b>", "a text file"]
    assert "1 files are no report of an ingest" in words_of(shown)
    assert "Mustermann" not in words_of(shown)
    monkeypatch.setenv("RADSEARCH_SHOW_FILE_NAMES", "1")
    shown.run()
    shown.toggle(key="show-names").set_value(True).run()
    assert not shown.exception
    assert list(shown.dataframe[3].value["file"]) == [SECRET_NAME]


def test_while_an_ingest_of_ours_is_at_work_its_progress_is_shown_and_the_index_left_to_it(
    page: Callable[[], AppTest], jobs: FakeJobs, filled: Settings, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSEARCH_ARCHIVE", str(reports))
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "0.1")
    made = reports / "x.json"
    jobs.job = Told("ingest", made, 0.0, 65.0, None, Advance(1, 4, 2.0, 1.5), SECRET_NAME, stopping=False)
    with open_index(filled):
        shown = page()
    assert not shown.exception
    assert not shown.warning
    assert shown.button(key="stop-ingest").label == "Stop"
    progress = str(shown.get("progress")[0].proto)
    assert "Ingest at work for 1 min 5 s: 1 of 4 files, 2.0 files a second, 2 s left" in progress
    assert "Mustermann" not in progress
    assert not [one for one in shown.button if one.key == "start-ingest"]


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ((2, "there is no folder /data/Erika", False), "failed after 1 s: there is no folder [a path]"),
        ((1, None, False), "failed after 1 s: exit code 1; the server's log may say why"),
        ((130, "stopped", True), "was stopped after 1 s"),
        ((-9, None, True), "was stopped after 1 s"),
        ((2, "the disk is full", True), "failed after 1 s: the disk is full"),
    ],
)
def test_an_ingest_that_failed_says_so_in_a_sentence(
    page: Callable[[], AppTest],
    jobs: FakeJobs,
    reports: Path,
    ending: tuple[int, str | None, bool],
    words: str,
) -> None:
    code, sentence, stopping = ending
    jobs.job = Told("ingest", reports / "none.json", 0.0, 1.0, code, None, sentence, stopping=stopping)
    shown = page()
    assert not shown.exception
    assert words in words_of(shown).replace("\\", "").replace("\u2060", "")


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ((0, {}), "is done after 1 s: 4 files: 2 indexed"),
        ((1, {}), "is done after 1 s: 4 files: 2 indexed"),
        ((1, {"refused": {}, "found": 3}), "failed after 1 s: exit code 1"),
        ((2, {}), "failed after 1 s: nothing could be taken in"),
        ((-9, {}), "failed after 1 s: exit code -9"),
    ],
)
def test_an_ingest_is_done_with_code_0_or_with_1_and_refusals(
    page: Callable[[], AppTest], jobs: FakeJobs, reports: Path, ending: tuple[int, Any], words: str
) -> None:
    code, changes = ending
    jobs.job = Told("ingest", write_report(reports, **changes), 0.0, 1.0, code, None, None, stopping=False)
    assert words in words_of(page()).replace("\\", "").replace("\u2060", "")


def test_the_parts_of_a_data_set_are_bars_too(page: Callable[[], AppTest], filled: Settings) -> None:
    point = Pseudonymizer(b"another secret of more than 32 characters").point_id("instance", 9)
    with open_index(filled) as index:
        index.write([IndexedImage(point, {MODEL.model: np.eye(4, dtype=np.float32)[3]}, {"split": "train"})])
    assert not page().exception


def test_what_is_there_already_is_never_written_over(
    jobs: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "now_in_words", lambda: "20261126-140000")
    (tmp_path / "20261126-140000.json").touch()
    start_ingest(Settings(archive_folder=tmp_path, reports_folder=tmp_path), ["m"])
    assert jobs.asked[0][2] == tmp_path / "20261126-140000-2.json"


def test_a_busy_index_is_a_sentence_beside_the_reports(
    page: Callable[[], AppTest], filled: Settings, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(reports)
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "0.1")
    with open_index(filled):
        shown = page()
    assert not shown.exception
    assert shown.warning[0].value.startswith("The index is in use by another program")
    assert list(shown.dataframe[0].value["found"]) == [4]


@pytest.mark.slow
def test_a_real_ingest_is_started_followed_and_summed_up(
    page: Callable[[], AppTest], reports: Path, tmp_path: Path, write_png: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for number in range(3):
        write_png(f"archive/{number}.png", seed=number)
    monkeypatch.setenv("RADSEARCH_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("RADSEARCH_INDEX", str(tmp_path / "another"))
    shown = page()
    assert "There is no index yet" in words_of(shown)
    shown.button(key="start-ingest").click().run()
    told = ended(held.jobs(), "ingest")
    assert (told.code, told.sentence) == (0, None)
    assert told.advance is not None
    assert (told.advance.done, told.advance.total) == (3, 3)
    shown.run()
    assert not shown.exception
    assert "3 files: 3 indexed" in shown.success[0].value.replace("\\", "").replace("\u2060", "")
    assert [one.file.parent for one in read_reports(reports).reports] == [reports]
    assert list(shown.dataframe[0].value["images"]) == [3]
