"""`python -m evaluation adapt`: from an index's labels to a model that is ingested, searched by and measured."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from PIL import Image
from tiny_models import add_tiny_model

from evaluation.__main__ import main as evaluate
from ingest import pipeline
from ingest.__main__ import main as ingest
from radsearch.__main__ import main as radsearch
from radsearch.index import open_index
from radsearch.models import adapted, built_in_models, find_model
from radsearch.models.base import load_model
from radsearch.settings import load_settings

COLUMNS = ("filepath", "patient", "modality", "region", "labels")
ORDER = np.random.default_rng(0).permutation(64)


def picture(label: int, person: int, number: int, *, seed: int = 0) -> "np.ndarray":
    """(8, 8): a look of the patient's own, which hides what shows the label among others, and some noise."""
    random = np.random.default_rng([seed, person])
    look = random.integers(90, 150, 64).astype(float)
    look[ORDER[:8]] = 60 + 90 * label
    noise = np.random.default_rng([seed, person, number]).normal(0, 4, 64)
    return (look + noise).clip(1, 255).astype(np.uint8).reshape(8, 8)


@dataclass
class Archive:
    """Two images of each patient, the labels in turn; a manifest and an index of its own."""

    folder: Path
    seed: int = 0
    people: int = 24
    labels: int = 2

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"

    @property
    def index(self) -> str:
        return str(self.folder.with_name(f"{self.folder.name}-index"))

    def write(self) -> "Archive":
        self.folder.mkdir(exist_ok=True)
        rows = []
        for person in range(self.people):
            for number in range(2):
                name = f"{person}-{number}.png"
                shown = person % self.labels
                Image.fromarray(picture(shown, person, number, seed=self.seed)).save(self.folder / name)
                label = ("No Finding", "Nodule")[shown] if self.labels <= 2 else f"Finding {shown}"
                rows.append((name, f"Muster^Erika{self.seed}-{person}", "CT", "chest", label))
        with self.manifest.open("w", newline="") as stream:
            csv.writer(stream).writerows([COLUMNS, *rows])
        return self

    def ingest(self, *models: str) -> int:
        chosen = [part for model in models for part in ("--model", model)]
        return ingest([str(self.folder), "--manifest", str(self.manifest), *chosen, "--index", self.index])


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "IsolatedPool", InlinePool)
    monkeypatch.chdir(tmp_path)
    add_tiny_model(monkeypatch, tmp_path / "models", "tiny", seed=1)
    for name, value in {"MODELS": tmp_path / "models", "MODEL": "tiny", "DEVICE": "cpu", "WORKERS": 1}.items():
        monkeypatch.setenv(f"RADSEARCH_{name}", str(value))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path / "archive").write()
    assert made.ingest("tiny") == 0
    return made


@pytest.fixture
def other(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "other", seed=1).write()


Adapt = Callable[..., tuple[int, str, str]]


@pytest.fixture
def adapt(capsys: pytest.CaptureFixture[str]) -> Adapt:
    """Runs the command: its code, its last line on stdout, and all that it said on stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = evaluate(["adapt", *([] if "--model" in arguments else ["--model", "tiny"]), *arguments])
        said = capsys.readouterr()
        return code, (said.out.splitlines() or [""])[-1], said.err

    return run


def test_the_index_has_the_vectors_that_its_pictures_would_give(archive: Archive, adapt: Adapt) -> None:
    code, name, said = adapt("--index", archive.index, "--out", "chest")
    assert code == 0
    assert name.startswith("tiny+chest-")
    assert "48 images of 24 patients, 2 labels" in said
    assert "15 fits" in said
    settings = load_settings()
    spec = find_model(name, settings.settings_folder)
    embedder = load_model(spec, models_folder=settings.models_folder, device="cpu")
    with open_index(type(settings)(**{**_fields(settings), "index": archive.index})) as index:
        assert set(index.card.models) == {"tiny", name}
        assert index.card.models[name] == embedder.fingerprint
        points = [point for page in index.pages(vectors_of=["tiny", name]) for point in page]
    assert len(points) == 48
    expected = adapted.load(spec).apply(np.stack([point.vectors["tiny"] for point in points]))
    np.testing.assert_allclose(np.stack([point.vectors[name] for point in points]), expected, atol=1e-5)
    assert all(point.payload["models"] == ["tiny", name] for point in points)
    (own,) = embedder.embed_images([picture(1, 3, 0)])
    assert max(own @ point.vectors[name] for point in points) == pytest.approx(1, abs=1e-4)


def _fields(settings: object) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__slots__}


def test_it_is_told_what_it_learned_from_and_no_name_is_kept(archive: Archive, adapt: Adapt) -> None:
    _, name, said = adapt("--index", archive.index, "--out", "chest")
    place = load_settings().settings_folder / "adapted" / name
    told = json.loads((place / "head.json").read_text())
    assert (told["images"], told["patients"], told["fits"], told["target"]) == (48, 24, 15, "pathology")
    assert told["labels"] == ["CT/chest/No Finding", "CT/chest/Nodule"]
    assert told["cross_validation"]["adapted"].keys() == {"P@1", "P@10", "macro P@1"}
    assert len(adapted.patients_of(place)) == 24
    kept = b"".join(file.read_bytes() for file in place.iterdir()) + said.encode()
    assert b"Erika" not in kept
    assert b"Muster" not in kept


def test_search_and_ingest_take_it_like_any_other(
    archive: Archive, adapt: Adapt, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest")
    found = radsearch(["search", str(archive.folder / "3-0.png"), "--model", name, "-k", "5", "--json",
                       "--index", archive.index])  # fmt: skip
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == 0
    assert len(hits) == 5
    assert all(hit["score"] <= 1.0001 for hit in hits)
    Image.fromarray(picture(0, 99, 0)).save(archive.folder / "new.png")
    with archive.manifest.open("a", newline="") as stream:
        csv.writer(stream).writerow(("new.png", "someone", "CT", "chest", "No Finding"))
    assert archive.ingest("tiny", name) == 0
    assert "1 indexed" in (said := capsys.readouterr().err) or "indexed 1" in said
    assert radsearch(["index", "info", "--index", archive.index]) == 0
    assert f"model: {name}, 49 images" in capsys.readouterr().out


def test_an_ingest_derives_stored_vectors_and_reads_no_picture(
    archive: Archive, adapt: Adapt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest", "--no-apply")
    assert radsearch(["index", "info", "--index", archive.index]) == 0
    assert name not in capsys.readouterr().out

    def no_model(*_: object, **__: object) -> None:
        raise AssertionError("a picture was embedded")

    monkeypatch.setattr("radsearch.models.base.Embedder._embed", no_model)
    monkeypatch.setattr("ingest.embedding.Embedding.vectors_of", no_model)
    monkeypatch.setattr("ingest.embedding.Embedding.embedders", lambda _: [])
    assert archive.ingest(name) == 0
    assert "48 unchanged" in (said := capsys.readouterr().err) or "unchanged 48" in said
    assert radsearch(["index", "info", "--index", archive.index]) == 0
    assert f"model: {name}, 48 images" in capsys.readouterr().out


def test_what_is_learned_is_calibrated_by_patients_whom_it_did_not_see(
    archive: Archive, adapt: Adapt, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, said = adapt("--index", archive.index, "--out", "chest")
    assert "its scores as probabilities" in said
    assert f"{name}: 48 queries of 24 patients" in said
    query = ["search", str(archive.folder / "3-0.png"), "--model", name, "--index", archive.index, "--json"]
    assert radsearch(query) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert hits
    assert all(0.01 <= hit["probability"] <= 0.99 for hit in hits)
    white = Image.fromarray(np.random.default_rng(5).integers(0, 2, (8, 8), dtype=np.uint8) * 255)
    white.save(archive.folder.with_name("strange.png"))
    strange = ["search", str(archive.folder.with_name("strange.png")), "--model", name, "--index", archive.index]
    assert radsearch(strange) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "nothing similar enough in this archive" in told.err.lower()
    assert radsearch([*strange, "--anyway"]) == 0
    assert capsys.readouterr().out


def test_an_index_derives_what_it_lacks_and_only_that(
    archive: Archive, adapt: Adapt, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest", "--no-apply")
    for written in ("48", "0"):
        assert radsearch(["index", "derive", name, "--index", archive.index]) == 0
        assert capsys.readouterr().out.strip() == written
    assert radsearch(["index", "derive", "tiny", "--index", archive.index]) == 2
    assert "derived from no other model" in capsys.readouterr().err


def test_vectors_of_another_base_are_refused(
    archive: Archive, adapt: Adapt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    _, name, _ = adapt("--index", archive.index, "--out", "chest", "--no-apply")
    file = tmp_path / "models" / "tiny" / "weights.pth"
    torch.save({"weight": torch.load(file, weights_only=True)["weight"] + 1}, file)
    assert radsearch(["search", str(archive.folder / "3-0.png"), "--model", name, "--index", archive.index]) == 2
    fresh = Archive(archive.folder)
    assert ingest([str(fresh.folder), "--model", "tiny", "--model", name, "--index", str(tmp_path / "new")]) == 2
    assert "was learned on other vectors of tiny: weights" in capsys.readouterr().err


def test_nobody_whom_it_learned_from_is_asked(
    archive: Archive, adapt: Adapt, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest")
    run = ["run", "--model", name, "--index", archive.index, "--out", str(tmp_path / "run")]
    assert evaluate(run) == 2
    assert "learned from all patients that ask here" in capsys.readouterr().err
    grown = Archive(archive.folder, people=30).write()
    assert grown.ingest("tiny", name) == 0
    assert evaluate(run) == 0
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (told["queries"], told["index"]) == (12, 60)
    assert told["dropped"] == {"the model was learned from their patients": 48}


def test_it_learns_from_one_manifest_and_is_scored_on_another(
    adapt: Adapt, archive: Archive, other: Archive, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    code, name, said = adapt(
        "--train-manifest", str(archive.manifest), "--test-manifest", str(other.manifest), "--out", "half",
        "--runs", str(runs), "--single-label",
    )  # fmt: skip
    assert code == 0
    assert "the runs are in" in said
    told = {}
    for folder in runs.iterdir():
        metrics = json.loads((folder / "metrics.json").read_text())
        told[metrics["model"]["model"]] = metrics
    assert told.keys() == {"tiny", name}
    assert all(one["queries"] == 48 and one["dropped"] == {} for one in told.values())
    assert told[name]["micro"]["P@10"] > told["tiny"]["micro"]["P@10"] + 0.1  # the label shows in pictures of others


def test_two_indexes_do_as_well_as_two_manifests(
    adapt: Adapt, archive: Archive, other: Archive, tmp_path: Path
) -> None:
    assert other.ingest("tiny") == 0
    code, name, _ = adapt(
        "--index", archive.index, "--test-index", other.index, "--out", "half", "--runs", str(tmp_path / "runs")
    )
    assert code == 0
    assert {json.loads(file.read_text())["model"]["model"] for file in (tmp_path / "runs").glob("*/metrics.json")} == {
        "tiny", name,
    }  # fmt: skip


def test_patients_on_both_sides_are_refused(adapt: Adapt, archive: Archive, tmp_path: Path) -> None:
    code, _, said = adapt(
        "--train-manifest", str(archive.manifest), "--test-manifest", str(archive.manifest), "--out", "half",
        "--runs", str(tmp_path / "runs"),
    )  # fmt: skip
    assert code == 2
    assert "all patients of the test were learned from" in said
    assert not list((tmp_path / "runs").glob("*"))


def test_a_test_leaves_out_whom_it_learned_from(adapt: Adapt, archive: Archive, other: Archive, tmp_path: Path) -> None:
    with other.manifest.open("a", newline="") as stream:
        csv.writer(stream).writerow(("0-0.png", "Muster^Erika0-3", "CT", "chest", "Nodule"))
    runs = tmp_path / "runs"
    code, _, said = adapt("--train-manifest", str(archive.manifest), "--test-manifest", str(other.manifest), "--out",
                          "half", "--runs", str(runs))  # fmt: skip
    assert code == 0
    assert "left out of the test: 1 images of patients" in said
    assert [json.loads(file.read_text())["queries"] for file in runs.glob("*/metrics.json")] == [48, 48]


def test_rows_that_cannot_be_read_are_counted(adapt: Adapt, archive: Archive, other: Archive, tmp_path: Path) -> None:
    (archive.folder / "0-0.png").write_bytes(b"no picture of Erika")
    (archive.folder / "1-0.png").unlink()
    with archive.manifest.open("a", newline="") as stream:
        csv.writer(stream).writerow(("2-0.png", "x", "QQ", "chest", "Nodule"))
    code, _, said = adapt("--train-manifest", str(archive.manifest), "--test-manifest", str(other.manifest),
                          "--out", "half", "--runs", str(tmp_path / "runs"))  # fmt: skip
    assert code == 0
    assert said.count("left out: 1 of ") == 3
    assert "46 images of 24 patients" in said
    assert "Erika" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a b"], "letters, digits"),
        (["--out", "x", "--train-manifest", "m.csv"], "say one of --index and --train-manifest"),
        (["--out", "x", "--test-index", "a", "--test-manifest", "b"], "say one of --test-index"),
        (["--out", "x", "--model", "tinny"], "did you mean|tiny"),
        (["--out", "x", "--memory", "0"], "--memory is 1 or more"),
    ],
)
def test_what_does_not_go_together_is_said(adapt: Adapt, archive: Archive, arguments: list[str], words: str) -> None:
    import re

    code, _, said = adapt("--index", archive.index, *arguments)
    assert code == 2
    assert re.search(words, said)


def test_a_learned_model_is_not_learned_on_again(adapt: Adapt, archive: Archive) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest")
    code, _, said = adapt("--index", archive.index, "--model", name, "--out", "twice")
    assert code == 2
    assert "was learned itself; adapt tiny again instead" in said


def test_rows_of_blocks_are_not_learned_on_again_either(
    adapt: Adapt, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(built_in_models(), "tiny", replace(built_in_models()["tiny"], blocks=(4, 2)))
    index = ["--index", f"{archive.index}-of-blocks"]
    assert ingest([str(archive.folder), "--manifest", str(archive.manifest), "--model", "tiny", *index]) == 0
    code, name, _ = adapt(*index, "--out", "chest")
    assert code == 0
    code, _, said = adapt(*index, "--model", name, "--out", "twice")
    assert code == 2
    assert "was learned itself" in said


@pytest.mark.parametrize(("people", "labels"), [(5, 2), (6, 3), (8, 4), (40, 20)])
def test_few_patients_and_rare_labels_are_learned_from_or_refused_in_a_sentence(
    adapt: Adapt, tmp_path: Path, people: int, labels: int
) -> None:
    made = Archive(tmp_path / "few", people=people, labels=labels).write()
    assert made.ingest("tiny") == 0
    code, name, said = adapt("--index", made.index, "--out", "few")
    assert (code == 0 and name.startswith("tiny+few-")) or (code == 2 and "Traceback" not in said)
    assert code == 0 or people < 8


def test_a_model_whose_folder_is_not_here_is_not_measured(
    archive: Archive, adapt: Adapt, capsys: pytest.CaptureFixture[str]
) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest")
    (load_settings().settings_folder / "adapted" / name).rename(archive.folder / "elsewhere")
    assert evaluate(["run", "--model", name, "--index", archive.index]) == 2
    assert "from whose is not known here" in capsys.readouterr().err


def test_pseudonyms_of_another_secret_are_no_strangers(
    archive: Archive, other: Archive, adapt: Adapt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, name, _ = adapt("--index", archive.index, "--out", "chest")
    monkeypatch.setenv("RADSEARCH_SECRET", "another-secret-for-tests-of-more-than-32-characters")
    assert other.ingest("tiny", name) == 0
    assert evaluate(["run", "--model", name, "--index", other.index]) == 2
    assert "pseudonyms another secret has made" in capsys.readouterr().err
    code, _, said = adapt("--index", archive.index, "--test-manifest", str(archive.manifest), "--out", "trial")
    assert code == 2
    assert "made with another secret than those that were learned from" in said


def test_other_targets_have_other_labels(adapt: Adapt, archive: Archive) -> None:
    code, _, said = adapt("--index", archive.index, "--target", "region", "--out", "chest")
    assert code == 2
    assert "two labels or more" in said
