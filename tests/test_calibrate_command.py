"""`python -m evaluation calibrate`, and searches of an index that was calibrated: as a person meets them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from PIL import Image
from tiny_models import add_tiny_model

from evaluation.__main__ import main as evaluate
from evaluation.collection import from_index
from ingest import pipeline
from ingest.__main__ import main as ingest
from radsearch.__main__ import main as radsearch
from radsearch.deriving import derive_in
from radsearch.index import open_index
from radsearch.models import adapted, find_model
from radsearch.models.heads import Head
from radsearch.privacy import load_pseudonymizer
from radsearch.search import Part, QueryFile, Ranking, Searcher, Wanted
from radsearch.search.calibration import Calibration, file_of, keep, place_of, read
from radsearch.settings import load_settings

PEOPLE, EACH = 30, 4
KINDS = (("CT", "chest", "nodule"), ("CR", "hand", "fracture"))


def picture(kind: int, seed: int) -> "np.ndarray":
    """(8, 8): the upper half white, or the lower, and a little noise."""
    pixels = np.random.default_rng(seed).integers(1, 30, (8, 8), dtype=np.uint8)
    pixels[slice(0, 4) if kind == 0 else slice(4, 8)] += 200
    return pixels


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
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An index of 120 images, made once."""
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "archive").mkdir()
    rows = ["filepath,patient,modality,region,labels"]
    for number in range(PEOPLE * EACH):
        person = number // EACH
        Image.fromarray(picture(person % 2, number)).save(folder / "archive" / f"{number}.png")
        rows.append(f"{number}.png,person {person},{','.join(KINDS[person % 2])}")
    (folder / "archive" / "manifest.csv").write_text("\n".join(rows) + "\n")
    made = {"SECRET": "a secret of this module of more than 32 characters", "INDEX": str(folder / "index")}
    made |= {"MODELS": str(folder / "models"), "MODEL": "tiny", "DEVICE": "cpu", "WORKERS": "1"}
    made = {f"RADSEARCH_{name}": value for name, value in made.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "IsolatedPool", InlinePool)
        add_tiny_model(patched, folder / "models", "tiny")
        for name, value in made.items():
            patched.setenv(name, value)
        archive = folder / "archive"
        assert ingest([str(archive), "--manifest", str(archive / "manifest.csv"), "--dataset", "scans"]) == 0
    return made


@pytest.fixture
def run(
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    add_tiny_model(monkeypatch, tmp_path / "unused", "tiny")  # the row; its weights are those of the index
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def run_it(command: str, *arguments: object) -> Answer:
        words = [str(argument) for argument in arguments]
        code = evaluate([command, *words]) if command == "calibrate" else radsearch([command, *words])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return run_it


@pytest.fixture
def archive(variables: dict[str, str]) -> Path:
    return Path(variables["RADSEARCH_INDEX"]).with_name("archive")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Left and right, where all others are up and down."""
    file = tmp_path / "stranger.png"
    Image.fromarray(picture(0, 1000).T).save(file)
    return file


@pytest.fixture
def relative(tmp_path: Path) -> Path:
    """A picture that is not indexed, of somebody unknown, that looks like the others."""
    file = tmp_path / "relative.png"
    Image.fromarray(picture(1, 1001)).save(file)
    return file


def kept() -> Calibration:
    settings = load_settings()
    found = read(settings.settings_folder, str(settings.index_folder), "tiny")
    assert found is not None
    return found


def replaced(**fields: object) -> None:
    settings = load_settings()
    keep(settings.settings_folder, str(settings.index_folder), replace(kept(), **fields))


def test_calibration_says_what_it_measured_and_keeps_it(run: Run) -> None:
    answer = run("calibrate")
    assert answer.code == 0
    assert "tiny: 120 queries of 30 patients" in answer.out
    assert "noise refused: white 1.00" in answer.out
    assert "kept in" in answer.said
    made = kept()
    assert set(made.curves) == {""}  # fifteen patients a modality
    assert made.made["ece"] <= 0.05
    assert made.made["noise_refused"]["white"] == 1.0
    assert (made.made["queries"], made.made["patients"]) == (120, 30)
    assert made.model == made.space


def test_without_a_calibration_nothing_is_probable_and_nothing_refused(run: Run, stranger: Path) -> None:
    answer = run("search", stranger, "--json")
    assert (answer.code, answer.said) == (0, "")
    assert [hit["probability"] for hit in answer.hits] == [None] * 10
    assert "probability" not in run("search", stranger).out


def test_hits_of_a_file_and_of_an_indexed_image_have_a_probability(run: Run, relative: Path) -> None:
    run("calibrate")
    answer = run("search", relative, "--json")
    assert answer.said == ""
    curve = kept().curves[""]
    assert [hit["probability"] for hit in answer.hits] == [
        pytest.approx(curve.at(hit["score"]), abs=1e-3) for hit in answer.hits
    ]
    assert answer.hits[0]["probability"] > 0.9
    assert run("search", "--id", answer.hits[0]["id"], "--json").hits[0]["probability"] > 0.9
    header, first = run("search", relative, "-k", 1).out.splitlines()
    assert header.split()[:3] == ["rank", "score", "probability"]
    assert first.split()[2] == f"{answer.hits[0]['probability']:.2f}"


def test_scores_of_another_kind_are_no_probabilities(run: Run, relative: Path, archive: Path) -> None:
    """A query moved by its hits, the mean of two files, examples, a part: none was measured."""
    run("calibrate")
    first, second = (hit["id"] for hit in run("search", relative, "--json").hits[:2])
    for query in ([relative, "--expand", 2], [relative, archive / "0.png"], ["--like", first, "--like", second]):
        assert [hit["probability"] for hit in run("search", *query, "--json").hits] == [None] * 10


def test_a_stranger_is_refused_with_what_was_compared_unless_asked_for_anyway(run: Run, stranger: Path) -> None:
    run("calibrate")
    refused = run("search", stranger)
    assert (refused.code, refused.out) == (0, "")
    assert refused.said.startswith("nothing similar enough in this archive (the nearest image, C")
    assert f"{kept().least['']:.3f} is the least" in refused.said
    assert (run("search", stranger, "--json").out, run("search", stranger, "--json").code) == ("", 0)
    shown = run("search", stranger, "--json", "--anyway")
    assert shown.said == ""
    assert len(shown.hits) == 10


def test_the_filter_has_no_say_in_what_is_strange(run: Run, relative: Path) -> None:
    """Nothing of the other modality is similar; but something here is."""
    run("calibrate")
    answer = run("search", relative, "--modality", "CT", "--json")
    assert answer.said == ""
    assert answer.hits[0]["score"] < kept().least[""]


def test_images_of_the_own_patient_make_nobody_known(run: Run, archive: Path) -> None:
    """By a file whose nearest image is its own patient's: the nearest of others decides, even where all may be hits."""
    run("calibrate")
    settings = load_settings()
    key = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file)
    with open_index(settings) as index:
        searcher = Searcher(index, settings, key)
        for number in range(PEOPLE * EACH):
            path = archive / f"{number}.png"
            (own,) = searcher.by_image(path, Wanted(1, allow_same_patient=True))
            (other,) = searcher.by_image(path, Wanted(1))
            if own.score > other.score + 1e-4:
                break
    replaced(least={"": round((own.score + other.score) / 2, 6)})
    for more in ([], ["--allow-same-patient"]):
        assert "nothing similar enough" in run("search", path, *more).said
    replaced(least={"": round(other.score - 1e-4, 6)})
    assert run("search", path).said == ""


def test_an_indexed_image_by_its_id_is_never_refused(run: Run, relative: Path) -> None:
    run("calibrate")
    point = run("search", relative, "--json").hits[0]["id"]
    replaced(least={"": 1.0})
    assert len(run("search", "--id", point, "--json").hits) == 10


def test_one_known_file_among_several_is_enough(run: Run, stranger: Path, relative: Path) -> None:
    run("calibrate")
    assert len(run("search", stranger, relative, "--json").hits) == 10


def test_a_part_of_a_picture_is_not_measured(run: Run, stranger: Path, relative: Path) -> None:
    run("calibrate")
    settings = load_settings()
    with open_index(settings) as index:
        key = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file)
        searcher = Searcher(index, settings, key)
        whole, other = (QueryFile(path, settings, key) for path in (stranger, relative))
        nearness, part = searcher.nearness([whole], Wanted()), whole.cut(Part(0, 0, 1, 1))
        assert nearness is not None
        assert nearness.strange
        assert searcher.nearness([part], Wanted()) is None
        assert {hit.probability for hit in searcher.by_files([part], Wanted())} == {None}
        known = searcher.by_files([other], Wanted(ranking=Ranking(rerank="votes")))
        assert None not in {hit.probability for hit in known}


@pytest.mark.parametrize("name", ["model", "space"])
def test_a_calibration_of_another_fingerprint_is_left_out_and_said(run: Run, stranger: Path, name: str) -> None:
    run("calibrate")
    replaced(**{name: replace(getattr(kept(), name), weights="sha256:other")})
    answer = run("search", stranger, "--json")
    assert answer.code == 0
    assert "the calibration of tiny is left out" in answer.said
    assert "weights: sha256:other" in answer.said
    assert answer.said.count("\n") == 1
    assert [hit["probability"] for hit in answer.hits] == [None] * 10


def test_a_damaged_calibration_is_a_sentence_with_its_file(run: Run, relative: Path) -> None:
    run("calibrate")
    (file,) = (load_settings().settings_folder / "calibration").iterdir()
    file.write_text("{")
    answer = run("search", relative)
    assert (answer.code, answer.out) == (2, "")
    assert str(file) in answer.said
    assert "calibrate again" in answer.said


def test_calibration_of_another_index_does_not_count(run: Run, stranger: Path) -> None:
    run("calibrate")
    settings = load_settings()
    keep(settings.settings_folder, place_of("/elsewhere", "radsearch"), kept())
    file_of(settings.settings_folder, str(settings.index_folder), "tiny").unlink()
    assert len(run("search", stranger, "--json").hits) == 10


@pytest.fixture
def learned(variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """Adds to a copy of the index a model that was derived from `tiny` and knows so many of its patients."""
    shutil.copytree(variables["RADSEARCH_INDEX"], tmp_path / "copy")
    monkeypatch.setenv("RADSEARCH_INDEX", str(tmp_path / "copy"))

    def learn(known: int) -> str:
        settings = load_settings()
        with open_index(settings) as index:
            collection, on = from_index(index, "tiny"), index.card.models["tiny"]
        people = sorted({image.patient for image in collection.images})
        marks = [next(row for row, one in enumerate(collection.images) if one.findings == (kind[2],)) for kind in KINDS]
        one, two = np.ones(1, np.float32), np.eye(2, dtype=np.float32)
        head = Head((6,), collection.vectors[marks], one, two, np.zeros(2, np.float32), (2,), (1.0,))
        spec = find_model("tiny", settings.settings_folder)
        name = adapted.save(settings.settings_folder, spec, "here", head, on=on, said={}, patients=people[:known])
        assert derive_in(settings, name) == PEOPLE * EACH
        return name

    return learn


def test_a_learned_model_is_calibrated_by_patients_that_it_does_not_know(
    run: Run, learned: Callable[[int], str], stranger: Path, relative: Path
) -> None:
    name = learned(20)
    answer = run("calibrate", "--model", name)
    assert answer.code == 0
    assert f"{name}: 40 queries of 10 patients" in answer.out
    assert "(strangers are told by the vectors of tiny)" in answer.out
    refused = run("search", stranger, "--model", name)
    assert refused.out == ""
    assert "nothing similar enough" in refused.said
    assert run("search", relative, "--model", name, "--json").hits[0]["probability"] > 0.9
    assert run("search", relative, "--model", "tiny", "--json").hits[0]["probability"] is None
    fused = run("search", relative, "--model", name, "--model", "tiny", "--json")
    assert [hit["probability"] for hit in fused.hits] == [None] * 10


def test_a_learned_model_that_knows_everybody_is_not_calibrated_here(run: Run, learned: Callable[[int], str]) -> None:
    answer = run("calibrate", "--model", learned(PEOPLE))
    assert (answer.code, answer.out) == (2, "")
    assert "adapt calibrates what it learns from its own cross-validation" in answer.said


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--model", "tinny"], "unknown model 'tinny'"), (["--memory", "0"], "--memory is 1")]
)
def test_what_cannot_be_calibrated_is_a_sentence(run: Run, arguments: list[str], words: str) -> None:
    answer = run("calibrate", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.said
    assert answer.said.count("\n") == 1
