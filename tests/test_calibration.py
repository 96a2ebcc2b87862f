"""Scores as probabilities, and what is refused as strange: worked out by hand, planted patients, hostile files."""

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.adapting.scoring import answers_of
from evaluation.calibration import (
    Pairs,
    calibration_of_answers,
    cross_fitted,
    curve_of,
    expected_calibration_error,
    fit_calibration,
    fit_queries,
    fitted,
    isotonic,
)
from evaluation.collection import Collection, Image
from evaluation.noise import noise_pictures
from evaluation.protocols import leave_patient_out
from evaluation.settings import SearchSettings
from evaluation.strangers import Nearest, Novelty, nearest_to, novelty_of, thresholds
from radsearch.errors import SettingsError
from radsearch.search.calibration import Calibration, Curve, file_of, keep, place_of, read
from radsearch.study import Fingerprint

MODEL = Fingerprint("tiny", "sha256:0", 4, "none", "float32", 1)
MADE = {"queries": 4, "patients": 3, "date": "2026-11-26", "ece": 0.01}
RISING = Curve(((0.2, 0.1), (0.6, 0.5), (0.8, 0.9)))
KEPT = Calibration(MODEL, MODEL, {"": RISING, "CT": Curve(((0.5, 0.3),))}, {"": 0.4, "CT": 0.7}, MADE)


def test_isotonic_by_hand() -> None:
    """3 and 1 are pooled to 2, then 2 and the weight-two 0.5 to (2 * 2 + 2 * 0.5) / 4."""
    values, weights = np.array([3.0, 1.0, 0.5, 4.0]), np.array([1.0, 1.0, 2.0, 1.0])
    assert isotonic(values, weights).tolist() == [1.25, 1.25, 1.25, 4.0]


def test_isotonic_is_the_best_of_all_rising_sequences_of_a_grid() -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        values, weights = draw.integers(0, 5, 4) / 4.0, draw.integers(1, 4, 4).astype(float)
        found = isotonic(values, weights)
        assert (np.diff(found) >= 0).all()
        grid = itertools.combinations_with_replacement(np.linspace(0, 1, 21), 4)
        best = min(float(weights @ (np.array(one) - values) ** 2) for one in grid)
        assert float(weights @ (found - values) ** 2) <= best + 1e-12


def test_curve_has_a_mean_score_and_a_share_of_hits_a_knot_and_is_straight_between() -> None:
    scores = np.repeat([0.2, 0.4, 0.6], 40)
    hits = np.concatenate([np.arange(40) < 4, np.arange(40) < 20, np.arange(40) < 36])
    curve = curve_of(scores, hits)
    assert curve.knots == ((0.2, 0.1), (0.4, 0.5), (0.6, 0.9))
    assert [curve.at(score) for score in (0.0, 0.3, 0.9)] == pytest.approx([0.1, 0.3, 0.9])


def test_curve_is_never_sure_has_no_more_than_fifty_knots_and_one_for_equal_scores() -> None:
    draw = np.random.default_rng(0)
    scores = draw.uniform(-1, 1, 10_000)
    curve = curve_of(scores, scores > 0)
    assert len(curve.knots) == 50
    assert (curve.knots[0][1], curve.knots[-1][1]) == (0.01, 0.99)
    assert curve_of(np.full(500, 0.5), np.arange(500) < 250).knots == ((0.5, 0.5),)


def test_expected_calibration_error_by_hand() -> None:
    """(0.2, 0.4] of ten bins: 0.3, 0.3 in one bin, a hit in two: gap 0.2; 0.95, 0.85 in two, both hits: 0.05, 0.15."""
    probabilities, hits = np.array([0.3, 0.3, 0.95, 0.85]), np.array([True, False, True, True])
    assert expected_calibration_error(probabilities, hits) == pytest.approx((2 * 0.2 + 0.05 + 0.15) / 4)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_edges_belong_to_the_bin_below() -> None:
    """0.1 and 0.05 in one bin: gaps 0.9 and -0.05 add up; apart they would be 0.9 and 0.05."""
    found = expected_calibration_error(np.array([0.1, 0.05]), np.array([True, False]))
    assert found == pytest.approx((0.9 - 0.05) / 2)


def pairs_of(count: int, patients: int, *, seed: int = 0, modality: str = "CT") -> Pairs:
    """Pairs of which a share as high as their score are hits."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0, 1, count)
    of_query = np.arange(count) % patients
    hits = draw.uniform(0, 1, count) < scores
    return Pairs(scores, hits, np.full(count, modality), of_query, (of_query + 1) % patients)


def test_modality_has_a_curve_of_its_own_only_with_pairs_and_patients_enough() -> None:
    def curves(count: int, patients: int) -> set[str]:
        one = pairs_of(count, patients)
        return set(fit_calibration(one.scores, one.hits, one.modalities, one.patients))

    assert curves(200, 20) == {"", "CT"}
    assert curves(199, 20) == {""}
    assert curves(200, 19) == {""}


def test_what_is_probable_is_as_frequent_on_patients_that_were_not_fitted_on() -> None:
    found = fitted(pairs_of(20_000, 50), np.arange(50) % 5, queries=2000)
    assert found.errors[""] < 0.03
    assert found.errors["CT"] == found.errors[""]
    assert (found.pairs["CT"], found.patients, found.queries) == (20_000, 50, 2000)


@pytest.mark.parametrize("side", ["patients", "others"])
def test_cross_fit_leaves_out_a_patient_who_asks_and_who_is_found(side: str) -> None:
    """Patient 0 turns all upside down, whether he asks or is found: his own fold's probabilities do not know it."""
    sound = pairs_of(4000, 10, seed=1)
    folds = np.arange(10) % 5
    planted = getattr(sound, side) == 0
    turned = replace(sound, hits=np.where(planted, sound.scores < 0.5, sound.hits))
    own = folds[sound.patients] == 0
    assert cross_fitted(turned, folds)[own].tolist() == cross_fitted(sound, folds)[own].tolist()
    assert (cross_fitted(turned, folds)[~own] != cross_fitted(sound, folds)[~own]).any()


def archive_of(people: int, *, each: int = 2) -> Collection:
    """Two labels, two directions; an image is near to all of its label and a little off by itself."""
    draw = np.random.default_rng(0)
    images, vectors = [], []
    for person, number in itertools.product(range(people), range(each)):
        label = person % 2
        facts = {"modality": ("CR", "CT")[label], "region": "chest"}
        images.append(Image(f"{person:03}-{number}", f"patient:{person}", (("no", "yes")[label],), facts))
        vectors.append(np.eye(6)[label] + draw.normal(0, 0.05, 6))
    unit = np.array(vectors, np.float32)
    return Collection(images, unit / np.linalg.norm(unit, axis=1, keepdims=True), "here", {"model": "tiny"})


def test_queries_of_an_archive_are_fitted_by_the_modality_of_what_they_find() -> None:
    collection = archive_of(60)
    trial = leave_patient_out(collection)
    found = fit_queries(collection, trial, trial.index, SearchSettings("cpu"))
    assert set(found.curves) == {"", "XR", "CT"}
    assert found.pairs == {"": 1200, "CT": 600, "XR": 600}
    assert found.errors[""] == pytest.approx(0.01)  # all are hits, and no curve is surer than 0.99


def test_answers_of_a_cross_validation_give_the_same_curves() -> None:
    collection = archive_of(60)
    trial = leave_patient_out(collection)
    settings = SearchSettings("cpu")
    answers = answers_of(collection, collection.vectors, trial, trial.queries, settings, index=trial.index)
    novelty = Novelty({"": 0.5}, {"": 0.01}, {})
    made = calibration_of_answers(answers, collection, model=MODEL, space=MODEL, novelty=novelty)
    assert made.curves == fit_queries(collection, trial, trial.index, settings).curves
    assert made.least == {"": 0.5}
    assert (made.made["queries"], made.made["patients"]) == (120, 60)


def near(scores: "list[float]", modality: str = "CT") -> Nearest:
    return Nearest(np.array(scores), np.full(len(scores), modality), np.ones(len(scores), bool))


def test_least_similarity_leaves_one_patient_of_a_hundred_below_however_many_images_he_has() -> None:
    """101 patients with an image each, and one of 50 images that are all far off: he is below, nobody else is."""
    scores = [*(0.8 + 0.001 * number for number in range(101)), *([0.1] * 50)]
    patients = np.array([*range(101), *([101] * 50)])
    assert thresholds(near(scores), patients) == {"": 0.8, "CT": 0.8}
    with_few = thresholds(near(scores[:99]), patients[:99])
    assert set(with_few) == {""}


def test_images_of_another_modality_are_no_measure_of_the_one_that_they_are_nearest_to() -> None:
    scores, patients = [0.1, 0.1, 0.1, *([0.9] * 100)], np.arange(103)
    stray = replace(near(scores), alike=np.arange(103) > 2)
    assert thresholds(stray, patients) == {"": 0.1, "CT": 0.9}


def lone_images(vectors: "np.ndarray", patients: list[int]) -> Collection:
    images = [Image(f"{place:03}", f"patient:{one}", (), {"modality": "CT"}) for place, one in enumerate(patients)]
    return Collection(images, vectors.astype(np.float32), "here", {"model": "tiny"})


def test_nearest_image_is_never_the_own_patients() -> None:
    collection = lone_images(np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]]), [0, 0, 1])
    rows = np.arange(3)
    found = nearest_to(collection, rows, rows, SearchSettings("cpu"))
    assert found.scores == pytest.approx([0.6, 0.6, 0.6])
    assert found.alike.all()


def test_false_alarms_are_by_thresholds_that_know_nothing_of_the_patient() -> None:
    """One of 50 is far off all others: the lowest of all by his own threshold, so never below it; but below theirs."""
    vectors = np.repeat([[1.0, 0.0]], 50, axis=0)
    vectors[7] = 0.1, np.sqrt(0.99)
    found = novelty_of(lone_images(vectors, list(range(50))), np.arange(50), SearchSettings("cpu"))
    assert found.least == {"": pytest.approx(0.1)}
    assert found.false_alarms == {"": 0.02, "CT": 0.02}


def test_noise_and_a_modality_that_is_left_out_are_refused_and_own_images_are_not() -> None:
    collection = archive_of(120, each=2)
    noise = {"planted": np.eye(6, dtype=np.float32)[2:4], "own": collection.vectors[:4]}
    found = novelty_of(collection, np.arange(240), SearchSettings("cpu"), noise)
    assert found.left_out == {"CT": 1.0, "XR": 1.0}
    assert found.noise == {"planted": 1.0, "own": 0.0}
    assert 0 <= found.false_alarms[""] < 0.05
    assert set(found.false_alarms) == {"", "CT", "XR"}
    assert found.patients == {"": 120, "CT": 60, "XR": 60}


def test_noise_is_the_same_each_time_and_of_six_kinds() -> None:
    one, other = noise_pictures(2), noise_pictures(2)
    assert sorted(one) == ["flat", "shuffled", "smooth", "stripes", "text", "white"]
    for name, pictures in one.items():
        assert len(pictures) == 2
        assert all(picture.dtype == np.uint8 and picture.shape == (256, 256) for picture in pictures)
        assert all((a == b).all() for a, b in zip(pictures, other[name], strict=True))


def test_probability_and_least_are_of_the_hits_modality_else_of_all() -> None:
    curves = {"": RISING, "XR": Curve(((0.0, 0.25),))}
    kept = replace(KEPT, curves=curves, least={"": 0.4, "XR": 0.7})
    assert [kept.probability(0.6, modality) for modality in ("DX", "XR", "MR", None)] == [0.25, 0.25, 0.5, 0.5]
    assert [kept.least_of(modality) for modality in ("CR", "MR", None)] == [0.7, 0.4, 0.4]


def test_a_record_comes_back_as_it_was_kept_and_for_its_own_index_and_model_only(tmp_path: Path) -> None:
    file = keep(tmp_path, "/data/index", KEPT)
    assert file == file_of(tmp_path, "/data/index", "tiny")
    assert file.parent == tmp_path / "calibration"
    assert read(tmp_path, "/data/index", "tiny") == KEPT
    assert read(tmp_path, "/data/other", "tiny") is None
    assert read(tmp_path, "/data/index", "other") is None
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_collections_of_one_server_are_told_apart() -> None:
    assert place_of("/data/index", "one") == place_of("/data/index", "two")
    assert place_of("https://host", "one") != place_of("https://host", "two")


def test_a_record_of_another_index_under_this_ones_name_is_refused(tmp_path: Path) -> None:
    file = keep(tmp_path, "/data/index", KEPT)
    file.rename(file_of(tmp_path, "/data/other", "tiny"))
    with pytest.raises(SettingsError, match="another index"):
        read(tmp_path, "/data/other", "tiny")


Change = Callable[[dict[str, Any]], object]
DAMAGES: dict[str, Change] = {
    "another version": lambda told: told.update(format=2),
    "no curve of all": lambda told: told["curves"].pop(""),
    "no least of all": lambda told: told["least"].pop(""),
    "falling scores": lambda told: told["curves"].update(CT=[[0.5, 0.1], [0.4, 0.2]]),
    "equal scores": lambda told: told["curves"].update(CT=[[0.5, 0.1], [0.5, 0.2]]),
    "falling probabilities": lambda told: told["curves"].update(CT=[[0.5, 0.2], [0.6, 0.1]]),
    "probability above 1": lambda told: told["curves"].update(CT=[[0.5, 1.1]]),
    "score above 1": lambda told: told["curves"].update(CT=[[1.5, 0.1]]),
    "no number": lambda told: told["curves"].update(CT=[["0.5", 0.1]]),
    "true as a number": lambda told: told["least"].update(CT=True),
    "not finite": lambda told: told["least"].update(CT=float("nan")),
    "endless": lambda told: told["least"].update(CT=float("inf")),
    "too many knots": lambda told: told["curves"].update(CT=[[number / 100, 0.5] for number in range(51)]),
    "no knots": lambda told: told["curves"].update(CT=[]),
    "too many modalities": lambda told: told["least"].update({str(number): 0.5 for number in range(101)}),
    "long name": lambda told: told["least"].update({"M" * 65: 0.5}),
    "list of curves": lambda told: told.update(curves=[1]),
    "no fingerprint": lambda told: told.update(model={"model": "tiny"}),
    "odd fingerprint": lambda told: told["space"].update(dimension="4"),
    "long date": lambda told: told["made"].update(date="2" * 65),
    "no queries": lambda told: told["made"].pop("queries"),
    "error above 1": lambda told: told["made"].update(ece=2),
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=list(DAMAGES))
def test_a_record_that_says_nothing_that_can_be_meant_is_refused_by_name(tmp_path: Path, change: Change) -> None:
    file = keep(tmp_path, "/data/index", KEPT)
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, "/data/index", "tiny")
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[]", b"null", b"{}", b" " * 1_000_001 + b"{}"])
def test_a_file_that_is_no_record_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = keep(tmp_path, "/data/index", KEPT)
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, "/data/index", "tiny")
    assert str(file) in str(refused.value)


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    file = keep(tmp_path, "/data/index", KEPT)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SettingsError):
        read(tmp_path, "/data/index", "tiny")


def test_what_would_not_be_read_is_not_kept(tmp_path: Path) -> None:
    for wrong in (replace(KEPT, least={"CT": 0.5}), replace(KEPT, least={"": float("nan")}), replace(KEPT, made={})):
        with pytest.raises(SettingsError):
            keep(tmp_path, "/data/index", wrong)
    assert not (tmp_path / "calibration").exists()
    assert asdict(KEPT.model)["model"] == "tiny"
