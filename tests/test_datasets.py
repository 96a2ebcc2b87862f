"""Data sets: their tables are opened, patients drawn, rows counted, and the manifest is one that the ingest reads."""

import argparse
import csv
import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation.datasets import command
from evaluation.datasets.records import NO_FILE, NO_LABEL, SEVERAL_LABELS, DatasetError, Image, LeftOut, Reading
from evaluation.datasets.splits import draw_train_and_val
from evaluation.datasets.tables import age_of, find_file, lines_of, rows_of, sex_of
from evaluation.datasets.writing import COLUMNS, write_manifest
from radsearch.errors import exit_code
from radsearch.privacy import Pseudonymizer
from radsearch.reading.manifest import read_rows
from radsearch.study import Labels

Run = Callable[..., int]


@pytest.fixture
def run() -> Run:
    def run(*arguments: "str | Path") -> int:
        parser = argparse.ArgumentParser()
        command.add_to(parser)
        options = parser.parse_args([str(argument) for argument in arguments])
        return exit_code(lambda: options.run(options))

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the command runs."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "empty"


def image(root: Path, name: str = "a.png", labels: tuple[str, ...] = ("Mass",), split: str = "train") -> Image:
    return Image(root / name, "scans", "XR", "chest", labels, patient="7", study="7/1", split=split, view="PA", age=57)


# Splits


@pytest.mark.parametrize(
    ("patients", "val"),
    [(10, {"8"}), (15, {"9", "11"}), (20, {"0", "17"})],
)
def test_the_patients_of_val_are_those_that_scikit_learn_draws(patients: int, val: set[str]) -> None:
    # Worked out with scikit-learn 1.9.1: train_test_split(list(range(n)), train_size=0.9, random_state=42).
    splits = draw_train_and_val(str(number) for number in range(patients))
    assert {name for name, split in splits.items() if split == "val"} == val
    assert set(splits.values()) == {"train", "val"}


def test_a_patient_who_is_named_again_is_drawn_once() -> None:
    once = draw_train_and_val("abcdefghij")
    assert draw_train_and_val("aabcabcdefghijj") == once
    assert len(once) == 10


# Tables


def test_a_plain_and_a_gzipped_table_read_alike(tmp_path: Path) -> None:
    text = '\ufeffa, b\n1," x,y "\n\n2,\n'
    (tmp_path / "plain.csv").write_text(text, encoding="utf-8")
    with gzip.open(tmp_path / "packed.csv.gz", "wt", encoding="utf-8") as stream:
        stream.write(text)
    tables = [find_file([tmp_path], [name], "nowhere") for name in ("plain.csv", "packed.csv")]
    assert tables[1].name == "packed.csv.gz"
    for table in tables:
        assert list(rows_of(table, ["a", "b"], "nowhere")) == [{"a": "1", "b": "x,y"}, {"a": "2", "b": ""}]


def test_a_missing_table_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"there is no x\.csv or y\.csv \(nor \.gz\) in .*; get it from example\.org"
    ):
        find_file([tmp_path], ["x.csv", "y.csv"], "example.org")


def test_missing_columns_are_named_with_where_to_get_the_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"t\.csv lacks the columns c, d; get the official file from example\.org"):
        list(rows_of(tmp_path / "t.csv", ["a", "c", "d"], "example.org"))


@pytest.mark.parametrize("line", ["1", "1,2,3", "1,2,,3"])
def test_a_row_that_does_not_fit_its_header_stops_the_run(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.csv").write_text(f"a,b\n1,2\n{line}\n")
    with pytest.raises(DatasetError, match=r"line 3 of .*t\.csv has another number of cells"):
        list(rows_of(tmp_path / "t.csv", ["a"], "example.org"))


def test_an_empty_cell_too_many_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2,\n")
    assert list(rows_of(tmp_path / "t.csv", ["a"], "nowhere")) == [{"a": "1", "b": "2"}]


def test_a_damaged_table_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "none.csv.gz").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "short.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-12])
    (tmp_path / "other.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    (tmp_path / "folder.csv").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(DatasetError, match="cannot be read as CSV"):
            list(rows_of(path, ["a"], "example.org"))
        with pytest.raises(DatasetError, match="cannot be read as text"):
            list(lines_of(path))


def test_ages_and_sexes_are_read_as_the_tables_write_them() -> None:
    ages = [age_of(text) for text in ("58", "058Y", "010M", "414Y", "411", "", "unknown", "94")]
    assert ages == [58, 58, 0, None, None, None, None, 90]
    assert [sex_of(text) for text in ("M", "Female", "Unknown", "")] == ["M", "F", "", ""]


# Rules


def test_the_paper_wants_exactly_one_label(tmp_path: Path) -> None:
    reading = Reading(tmp_path, tables_only=True)
    assert reading.judge(image(tmp_path)) == image(tmp_path)
    assert reading.judge(image(tmp_path, labels=())) == LeftOut(NO_LABEL)
    assert reading.judge(image(tmp_path, labels=("Mass", "Edema"))) == LeftOut(SEVERAL_LABELS)


def test_all_labels_keeps_several_but_not_none(tmp_path: Path) -> None:
    reading = Reading(tmp_path, all_labels=True, tables_only=True)
    several = image(tmp_path, labels=("Mass", "Edema"))
    assert reading.judge(several) == several
    assert reading.judge(image(tmp_path, labels=())) == LeftOut(NO_LABEL)


def test_a_file_that_is_missing_or_outside_the_folder_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").touch()
    (tmp_path / "b.png").touch()
    assert Reading(root).judge(image(root)) == image(root)
    for name in ("b.png", "../b.png", str(tmp_path / "b.png")):
        assert Reading(root).judge(image(root, name)) == LeftOut(NO_FILE)
    assert Reading(root, tables_only=True).judge(image(root, "../b.png")) == LeftOut(NO_FILE)


def test_a_row_with_several_labels_counts_as_that_even_without_its_file(tmp_path: Path) -> None:
    assert Reading(tmp_path).judge(image(tmp_path, labels=("Mass", "Edema"))) == LeftOut(SEVERAL_LABELS)


# The manifest


def test_every_outcome_is_in_the_manifest_or_counted(tmp_path: Path) -> None:
    outcomes = [
        image(tmp_path),
        LeftOut("x"),
        image(tmp_path, "sub/b.png", ("A", "B"), "val"),
        LeftOut("x"),
        LeftOut("y"),
    ]
    account = write_manifest(outcomes, tmp_path / "lists" / "manifest.csv")
    assert account.images == Counter(train=1, val=1)
    assert account.left_out == Counter(x=2, y=1)
    with (tmp_path / "lists" / "manifest.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        list(COLUMNS),
        ["../a.png", "7", "XR", "chest", "Mass", "7/1", "scans", "train", "PA", "", "57"],
        ["../sub/b.png", "7", "XR", "chest", "A;B", "7/1", "scans", "val", "PA", "", "57"],
    ]


def test_a_run_that_fails_leaves_the_manifest_that_was_there(tmp_path: Path) -> None:
    def failing():
        yield image(tmp_path)
        raise DatasetError("torn")

    manifest = tmp_path / "manifest.csv"
    manifest.write_text("before")
    with pytest.raises(DatasetError, match="torn"):
        write_manifest(failing(), manifest)
    with pytest.raises(DatasetError, match="no image is left for the manifest: 2 x, 1 y"):
        write_manifest([LeftOut("x"), LeftOut("y"), LeftOut("x")], manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]
    assert manifest.read_text() == "before"


def test_a_semicolon_in_a_label_is_refused_as_it_would_become_two(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="semicolon"):
        write_manifest([image(tmp_path, labels=("a;b",))], tmp_path / "manifest.csv")


# The command


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_the_command_says_where_every_row_went(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of(tmp_path / "scans", "train/CT/head/bleed/1.png", "test/CT/head/none/2.png", "notes.txt")
    manifest = tmp_path / "manifest.csv"
    assert run("folder", "--root", root, "--out", manifest) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"images in {manifest}: 2 (1 test, 1 train)\nleft out: 1 (1 no picture by its name)\n"


def test_a_missing_image_makes_the_exit_code_1(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / f"RadiologyAI_{split}.csv").write_text(f"filename,label\nCT/abd/normal/{split}.png,x\n")
    folder_of(tmp_path, "CT/abd/normal/val.png")
    arguments = ("radimagenet", "--root", tmp_path, "--out", tmp_path / "manifest.csv")
    assert run(*arguments) == 1
    assert capsys.readouterr().err.endswith("left out: 2 (2 no such file under --root)\n")
    assert run(*arguments, "--tables-only") == 0
    assert len((tmp_path / "manifest.csv").read_text().splitlines()) == 4


def test_pictures_of_medmnist_are_named_by_the_manifest_that_points_to_them(tmp_path: Path, run: Run) -> None:
    splits = ("train", "val", "test")
    pictures = {f"{split}_images": np.zeros((1, 4, 4), np.uint8) for split in splits}
    np.savez(tmp_path / "tiny.npz", **pictures, **{f"{split}_labels": np.zeros((1, 2), np.uint8) for split in splits})
    (tmp_path / "classes.csv").write_text("label,name\n0,mass\n")
    manifest = tmp_path / "lists" / "manifest.csv"
    options = ("--classes", tmp_path / "classes.csv", "--unlabelled", "normal", "--modality", "xr", "--region", "chest")
    assert run("medmnist", "--root", tmp_path, "--out", manifest, "--pictures", tmp_path / "png", *options) == 0
    last = manifest.read_text().splitlines()[-1].split(",")
    assert last[:7] == ["../png/test/tiny-test-000000.png", "", "XR", "chest", "normal", "", "tiny"]
    assert (manifest.parent / last[0]).is_file()


def test_a_manifest_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place in ("file/manifest.csv", "folder"):
        with pytest.raises(DatasetError, match="cannot be written"):
            write_manifest([image(tmp_path)], tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_ingest_reads_the_manifest(tmp_path: Path, run: Run, pseudonymizer: Pseudonymizer) -> None:
    root = folder_of(tmp_path / "scans", "val/US/Thyroid/nodule/1.png")
    assert run("folder", "--root", root, "--out", tmp_path / "manifest.csv") == 0
    (row,) = read_rows(tmp_path / "manifest.csv", pseudonymizer.pseudonym, dataset=None, split=None)
    assert row.reason is None
    assert row.filepath == "scans/val/US/Thyroid/nodule/1.png"
    assert row.facts.labels == Labels("US", "thyroid", ("nodule",))
    assert (row.facts.dataset, row.facts.split, row.facts.patient) == ("scans", "val", None)


def test_paths_hold_when_the_way_to_the_folder_goes_through_a_link(tmp_path: Path, run: Run) -> None:
    folder_of(tmp_path / "disk" / "deep" / "scans", "mass/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    assert run("folder", "--root", tmp_path / "link" / "scans", "--out", tmp_path / "link" / "m.csv") == 0
    assert (tmp_path / "disk" / "deep" / "m.csv").read_text().splitlines()[1].startswith("scans/mass/1.png,")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nih14 --root none", "there is no folder none"),
        ("nih14 --root .", "Data_Entry_2017.csv (nor .gz) in"),
        ("chexpert --root .", "there is no train.csv (nor .gz) in"),
        ("mimic-cxr-jpg --root .", "there is no mimic-cxr-2.0.0-chexpert.csv (nor .gz) in"),
        ("radimagenet --root .", "there is no RadiologyAI_train.csv or"),
        ("medmnist --root . --pictures p", "is no .npz file"),
        ("folder --root . --modality XY", "unknown modality 'XY'"),
        ("folder --root .", "no image is left for the manifest"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    here: Path, run: Run, capsys: pytest.CaptureFixture[str], arguments: str, words: str
) -> None:
    assert run(*arguments.split(), "--out", "m.csv") == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(here.iterdir())


def test_an_option_that_a_data_set_does_not_have_is_refused(run: Run) -> None:
    with pytest.raises(SystemExit):
        run("nih14", "--root", ".", "--out", "m.csv", "--region", "head")
