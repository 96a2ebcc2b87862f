"""`python -m evaluation`: a run of published embeddings, its comparison and report; bad input is one line and a 2."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from evaluation.__main__ import main
from evaluation.stored import METRICS, QUERIES, REPORT, SUMMARY

COLUMNS = ("filepath", "modality", "region", "labels", "split", "patient", "dataset")
CLASSES = ("nodule", "effusion", "cyst")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Published:
    """Files of somebody's embeddings: 12 images of each of three classes, in turn; the last four of each are queries.

    Two images are of one patient. The vectors of a class lie about one corner of the space.
    """

    vectors: Path
    manifest: Path

    @property
    def arguments(self) -> list[str]:
        return ["--vectors", str(self.vectors), "--manifest", str(self.manifest), "--model", "published"]

    def rewrite(self, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
        with self.manifest.open(encoding="utf-8", newline="") as stream:
            rows = change(list(csv.DictReader(stream)))
        with self.manifest.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture(autouse=True)
def _processor_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default index and the default folder of runs would be in the working folder."""
    monkeypatch.setenv("RADSEARCH_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    random = np.random.default_rng(0)
    rows, vectors = [], []
    for number in range(12):
        for place, finding in enumerate(CLASSES):
            split = "test" if number >= 8 else "train"
            patient = f"Weber^{finding}-{split}-{number // 2}"
            name = f"{split}/{finding}{number:02}.png"
            rows.append((name, "CT", "chest", finding, split, patient, "own"))
            vectors.append(3 * np.eye(3)[place] + random.normal(0, 0.1, 3))
    files = Published(tmp_path / "vectors.npy", tmp_path / "manifest.csv")
    np.save(files.vectors, np.array(vectors, np.float32))
    with files.manifest.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return files


def spoiled(published: Published, place: int = 24) -> Published:
    """The same images, but the vectors of those from that place on are another class's: every query finds no hit."""
    vectors = np.load(published.vectors)
    vectors[place:] = np.roll(vectors[place:], 1, axis=1)
    other = published.vectors.with_name("spoiled.npy")
    np.save(other, vectors)
    return Published(other, published.manifest)


def denner(published: Published, out: Path) -> int:
    return main(["run", "--protocol", "denner2024", *published.arguments, "--out", str(out)])


def refusal(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """What a refused command says: one line on stderr, nothing on stdout, and 2."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("radsearch: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    return said.err


def test_a_run_measures_published_embeddings(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert denner(published, tmp_path / "run") == 0
    told = json.loads((tmp_path / "run" / METRICS).read_text(encoding="utf-8"))
    assert (told["protocol"], told["model"]) == ("denner2024", {"model": "published", "dimension": 3})
    assert (told["queries"], told["index"], told["classes"], told["shared_patients"]) == (12, 24, 3, 0)
    assert (told["micro"]["P@1"], told["micro"]["mAP@10"], told["micro"]["MRR"]) == (1, 1, 1)
    assert told["micro"]["P@10"] == 1.0  # of eight that could be found, the first eight are
    assert told["micro"]["plain P@10"] == 0.8
    assert told["chance"]["P@1"] == pytest.approx(1 / 3, abs=1e-6)
    assert told["leak"] is None
    said = capsys.readouterr()
    assert said.out == (tmp_path / "run" / SUMMARY).read_text(encoding="utf-8")
    assert said.out.splitlines()[:2] == [
        "denner2024, published",
        "12 queries of 3 classes against 24 images",
    ]
    assert said.err == f"the run is in {tmp_path / 'run'}\n"
    assert {file.name for file in (tmp_path / "run").iterdir()} == {METRICS, QUERIES, SUMMARY, REPORT}


def test_every_image_asks_where_patients_are_left_out(published: Published, tmp_path: Path) -> None:
    assert main(["run", *published.arguments, "--out", str(tmp_path / "run")]) == 0
    told = json.loads((tmp_path / "run" / METRICS).read_text(encoding="utf-8"))
    assert (told["protocol"], told["queries"], told["index"]) == ("leave-patient-out", 36, 36)
    # Two images a patient: of the 34 others ten are of the query's class.
    assert told["chance"]["P@1"] == pytest.approx(10 / 34, abs=1e-6)
    assert told["micro"]["plain P@10"] == 1.0


def test_a_run_of_vectors_in_another_order_is_the_same(published: Published, tmp_path: Path) -> None:
    denner(published, tmp_path / "run")
    order = np.random.default_rng(1).permutation(36)
    np.save(published.vectors, np.load(published.vectors)[order])
    published.rewrite(lambda rows: [rows[place] for place in order])
    denner(published, tmp_path / "again")
    first, second = ((tmp_path / name / QUERIES).read_bytes() for name in ("run", "again"))
    assert first == second


def test_images_of_several_findings_may_be_left_out(published: Published, tmp_path: Path) -> None:
    published.rewrite(lambda rows: [{**rows[0], "labels": "nodule; cyst"}, *rows[1:]])
    for option, queries, dropped in (([], 36, {}), (["--single-label"], 35, {"several findings": 1})):
        assert main(["run", *published.arguments, *option, "--out", str(tmp_path / "run")]) == 0
        told = json.loads((tmp_path / "run" / METRICS).read_text(encoding="utf-8"))
        assert (told["queries"], told["dropped"]) == (queries, dropped)


def test_a_run_without_a_folder_goes_to_one_of_its_own(published: Published, tmp_path: Path) -> None:
    assert main(["run", *published.arguments]) == 0
    (folder,) = (tmp_path / "evaluation-runs").iterdir()
    assert folder.name.endswith("-leave-patient-out-published")
    assert (folder / METRICS).is_file()


def test_no_word_of_a_patient_is_written_or_said(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denner(published, tmp_path / "run")
    said = capsys.readouterr()
    contents = [file.read_text(encoding="utf-8") for file in (tmp_path / "run").iterdir()]
    assert not [one for one in (*contents, said.out, said.err) if "Weber" in one]


def test_two_runs_are_compared(published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run finds nothing: each of its six patients of two queries loses them, so 2 of 64 swaps are as far."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    denner(published, good)
    denner(spoiled(published), bad)
    capsys.readouterr()
    assert main(["compare", str(good), str(bad)]) == 0
    lines = capsys.readouterr().out.splitlines()
    name = f"published ({bad}) less published ({good})"
    assert lines[0] == f"P@1: {name}: -1.0000 [-1.0000, -1.0000]"
    assert f"P@10: {name}: -1.0000 [-1.0000, -1.0000]" in lines
    assert main(["compare", str(good), str(bad), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["metric"] for one in found] == ["P@1", "P@10", "mAP@10"]
    for one in found:
        assert (one["common"], one["only"]) == (12, 0)
        # Eight images of another class come first; hits at 9 and 10 are worth (1/9 + 2/10) / 8 to mAP@10.
        best = (1 / 9 + 2 / 10) / 8 if one["metric"] == "mAP@10" else 0
        assert -1 <= one["difference"]["mean"] <= -1 + best + 1e-9
        assert one["difference"]["p"] == pytest.approx(3 * 2 / 64, abs=0.02)  # three tests
        assert [(part["queries"], part["won"], part["lost"]) for part in one["by_class"]] == [(4, 0, 4)] * 3


def test_a_run_is_no_different_from_itself(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denner(published, tmp_path / "run")
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "run"), str(tmp_path / "run"), "--json"]) == 0
    for one in json.loads(capsys.readouterr().out):
        assert one["difference"] == {"mean": 0.0, "interval": {"low": 0.0, "high": 0.0}, "p": 1.0}
        assert one["apart"] == []


def test_a_comparison_may_be_drawn(published: Published, tmp_path: Path) -> None:
    denner(published, tmp_path / "good")
    denner(spoiled(published), tmp_path / "bad")
    page = tmp_path / "page.html"
    arguments = [str(tmp_path / "good"), str(tmp_path / "bad"), "--html", str(page), "--pictures", str(tmp_path)]
    assert main(["compare", *arguments]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "<h2>mAP@10: published" in text


def test_a_report_is_drawn_again(published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    denner(published, tmp_path / "run")
    file = tmp_path / "run" / REPORT
    first = file.read_text(encoding="utf-8")
    file.unlink()
    capsys.readouterr()
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert file.read_text(encoding="utf-8") == first
    assert "Best queries" not in first
    assert main(["report", str(tmp_path / "run"), "--pictures", str(tmp_path)]) == 0
    assert "Best queries" in file.read_text(encoding="utf-8")


VECTORS: dict[str, tuple[Callable[["np.ndarray"], "np.ndarray"], str]] = {
    "not finite": (lambda rows: np.where(np.arange(36)[:, None] == 5, np.nan, rows), "1 vectors of .* are not finite"),
    "infinite": (lambda rows: np.where(np.arange(36)[:, None] < 2, np.inf, rows), "2 vectors of .* are not finite"),
    "without a direction": (lambda rows: rows * (np.arange(36) != 7)[:, None], "1 vectors of .* have no direction"),
    "too few": (lambda rows: rows[1:], "has 36 rows and .* has 35 vectors"),
    "too many": (lambda rows: np.tile(rows, (2, 1)), "has 36 rows and .* has 72 vectors"),
    "whole numbers": (lambda rows: rows.astype(int), "no .* array of floating-point numbers"),
    "a line": (lambda rows: rows.ravel(), "no .* array of floating-point numbers"),
    "none": (lambda rows: rows[:0], "no .* array of floating-point numbers|cannot be read"),
}


@pytest.mark.parametrize("vectors", VECTORS)
def test_vectors_that_cannot_be_used_are_refused(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str], vectors: str
) -> None:
    change, said = VECTORS[vectors]
    np.save(published.vectors, change(np.load(published.vectors)))
    line = refusal(capsys, ["run", *published.arguments, "--out", str(tmp_path / "run")])
    assert re.search(said, line), line
    assert not (tmp_path / "run").exists()


class Trap:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("sprung"),)


def test_a_pickle_is_refused_and_never_opened(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(published.vectors, np.array([Trap()] * 36, object), allow_pickle=True)
    assert "cannot be read as an array of numbers" in refusal(capsys, ["run", *published.arguments])
    assert not (tmp_path / "sprung").exists()
    np.load(published.vectors, allow_pickle=True)  # the trap is one
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00", b"PK\x03\x04 an archive"])
def test_a_file_of_vectors_that_is_none_is_refused(
    published: Published, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    published.vectors.write_bytes(content)
    line = refusal(capsys, ["run", *published.arguments])
    assert f"{published.vectors} cannot be read as an array of numbers" in line


def without(column: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    return lambda rows: [{name: value for name, value in row.items() if name != column} for row in rows]


def saying(**values: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    return lambda rows: [{**row, **values} for row in rows]


@pytest.mark.parametrize(
    ("protocol", "change", "said"),
    [
        ("denner2024", without("labels"), "lacks the column labels"),
        ("denner2024", without("filepath"), "lacks the column filepath"),
        ("denner2024", without("split"), "0 images of one finding in the split train and 0 in test"),
        ("denner2024", saying(split="train"), "36 images of one finding in the split train and 0 in test"),
        ("denner2024", saying(labels="Support Devices"), "0 images of one finding in the split train"),
        ("denner2024", saying(region=""), "0 images of one finding in the split train"),
        ("leave-patient-out", saying(patient="Weber"), "labelled images of fewer than two patients"),
        ("leave-patient-out", saying(labels=""), "labelled images of fewer than two patients"),
        (
            "leave-patient-out",
            lambda rows: [{**row, "labels": row["filepath"].replace("/", " ")} for row in rows],
            "no query of .* has an image of its class",
        ),
    ],
)
def test_a_manifest_that_gives_nothing_to_measure_is_refused(
    published: Published,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    change: Callable[[list[dict[str, str]]], list[dict[str, str]]],
    said: str,
) -> None:
    published.rewrite(change)
    line = refusal(capsys, ["run", "--protocol", protocol, *published.arguments])
    assert re.search(said, line), line
    assert "Weber" not in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vectors", "vectors.npy"], "--vectors and --manifest go together"),
        (["--manifest", "manifest.csv"], "--vectors and --manifest go together"),
        (["--vectors", "nowhere.npy", "--manifest", "manifest.csv"], "nowhere.npy cannot be read"),
        (["--vectors", "vectors.npy", "--manifest", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--vectors", "vectors.npy", "--manifest", "vectors.npy"], "vectors.npy"),
        (["--vectors", "vectors.npy", "--manifest", "manifest.csv", "--index", "i"], "one of --index and --vectors"),
        (["--vectors", "vectors.npy", "--manifest", "manifest.csv", "--memory", "0"], "--memory is 1 or more"),
        (["--vectors", "vectors.npy", "--manifest", "manifest.csv", "--out", "manifest.csv"], "cannot be written"),
        ([], "radsearch-index"),  # there is no index either
    ],
)
@pytest.mark.usefixtures("published")
def test_arguments_that_cannot_be_met_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refusal(capsys, ["run", *arguments])


def test_what_is_refused_in_the_end_is_refused_before_the_work(
    published: Published, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(*_: object, **__: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr("evaluation.running.measure", searched)
    below = str(published.manifest / "deep" / "run")
    assert "cannot be written" in refusal(capsys, ["run", *published.arguments, "--out", below])
    for command in (["run", *published.arguments], ["compare", "one", "other"], ["report", "one"]):
        assert "--pictures nowhere is no folder" in refusal(capsys, [*command, "--pictures", "nowhere"])


@pytest.mark.parametrize("name", ["o" * 300, "manifest.csv", "broken"])
def test_a_folder_that_cannot_be_made_is_refused(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "broken")
    assert "cannot be written" in refusal(capsys, ["run", *published.arguments, "--out", str(tmp_path / name)])
    assert "is no folder" in refusal(capsys, ["run", *published.arguments, "--pictures", name])


def test_a_folder_in_the_place_of_a_run_s_file_is_refused(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / METRICS).mkdir(parents=True)
    said = refusal(capsys, ["run", *published.arguments, "--out", str(tmp_path / "run")])
    assert "its metrics.json is a folder" in said


def test_a_model_of_a_very_long_name_has_a_folder(published: Published, tmp_path: Path) -> None:
    assert main(["run", *published.arguments[:-1], "m" * 300]) == 0
    (folder,) = (tmp_path / "evaluation-runs").iterdir()
    assert json.loads((folder / METRICS).read_text())["model"]["model"] == "m" * 300


def test_no_page_and_no_line_names_an_image(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = np.load(published.vectors)
    vectors[3] = vectors[0]  # copies of two patients, which confounds lists
    np.save(published.vectors, vectors)
    assert main(["run", *published.arguments, "--study", "confounds", "--out", str(tmp_path / "run")]) == 0
    names = [row["filepath"] for row in csv.DictReader(published.manifest.open(encoding="utf-8"))]
    told = (tmp_path / "run" / METRICS).read_text(encoding="utf-8")
    assert json.loads(told)["studies"]["confounds"]["exact"]["listed"]
    shown = capsys.readouterr().out + (tmp_path / "run" / REPORT).read_text(encoding="utf-8")
    assert not any(name in shown for name in names)


def test_a_study_that_cannot_be_made_costs_no_figure(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no split val to choose k by."""
    studies = ["--study", "knn", "--study", "space"]
    folder = tmp_path / "run"
    assert main(["run", "--protocol", "denner2024", *published.arguments, *studies, "--out", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("the study knn could not be made: ")
    assert said.err.splitlines()[1:] == [f"the run is in {folder}"]
    told = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    assert (told["micro"]["P@1"], list(told["studies"])) == (1.0, ["space"])
    assert "Study: space" in (folder / REPORT).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    several = [str(tmp_path / "nowhere")] * (2 if command == "compare" else 1)
    assert "nowhere holds no run of an evaluation" in refusal(capsys, [command, *several])


def test_runs_that_cannot_be_compared_are_refused(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    denner(published, first)
    main(["run", *published.arguments, "--out", str(second)])
    capsys.readouterr()
    assert "two runs or more" in refusal(capsys, ["compare", str(first)])
    assert "several protocols: denner2024, leave-patient-out" in refusal(capsys, ["compare", str(first), str(second)])
    (first / QUERIES).write_text("id\n")
    assert "is damaged" in refusal(capsys, ["compare", str(first), str(second)])


@pytest.mark.parametrize(
    "arguments", [[], ["measure"], ["run", "--protocol", "mine"], ["run", "--memory", "much"], ["compare"], ["report"]]
)
def test_words_that_the_command_does_not_know_end_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def started(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "evaluation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_a_run_as_a_command_is_that_of_the_process(published: Published, tmp_path: Path) -> None:
    ran = started("run", "--protocol", "denner2024", *published.arguments, "--out", str(tmp_path / "run"))
    assert (ran.returncode, ran.stderr) == (0, f"the run is in {tmp_path / 'run'}\n")
    denner(published, tmp_path / "here")
    for name in (QUERIES, SUMMARY):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert ran.stdout == (tmp_path / "here" / SUMMARY).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_refusal_is_one_line_and_no_traceback(published: Published) -> None:
    np.save(published.vectors, np.full((36, 3), np.nan, np.float32))
    refused = started("run", *published.arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"radsearch: 36 vectors of {published.vectors} are not finite or have no direction\n"
