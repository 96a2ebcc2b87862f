"""Heads: what they compute, what they learn from, and what is refused of a kept one."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.adapting.discriminants import Labelled, Parameters, fit, labelled, projection, usual_distances
from evaluation.adapting.folds import FOLDS, folds_of, whole_patients
from radsearch.errors import ModelUnavailableError, NothingToSearchError, SettingsError
from radsearch.models import adapted, built_in_models, find_model, fingerprint_of, models_of
from radsearch.models.checking import check_model
from radsearch.models.heads import Head, likeness, unit_blocks
from radsearch.models.weights import find_weights
from radsearch.settings import Settings
from radsearch.study import Vectors

PARTS = (3, 2)
BASE = built_in_models()["efficientnet-lite0"]


def drawn(count: int, *, dimension: int = 5, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


@pytest.fixture
def head() -> Head:
    landmarks = unit_blocks(drawn(4), PARTS).astype(np.float16).astype(np.float32)
    return Head(PARTS, landmarks, np.array([0.5, 2.0], np.float32), drawn(4, dimension=3, seed=1),
                drawn(1, dimension=3, seed=2)[0], (2, 1), (0.75, 0.25))  # fmt: skip


def test_each_block_gets_unit_length_and_one_of_zeros_stays() -> None:
    vectors = np.array([[3, 4, 0, 0, 0], [0, 0, 2, 6, 8]], np.float32)
    np.testing.assert_allclose(unit_blocks(vectors, PARTS), [[0.6, 0.8, 0, 0, 0], [0, 0, 1, 0.6, 0.8]], atol=1e-7)


def test_likeness_is_the_mean_of_the_blocks_kernels() -> None:
    ones, others, widths = drawn(5), unit_blocks(drawn(3, seed=9), PARTS), np.array([0.5, 2.0], np.float32)
    expected = np.empty((5, 3))
    for row, one in enumerate(ones.astype(float)):
        for column, other in enumerate(others.astype(float)):
            first = one[:3] / np.linalg.norm(one[:3]) - other[:3]
            second = one[3:] / np.linalg.norm(one[3:]) - other[3:]
            expected[row, column] = (np.exp(-(first @ first) / 0.5) + np.exp(-(second @ second) / 2.0)) / 2
    np.testing.assert_allclose(likeness(ones, others, PARTS, widths), expected, atol=1e-6)


def test_many_vectors_are_compared_as_few_are(monkeypatch: pytest.MonkeyPatch, head: Head) -> None:
    many = drawn(11)
    whole = head.apply(many)
    monkeypatch.setattr("radsearch.models.heads._BLOCK_ROWS", 4)
    np.testing.assert_allclose(head.apply(many), whole, atol=1e-6)


def test_a_head_gives_unit_vectors_whose_parts_have_their_share(head: Head) -> None:
    vectors = drawn(6)
    found = head.apply(vectors)
    projected = likeness(vectors, head.landmarks, PARTS, head.widths) @ head.projection + head.offset
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[:, 2], 0.5 * np.sign(projected[:, 2]), atol=1e-6)
    first = projected[:, :2] / np.linalg.norm(projected[:, :2], axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, :2], np.sqrt(0.75) * first, atol=1e-5)
    np.testing.assert_allclose(head.apply(7 * vectors), found, atol=1e-6)  # of any length


def planted(people: int, *, seed: int) -> tuple[Vectors, list[frozenset[str]], list[str]]:
    """Two images a patient; the label shows in one small number of six, each patient's own look in the others."""
    random = np.random.default_rng(seed)
    vectors, classes, patients = [], [], []
    for person in range(people):
        look = random.normal(size=6) * 3
        for _ in range(2):
            vector = look + random.normal(size=6) * 0.3
            vector[0] = (1.0 if person % 2 else -1.0) + random.normal() * 0.3
            vectors.append(vector)
            classes.append(frozenset({"odd" if person % 2 else "even"}))
            patients.append(f"patient:{seed}-{person}")
    return np.array(vectors, np.float32), classes, patients


def right(vectors: Vectors, classes: list[frozenset[str]], patients: list[str]) -> float:
    """How many find the same label first, among other patients."""
    alike = vectors @ vectors.T / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors, axis=1)[:, None]
    alike[np.array(patients)[:, None] == np.array(patients)] = -2
    return float(np.mean([classes[row] == classes[near] for row, near in enumerate(alike.argmax(axis=1))]))


def test_what_is_learned_of_some_patients_holds_for_others() -> None:
    vectors, classes, patients = planted(80, seed=1)
    learned = labelled(classes, patients, range(len(vectors)))
    head = fit(vectors, (6,), learned, Parameters())
    others, their_classes, their_patients = planted(60, seed=2)
    assert right(others, their_classes, their_patients) < 0.75
    assert right(head.apply(others), their_classes, their_patients) > 0.85


def test_more_images_than_landmarks_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.adapting.discriminants.MOST_LANDMARKS", 40)
    vectors, classes, patients = planted(80, seed=1)
    head = fit(vectors, (6,), labelled(classes, patients, range(len(vectors))), Parameters())
    assert len(head.landmarks) == 40
    others, their_classes, their_patients = planted(60, seed=2)
    assert right(head.apply(others), their_classes, their_patients) > 0.8


def test_directions_part_the_labels_as_fishers_do() -> None:
    """Among features as they are, without shrinkage and weights, the one direction is Fisher's."""
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 3)) @ np.array([[2.0, 0.5, 0], [0, 1, 0.3], [0, 0, 0.5]])
    features[20:] += [0.4, -0.3, 0.5]
    labels = np.repeat([0, 1], 20)
    found = projection(features, np.eye(3), Labelled(np.arange(40), labels, np.full(40, 1 / 40)), 0.0)
    within = sum(np.cov(features[labels == one].T, bias=True) for one in (0, 1)) / 2
    fisher = np.linalg.solve(within, features[20:].mean(axis=0) - features[:20].mean(axis=0))
    direction = found.matrix[:, 0]
    assert abs(direction @ fisher) / np.linalg.norm(direction) / np.linalg.norm(fisher) > 0.9999
    assert found.outputs == (1, 3)


def test_an_image_of_several_labels_counts_in_each_and_a_label_of_one_patient_is_learned() -> None:
    classes = [frozenset({"a"}), frozenset({"a", "b"}), frozenset({"b"}), frozenset({"lone"}), frozenset({"lone"})]
    learned = labelled(classes, ["p", "q", "r", "s", "s"], range(5))
    pairs = [(0, 0), (1, 0), (1, 1), (2, 1), (3, 2), (4, 2)]
    assert list(zip(learned.rows.tolist(), learned.labels.tolist(), strict=True)) == pairs
    assert learned.count == 3


def test_many_images_of_a_patient_or_a_label_count_for_less() -> None:
    classes = [frozenset({"a"})] * 10 + [frozenset({"b"})] * 2
    patients = ["p"] * 9 + ["q"] + ["r", "s"]
    weights = labelled(classes, patients, range(12)).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[9] == pytest.approx(3 * weights[0])  # one image against nine: the root
    assert weights[:10].sum() / weights[10:].sum() == pytest.approx(np.sqrt(4 / 2))  # 9 / 3 + 1 against 2: the root


def test_one_label_teaches_nothing() -> None:
    with pytest.raises(NothingToSearchError, match="two labels or more"):
        labelled([frozenset({"a"})] * 3, ["p", "q", "r"], range(3))


def test_widths_are_the_medians_of_the_distances() -> None:
    vectors = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [-1, 0, 0, 1, 0]], np.float32)
    np.testing.assert_allclose(usual_distances(vectors, PARTS), [2, 1e-6], atol=1e-6)


def test_a_patient_is_in_one_fold_and_every_fold_has_every_label() -> None:
    random = np.random.default_rng(3)
    patients = [f"p{person}" for person in range(60) for _ in range(int(random.integers(1, 6)))]
    classes = [frozenset({"rare" if int(name[1:]) < 5 else f"c{int(name[1:]) % 3}"}) for name in patients]
    folds = folds_of(classes, patients, range(len(patients) - 1))
    assert folds[-1] == -1
    assert set(folds[:-1].tolist()) == set(range(FOLDS))
    assert all(len({int(folds[row]) for row, one in enumerate(patients[:-1]) if one == name}) == 1 for name in patients)
    for fold in range(FOLDS):
        assert {name for row, of_row in enumerate(classes) for name in of_row if folds[row] == fold} == {
            "rare", "c0", "c1", "c2",
        }  # fmt: skip


def test_fewer_patients_than_folds_are_refused() -> None:
    with pytest.raises(NothingToSearchError, match="5 patients"):
        folds_of([frozenset({"a"})] * 8, [f"p{number % 4}" for number in range(8)], range(8))


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., str]:
    """Keeps a head of efficientnet-lite0 and gives its name."""

    def keep(out: str = "chest", seed: int = 0) -> str:
        head = Head(
            BASE.parts, unit_blocks(drawn(4, dimension=BASE.dimension, seed=seed), BASE.parts),
            np.ones(len(BASE.parts), np.float32), drawn(4, dimension=3, seed=seed),
            np.zeros(3, np.float32), (2, 1), (0.95, 0.05),
        )  # fmt: skip
        on = fingerprint_of(BASE, find_weights(BASE, None))
        said = {"images": 7, "patients": 5}
        return adapted.save(tmp_path, BASE, out, head, on=on, said=said, patients=["patient:b", "patient:a"])

    return keep


def test_a_kept_head_is_a_row_with_a_fingerprint_of_its_own(kept: Callable[..., str], tmp_path: Path) -> None:
    name, other = kept(), kept(seed=1)
    assert name.startswith("efficientnet-lite0+chest-")
    assert name != other
    spec = find_model(name, tmp_path)
    assert (spec.dimension, spec.family, spec.base, spec.text) == (3, "adapted", BASE, False)
    assert adapted.patients_of(tmp_path / "adapted" / name) == {"patient:a", "patient:b"}
    weights = find_weights(spec, None)
    own, theirs = fingerprint_of(spec, weights), fingerprint_of(find_model(other, tmp_path), weights)
    assert own.differences(theirs) and own.weights != theirs.weights  # noqa: PT018 -- the same fact
    assert own.differences(fingerprint_of(BASE, weights))
    assert own.dimension == 3
    assert fingerprint_of(spec, weights, text_blanked=True).blanking
    again = kept()
    assert again == name
    assert sorted(models_of(tmp_path).keys() - built_in_models().keys()) == sorted([name, other])


def test_a_head_comes_back_as_it_was_kept(kept: Callable[..., str], tmp_path: Path) -> None:
    spec = find_model(kept(), tmp_path)
    head = adapted.load(spec)
    assert (head.parts, head.outputs) == ((1280,), (2, 1))
    np.testing.assert_allclose(head.shares, (0.95, 0.05))
    np.testing.assert_allclose(head.landmarks, unit_blocks(drawn(4, dimension=1280), (1280,)), atol=1e-3)
    assert (tmp_path / "adapted").stat().st_mode & 0o777 == 0o700
    assert spec.head is not None
    assert spec.head.stat().st_mode & 0o777 == 0o700


def test_a_head_is_refused_on_other_vectors_than_its_own(kept: Callable[..., str], tmp_path: Path) -> None:
    spec = find_model(kept(), tmp_path)
    here = fingerprint_of(BASE, find_weights(BASE, None))
    adapted.refuse_other_base(spec, here)
    with pytest.raises(ModelUnavailableError, match=r"rendering: 2 -> 1; adapt again|rendering: .* adapt again"):
        adapted.refuse_other_base(spec, replace(here, rendering=here.rendering - 1))


@pytest.mark.parametrize("out", ["", "a b", "../x", "-x", "a/b", "Erika^Muster"])
def test_names_that_are_no_names_are_refused(kept: Callable[..., str], out: str) -> None:
    with pytest.raises(SettingsError, match="letters, digits"):
        kept(out)


def _spoil_json(place: Path, change: Callable[[dict], object]) -> None:
    file = place / "head.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(change(told)))


@pytest.mark.parametrize(
    "change",
    [
        list,
        lambda told: {**told, "format": 2},
        lambda told: {**told, "dimension": -3},
        lambda told: {**told, "dimension": "3"},
        lambda told: {**told, "dimension": True},
        lambda told: {**told, "on": {**told["on"], "precision": "float8"}},
        lambda told: {**told, "on": {}},
        lambda told: {**told, "on": 7},
        lambda told: {key: value for key, value in told.items() if key != "base"},
        lambda told: {**told, "base": 7},
        lambda told: {**told, "base": "gone"},
    ],
)
def test_what_is_said_of_a_head_is_checked(
    kept: Callable[..., str], tmp_path: Path, change: Callable[[dict], object]
) -> None:
    _spoil_json(tmp_path / "adapted" / kept(), change)
    (place,) = (tmp_path / "adapted").glob("*/")
    with pytest.raises(SettingsError, match="remove the folder"):
        find_model(place.name, tmp_path)
    assert models_of(tmp_path).keys() == built_in_models().keys()  # no other model is lost by it


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"{" * 5000, b'{"format": 1'])
def test_damaged_words_of_a_head_are_named(kept: Callable[..., str], tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "adapted" / kept()
    (place / "head.json").write_bytes(content)
    with pytest.raises(SettingsError, match=r"head\.json is damaged"):
        find_model(place.name, tmp_path)


@pytest.mark.parametrize("spoil", ["cut", "pickle", "nan", "fewer", "widths", "outputs"])
def test_numbers_that_do_not_fit_are_refused(kept: Callable[..., str], tmp_path: Path, spoil: str) -> None:
    from safetensors.numpy import load_file, save_file

    spec = find_model(kept(), tmp_path)
    assert spec.head is not None
    file = spec.head / "head.safetensors"
    numbers = load_file(file)
    if spoil == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif spoil == "pickle":
        file.write_bytes(b"\x80\x04cposix\nsystem\n(S'true'\ntR.")
    else:
        changes = {
            "nan": {"projection": numbers["projection"] * np.nan},
            "fewer": {"landmarks": numbers["landmarks"][:3]},
            "widths": {"widths": numbers["widths"] * 0},
            "outputs": {"outputs": numbers["outputs"] + 1},
        }
        save_file({**numbers, **changes[spoil]}, file)
    with pytest.raises(SettingsError, match="adapt again"):
        adapted.load(spec)


def test_lost_patients_are_said_not_taken_for_none(kept: Callable[..., str], tmp_path: Path) -> None:
    place = tmp_path / "adapted" / kept()
    (place / "patients.txt").unlink()
    with pytest.raises(SettingsError, match="whom the model knows"):
        adapted.patients_of(place)


def test_what_is_said_holds_the_fingerprint_that_it_learned_on(kept: Callable[..., str], tmp_path: Path) -> None:
    told = adapted.described(tmp_path / "adapted" / kept())
    assert told["on"] == asdict(fingerprint_of(BASE, find_weights(BASE, None)))
    assert told["images"] == 7


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "chest-a1b2", "efficientnet-lite0+<b>"])
def test_a_folder_takes_no_other_models_name(kept: Callable[..., str], tmp_path: Path, name: str) -> None:
    place = tmp_path / "adapted" / kept()
    place.rename(place.with_name(name))
    assert models_of(tmp_path) == built_in_models()
    if name not in built_in_models():
        with pytest.raises(SettingsError, match="named as no model that was derived"):
            find_model(name, tmp_path)


def test_a_kept_head_is_checked_in_the_precision_that_it_learned_in(kept: Callable[..., str], tmp_path: Path) -> None:
    name = kept()
    _spoil_json(tmp_path / "adapted" / name, lambda told: {**told, "on": {**told["on"], "precision": "bfloat16"}})
    spec = find_model(name, tmp_path)
    assert spec.precisions == ("bfloat16",)
    found = list(check_model(spec, Settings(settings_folder=tmp_path, device="cpu")))
    assert [finding.what for finding in found][:2] == ["weights", "loads"]


def test_more_images_than_fit_are_whole_patients() -> None:
    patients = [f"p{row // 3}" for row in range(300)]
    rows = whole_patients(patients, np.arange(1, 300), 100)
    assert 90 < len(rows) <= 100
    assert rows.tolist() == sorted(rows.tolist())
    taken = {patients[row] for row in rows}
    assert all(row in rows for row in range(1, 300) if patients[row] in taken)
    assert whole_patients(patients, np.arange(1, 300), 299).tolist() == list(range(1, 300))


def test_pipes_and_stray_folders_below_adapted_hold_nobody_up(kept: Callable[..., str], tmp_path: Path) -> None:
    name = kept()
    (tmp_path / "adapted" / "stray").mkdir()
    (tmp_path / "adapted" / "file").write_text("")
    for file in ("head.json", "patients.txt", "head.safetensors"):
        place = tmp_path / "adapted" / name / file
        content = place.read_bytes()
        place.unlink()
        os.mkfifo(place)
        if file == "head.json":
            assert name not in models_of(tmp_path)
        else:
            with pytest.raises(SettingsError, match=r"cannot be read|damaged"):
                (adapted.patients_of if file == "patients.txt" else adapted.hash_of)(place.parent)
        place.unlink()
        place.write_bytes(content)
    assert name in models_of(tmp_path)


def test_a_name_that_is_taken_by_other_numbers_is_made_longer(
    kept: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapted, "_SHORT", 0)
    first, second = kept(), kept(seed=1)
    assert len(second) == len(first) + 64
    assert kept() == first
    assert kept(seed=1) == second


def test_blocks_are_part_of_a_fingerprint() -> None:
    row = find_model("efficientnet-lite0-layers")
    weights = find_weights(row, None)
    assert fingerprint_of(row, weights).differences(fingerprint_of(replace(row, blocks=()), weights))
    assert fingerprint_of(row, weights).differences(fingerprint_of(replace(row, blocks=(368, 368)), weights))


@pytest.mark.parametrize(("people", "labels"), [(5, 2), (6, 2), (8, 4), (40, 20), (100, 50)])
def test_no_fold_is_empty_however_rare_the_labels(people: int, labels: int) -> None:
    patients = [f"p{person}" for person in range(people)]
    folds = folds_of([frozenset({f"c{person % labels}"}) for person in range(people)], patients, range(people))
    counts = np.bincount(folds, minlength=FOLDS)
    assert counts.min() >= people // FOLDS
    assert counts.max() - counts.min() <= 1


def test_labels_that_look_alike_teach_nothing() -> None:
    classes = [frozenset({"a"}), frozenset({"b"})] * 4
    learned = labelled(classes, [f"p{row}" for row in range(8)], range(8))
    with pytest.raises(NothingToSearchError, match="nothing to learn"):
        fit(np.ones((8, 5), np.float32), PARTS, learned, Parameters())
