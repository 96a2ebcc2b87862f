"""`python -m ingest`: what it says, what it writes, and with which code it ends."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from inline_pool import InlinePool
from tiny_models import add_tiny_model

from ingest import pipeline
from ingest.__main__ import main
from radsearch.index import open_index
from radsearch.models import built_in_models
from radsearch.settings import Settings, load_settings
from radsearch.study import SearchFilter

CHECKOUT = Path(__file__).resolve().parents[1]
COLUMNS = "filepath,patient,modality,region,labels"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"


@dataclass
class Answer:
    """How a command ended, what it said, and its report where it wrote one."""

    code: int
    said: str
    report: dict

    @property
    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        return {entry["file"]: (entry["outcome"], entry["reason"]) for entry in self.report["files"]}


Ingest = Callable[..., Answer]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


@pytest.fixture
def ingest(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ingest:
    """Runs the command in this process with a tiny model, reading in threads; the index is a real one."""
    monkeypatch.setattr(pipeline, "IsolatedPool", InlinePool)
    add_tiny_model(monkeypatch, tmp_path / "models", "tiny", seed=1)
    add_tiny_model(monkeypatch, tmp_path / "models", "other", seed=2)
    for name, value in {"MODELS": tmp_path / "models", "MODEL": "tiny", "DEVICE": "cpu", "WORKERS": 1}.items():
        monkeypatch.setenv(f"RADSEARCH_{name}", str(value))
    monkeypatch.setenv("RADSEARCH_INDEX", str(tmp_path / "index"))
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "0")

    def run(*arguments: object, path: Path = archive) -> Answer:
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        code = main([str(path), "--report", str(report), *map(str, arguments)])
        said = capsys.readouterr()
        assert said.out == ""
        written = json.loads(report.read_text()) if report.exists() else {}
        if written:
            outcomes = [written["indexed"], written["unchanged"], *written["skipped"].values()]
            assert written["found"] == len(written["files"]) == sum([*outcomes, *written["refused"].values()])
        return Answer(code, said.err, written)

    return run


@pytest.fixture
def mixed(archive: Path, write_png: Callable[..., Path], write_dicom: Callable[..., Path]) -> Path:
    """Two good images among a text, a truncated DICOM, a structured report and a file of no bytes."""
    write_png("archive/good.png")
    write_dicom("archive/good.dcm")
    (archive / "notes.txt").write_text("to be read by nobody")
    cut_off = write_dicom("archive/cut.dcm")
    cut_off.write_bytes(cut_off.read_bytes()[:-40])
    write_dicom("archive/report.dcm", SOPClassUID=SR_CLASS, PixelData=None, Rows=None, Columns=None)
    (archive / "empty.dcm").touch()
    return archive


def images_in(settings: Settings, where: SearchFilter | None = None) -> int:
    with open_index(settings) as index:
        return index.count(where)


def assert_one_line(answer: Answer, *words: str) -> None:
    assert answer.code == 2
    assert answer.said.count("\n") == 1
    assert answer.said.startswith("radsearch: ")
    assert "Traceback" not in answer.said
    for word in words:
        assert word in answer.said


def test_good_images_are_indexed_and_every_other_file_is_counted_with_its_reason(ingest: Ingest, mixed: Path) -> None:
    first = ingest()
    assert first.code == 1
    assert (first.report["found"], first.report["indexed"]) == (6, 2)
    assert first.report["skipped"] == {
        "not an image": 1,
        "no picture: structured report": 1,
    }
    assert first.report["refused"] == {"empty file": 1, "truncated file": 1}
    assert "6 files: 2 indexed (2 images), 0 unchanged, 2 skipped, 2 refused" in first.said
    assert images_in(load_settings()) == 2

    for name in ("cut.dcm", "empty.dcm"):
        (mixed / name).unlink()
    second = ingest()
    assert second.code == 0
    assert (second.report["indexed"], second.report["unchanged"]) == (0, 2)
    assert images_in(load_settings()) == 2


def test_the_report_is_its_owners_alone_and_stderr_names_no_file_and_no_patient(ingest: Ingest, mixed: Path) -> None:
    answer = ingest()
    assert stat.S_IMODE((mixed.parent / "report.json").stat().st_mode) == 0o600
    for named in ("good", "cut.dcm", "empty.dcm", "notes", "Marker", "MRN-0001"):
        assert named not in answer.said


def test_retry_takes_only_the_refused_files(
    ingest: Ingest, mixed: Path, tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    ingest()
    earlier = (tmp_path / "report.json").rename(tmp_path / "earlier.json")
    write_dicom("archive/cut.dcm")
    write_dicom("archive/new.dcm")
    again = ingest("--retry", earlier)
    assert again.outcomes == {"cut.dcm": ("indexed", None), "empty.dcm": ("refused", "empty file")}
    assert again.code == 1
    assert images_in(load_settings()) == 3
    assert mixed.is_dir()


def test_two_models_are_embedded_in_one_run_or_one_after_the_other(
    ingest: Ingest, write_png: Callable[..., Path]
) -> None:
    write_png("archive/image.png")
    assert ingest("--model", "tiny").report["indexed"] == 1
    assert ingest("--model", "other").report["indexed"] == 1
    both = ingest("--model", "tiny", "--model", "other")
    assert (both.code, both.report["unchanged"]) == (0, 1)
    assert [model["model"] for model in both.report["models"]] == ["tiny", "other"]
    with open_index(load_settings()) as index:
        assert index.facets("models", SearchFilter()) == {"tiny": 1, "other": 1}


def test_a_manifest_gives_labels_and_its_unusable_rows_are_counted(
    ingest: Ingest, archive: Path, write_png: Callable[..., Path]
) -> None:
    for number in range(3):
        write_png(f"archive/{number}.png", seed=number)
    write_png("outside.png")
    (archive / "link.png").symlink_to(archive.parent / "outside.png")
    lines = [
        "0.png,7,CT,chest,nodule",
        "1.png,7,QQ,chest,",
        "2.png,7,CT,chest,,too,many",
        "../outside.png,7,CT,chest,",
        "link.png,7,CT,chest,",
        "gone.png,7,CT,chest,",
        ",7,CT,chest,",
    ]
    manifest = archive / "manifest.csv"
    manifest.write_text("\n".join([COLUMNS, *lines]) + "\n")
    answer = ingest("--manifest", manifest, "--dataset", "scans", "--split", "test")
    assert answer.code == 1
    assert (answer.report["found"], answer.report["indexed"]) == (7, 1)
    assert answer.report["refused"] == {
        "file lies outside the archive": 2,
        "file is missing": 1,
        "manifest row has an unknown modality": 1,
        "manifest row has another number of cells than the header": 1,
        "manifest row names no file": 1,
    }
    where = SearchFilter(modality=("CT",), region=("chest",), pathology=("nodule",), dataset=("scans",))
    assert images_in(load_settings(), where) == 1


def test_links_to_folders_and_pipes_do_not_hold_a_run_up(
    ingest: Ingest, archive: Path, write_png: Callable[..., Path]
) -> None:
    write_png("archive/image.png")
    (archive / "circle").symlink_to(archive)
    os.mkfifo(archive / "pipe")
    answer = ingest()
    assert answer.outcomes == {
        "circle": ("skipped", "link to a folder"),
        "image.png": ("indexed", None),
        "pipe": ("skipped", "not a regular file"),
    }
    assert answer.code == 0


def test_a_file_whose_name_is_no_utf8_is_taken_and_retried_like_any_other(
    ingest: Ingest, archive: Path, tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    good, cut_off = (os.fsdecode(name) for name in (b"M\xfcller.png", b"J\xe4ger.png"))  # as old Windows has them
    write_png("archive/image.png").rename(archive / good)
    (archive / cut_off).write_bytes((archive / good).read_bytes()[:-30])
    answer = ingest()
    assert answer.outcomes == {
        "M\\udcfcller.png": ("indexed", None),
        "J\\udce4ger.png": ("refused", "truncated file"),
    }
    earlier = (tmp_path / "report.json").rename(tmp_path / "earlier.json")
    write_png("archive/again.png").replace(archive / cut_off)
    assert ingest("--retry", earlier).outcomes == {"J\\udce4ger.png": ("indexed", None)}


def test_an_index_within_the_archive_is_not_taken_in(
    ingest: Ingest, archive: Path, write_png: Callable[..., Path]
) -> None:
    write_png("archive/image.png")
    for expected in ("indexed", "unchanged"):
        answer = ingest("--index", archive / "index")
        assert answer.outcomes == {"image.png": (expected, None)}


def test_an_empty_folder_is_an_error(ingest: Ingest) -> None:
    assert_one_line(ingest(), "no files in")


def test_a_missing_folder_is_an_error_and_makes_no_index(ingest: Ingest, tmp_path: Path) -> None:
    assert_one_line(ingest(path=tmp_path / "missing"), "there is no file or folder", "missing")
    assert not (tmp_path / "index").exists()


def test_a_folder_without_any_image_ends_with_2_and_its_reasons(ingest: Ingest, archive: Path) -> None:
    (archive / "notes.txt").write_text("to be read by nobody")
    answer = ingest()
    assert answer.code == 2
    assert "skipped: 1 x not an image" in answer.said
    assert answer.report["skipped"] == {"not an image": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filepath,patient,modality,labels\n0.png,7,CT,nodule\n", "lacks the column region"),
        (None, "cannot be read"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "is no UTF-8 CSV"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_an_error_and_makes_no_index(
    ingest: Ingest, tmp_path: Path, write_png: Callable[..., Path], text: "str | bytes | None", words: str
) -> None:
    write_png("archive/0.png")
    manifest = tmp_path / "manifest.csv"
    if text is not None:
        manifest.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_one_line(ingest("--manifest", manifest), "manifest.csv", words)
    assert not (tmp_path / "index").exists()


def test_a_manifest_that_breaks_off_later_is_an_error_too(
    ingest: Ingest, archive: Path, write_png: Callable[..., Path]
) -> None:
    write_png("archive/0.png")
    manifest = archive / "manifest.csv"
    manifest.write_bytes(f"{COLUMNS}\n0.png,7,CT,chest,\n".encode() * 2 + b"\xff" * 10000)
    assert_one_line(ingest("--manifest", manifest), "is no UTF-8 CSV")


def test_a_model_that_does_not_fit_its_row_is_said_before_a_file_is_read_and_stays_unknown_to_the_index(
    ingest: Ingest, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_png("archive/0.png")
    right = built_in_models()["tiny"]
    monkeypatch.setitem(built_in_models(), "tiny", replace(right, dimension=7))
    words = ("tiny cannot embed a picture as its row says", "dimension 7", "not (1, 7)")
    assert_one_line(ingest("--model", "tiny"), *words)
    assert not (tmp_path / "index").exists()
    assert ingest("--model", "other").code == 0
    assert_one_line(ingest("--model", "tiny"), *words)
    monkeypatch.setitem(built_in_models(), "tiny", right)
    assert ingest("--model", "tiny").code == 0


def test_an_unknown_model_is_answered_with_the_list_and_the_nearest(
    ingest: Ingest, write_png: Callable[..., Path]
) -> None:
    write_png("archive/0.png")
    answer = ingest("--model", "efficientnet-lite")
    assert_one_line(answer, "did you mean 'efficientnet-lite0'?", "biomedclip", "dinov2-vitb14")


def test_a_report_to_retry_that_is_none_is_an_error(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "earlier.json").write_text("[]")
    assert_one_line(ingest("--retry", tmp_path / "earlier.json"), "no report of an ingest")


def test_a_folder_that_is_no_index_is_left_as_it_is(
    ingest: Ingest, tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    write_png("archive/0.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    assert_one_line(ingest("--index", tmp_path / "photos"), "is no index of ours")
    assert [entry.name for entry in (tmp_path / "photos").iterdir()] == ["mine.txt"]


def test_another_secret_and_changed_weights_are_refused(
    ingest: Ingest, tmp_path: Path, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png("archive/0.png")
    assert ingest().code == 0
    with monkeypatch.context() as other:
        other.setenv("RADSEARCH_SECRET", "another secret of more than thirty-two characters")
        assert_one_line(ingest(), "made with another secret")
    other_weights = tmp_path / "models" / "other" / "weights.pth"
    (tmp_path / "models" / "tiny" / "weights.pth").write_bytes(other_weights.read_bytes())
    assert_one_line(ingest(), "the vectors of tiny", "weights: sha256:")


def test_an_unknown_setting_is_an_error(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSEARCH_WORKER", "2")
    assert_one_line(ingest(), "unknown setting RADSEARCH_WORKER")


RUN_TWICE = """
import sys
from ingest.__main__ import main
if __name__ == "__main__":
    code = main(sys.argv[1:])
    print(code, "torch" in sys.modules, "transformers" in sys.modules)
"""


@pytest.mark.slow
def test_a_second_run_does_not_even_import_torch(
    archive: Path, tmp_path: Path, write_png: Callable[..., Path], write_dicom: Callable[..., Path]
) -> None:
    write_png("archive/image.png")
    write_dicom("archive/slice.dcm")
    script = tmp_path / "run.py"
    script.write_text(RUN_TWICE)
    environment = {**os.environ, "RADSEARCH_DEVICE": "cpu", "PYTHONPATH": str(CHECKOUT)}

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(archive), "--index", str(tmp_path / "index")]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)

    first, second = run(), run()
    assert first.stdout.split() == ["0", "True", "False"]
    assert "2 files: 2 indexed (2 images)" in first.stderr
    assert second.stdout.split() == ["0", "False", "False"]
    assert "2 files: 0 indexed (0 images), 2 unchanged" in second.stderr


@pytest.mark.slow
def test_the_real_command_with_the_default_model(mixed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ingest", str(mixed), "--index", str(tmp_path / "index")]
    command += ["--report", str(tmp_path / "report.json")]
    environment = {**os.environ, "RADSEARCH_DEVICE": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment)
    assert done.returncode == 1
    assert done.stdout == ""
    for named in ("good", "cut.dcm", "empty.dcm", "notes", "Marker", "MRN-0001", "Traceback", "Warning"):
        assert named not in done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["indexed"], sum(report["skipped"].values()), sum(report["refused"].values())) == (2, 2, 2)
    assert report["model"]["model"] == "efficientnet-lite0"


@pytest.mark.slow
def test_the_real_command_says_a_missing_folder_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ingest", str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 2
    assert done.stderr == f"radsearch: there is no file or folder {tmp_path / 'missing'}\n"


def test_progress_as_json_is_an_object_a_line_with_all_files_done_at_the_end(ingest: Ingest, mixed: Path) -> None:
    answer = ingest("--progress-json", path=mixed)
    lines = [json.loads(line) for line in answer.said.splitlines() if line.startswith("{")]
    assert lines
    assert all(set(line) == {"done", "total", "files_per_second", "seconds_left"} for line in lines)
    assert lines[-1]["done"] == answer.report["found"]
    assert [line["done"] for line in lines] == sorted(line["done"] for line in lines)


class Counting:
    """Accounts that know how many files are done, and nothing else."""

    def done(self) -> int:
        return 30


@pytest.mark.parametrize(
    ("total", "told"),
    [
        (120, {"done": 30, "total": 120, "files_per_second": 10.0, "seconds_left": 9.0}),
        (None, {"done": 30, "total": None, "files_per_second": 10.0, "seconds_left": None}),
    ],
)
def test_progress_as_json_says_rate_and_time_left(total, told, monkeypatch, capsys):
    from ingest import progress

    clock = iter([100.0, 100.5, 103.0, 103.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    shown = progress.Progress(Counting(), lambda: 0, as_json=True)
    shown._total = total
    shown()  # half a second is too soon
    assert not capsys.readouterr().err
    shown()
    assert json.loads(capsys.readouterr().err) == told
