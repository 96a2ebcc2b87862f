"""The study `relink`: patients found again in another study, against a table worked out by hand and a plain loop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.__main__ import main
from evaluation.collection import Collection, Image
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from evaluation.studies import STUDIES, relink, verification
from evaluation.studies.relink import study_relink
from evaluation.studies.verification import equal_error_rate, parts_below
from radsearch.errors import RadSearchError

CPU = SearchSettings(device="cpu")
CHEST, BRAIN = {"modality": "CT", "region": "chest"}, {"modality": "MR", "region": "brain"}


def held(rows: list[tuple[str, str | None, str | None, dict[str, str]]], vectors: Any) -> Collection:
    """rows: name, patient, study, facts; all in the order of their names."""
    images = [
        Image(name, f"patient:{patient}" if patient else f"image:{name}", (), facts, study)
        for name, patient, study, facts in rows
    ]
    wide = np.asarray(vectors, np.float64)
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return Collection(images, unit, "here", {"model": "m"})


def at(*degrees: float) -> "np.ndarray":
    turned = np.radians(np.array(degrees))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


# Nearest first, without the own study: a1 a3 b1 c1 b2; a2 the same; a3 b1 a2 a1 c1 b2; b1 a3 a2 a1 c1 b2; b2 c1 b1 ...
# The studies of a and b bear the same numbers.
TABLE = held(
    [
        ("a1", "a", "1", CHEST),
        ("a2", "a", "1", CHEST),
        ("a3", "a", "2", CHEST),
        ("b1", "b", "1", CHEST),
        ("b2", "b", "2", BRAIN),
        ("c1", "c", "1", CHEST),
        ("d1", None, "1", CHEST),
        ("e1", "e", None, CHEST),
    ],
    at(0, 1, 10, 12, 100, 50, 0, 0),
)


def test_rates_are_the_hand_worked_table() -> None:
    study = study_relink(TABLE, CPU)
    assert (study.images, study.patients, study.linkable) == (6, 3, 2)
    assert study.dropped == {"no patient stated": 1, "no study stated": 1}
    found = study.all
    assert (found.queries, found.of, found.patients) == (5, 5, 2)  # c has one study
    assert found.rates == pytest.approx(
        {
            "rank-1": 2 / 5,
            "rank-5": 1,
            "rank-10": 1,
            "MRR": (1 + 1 + 1 / 2 + 1 / 5 + 1 / 2) / 5,
            "mAP@10": (1 + 1 + (1 / 2 + 2 / 3) / 2 + 1 / 5 + 1 / 2) / 5,
        }
    )
    assert found.chance["rank-1"] == pytest.approx((1 / 4 + 1 / 4 + 2 / 5 + 1 / 5 + 1 / 5) / 5)
    assert found.chance["rank-5"] == pytest.approx(1)  # nobody meets more than five
    assert (found.interval["rank-1"].low, found.interval["rank-1"].high) == pytest.approx(
        (0, 2 / 3)
    )  # b alone, a alone


def test_among_images_of_one_site_a_patient_is_looked_for_anew() -> None:
    """B has one study of the chest only: a1 and a2 find a3, which finds b1."""
    found = study_relink(TABLE, CPU).same_site
    assert found is not None
    assert (found.queries, found.patients, found.rates["rank-1"]) == (3, 1, pytest.approx(2 / 3))
    assert found.chance["rank-1"] == pytest.approx((1 / 3 + 1 / 3 + 2 / 4) / 3)
    assert found.interval == {}


def test_verification_is_the_hand_worked_table() -> None:
    """Same, in degrees apart: 10, 9, 88. Different: 2 11 12 38 40 49 50 50 90 99 100. a1 and a2 are one study's."""
    found = study_relink(TABLE, CPU).all.verification
    assert found is not None
    assert (found.same, found.same_of, found.different, found.different_of) == (3, 3, 11, 11)
    assert found.roc_auc == pytest.approx((10 + 10 + 3) / 33)
    assert found.equal_error_rate == pytest.approx((1 / 3 + 4 / 11) / 2)  # at 38 degrees
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((3 / 11, 10 / 11))


def test_verification_of_one_site_compares_no_images_of_two() -> None:
    sited = study_relink(TABLE, CPU).same_site
    assert sited is not None
    assert sited.verification is not None
    assert (sited.verification.same_of, sited.verification.different_of) == (2, 3 + 3 + 1)
    assert sited.verification.roc_auc == pytest.approx(6 / 7)  # of 10 and 9 degrees only a3 and b1, 2, are nearer


def test_equal_cosines_count_half_and_the_perfect_model_makes_no_error() -> None:
    assert parts_below(np.array([0.5]), np.array([0.1, 0.5, 0.5, 0.9])).tolist() == [0.5]
    assert equal_error_rate(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0
    assert equal_error_rate(np.array([0.1, 0.2]), np.array([0.8, 0.9])) == 1
    assert equal_error_rate(np.array([0.5, 0.5]), np.array([0.5])) == 0.5  # a constant knows nothing


def test_parts_are_told_of_enough_queries_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert study_relink(TABLE, CPU).all.by == {"modality": {}, "region": {}}
    monkeypatch.setattr(relink, "FEWEST", 2)
    by = study_relink(TABLE, CPU).all.by
    assert (list(by["modality"]), list(by["region"])) == (["CT"], ["chest"])
    part = by["modality"]["CT"]
    assert (part.queries, part.patients, part.rank_1) == (4, 2, 0.5)
    assert part.chance == pytest.approx((1 / 4 + 1 / 4 + 2 / 5 + 1 / 5) / 4)


def random_collection(seed: int, images: int = 300) -> Collection:
    random = np.random.default_rng(seed)
    rows, vectors = [], []
    people = random.normal(size=(90, 16))
    for number in range(images):
        patient = int(random.integers(0, 90))
        facts = {"modality": "CM"[number % 2] + "T", "region": ("chest", "brain")[number % 3 == 0]}
        study = str(random.integers(0, 3)) if number % 11 else None
        rows.append((f"{number:04}", f"p{patient}" if number % 13 else None, study, facts))
        vectors.append(people[patient] + random.normal(size=16) * 1.3)
    return held(rows, vectors)


def naive(collection: Collection, *, sited: bool) -> tuple[int, dict[str, float], float, int, int]:
    """Queries, rates, AUC, and pairs of either kind, by loops over images."""
    images = [(row, one) for row, one in enumerate(collection.images) if one.patient_known and one.study]
    wide = collection.vectors.astype(float)
    ranks, same, different = [], [], []
    for row, one in images:
        gallery = [
            (other, image)
            for other, image in images
            if (image.patient, image.study) != (one.patient, one.study)
            and (not sited or {**image.facts} == {**one.facts})
        ]
        gallery.sort(key=lambda other: (-float(wide[row] @ wide[other[0]]), other[0]))
        mine = [place for place, (_, image) in enumerate(gallery, 1) if image.patient == one.patient]
        ranks += mine[:1]
        for other, image in gallery:
            if other > row:
                (same if image.patient == one.patient else different).append(float(wide[row] @ wide[other]))
    rates = {f"rank-{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    rates["MRR"] = sum(1 / rank for rank in ranks if rank <= 10) / len(ranks)
    auc = float(np.mean([[(one > other) + (one == other) / 2 for other in different] for one in same]))
    return len(ranks), rates, auc, len(same), len(different)


@pytest.mark.parametrize("memory_mb", [1, 512])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_an_independent_loop_whatever_the_memory(seed: int, memory_mb: int) -> None:
    collection = random_collection(seed)
    study = study_relink(collection, SearchSettings(device="cpu", memory_mb=memory_mb))
    for found, sited in ((study.all, False), (study.same_site, True)):
        queries, rates, auc, same, different = naive(collection, sited=sited)
        assert found is not None
        assert found.verification is not None
        assert (found.queries, found.verification.same, found.verification.different) == (queries, same, different)
        assert {name: found.rates[name] for name in rates} == pytest.approx(rates)
        assert found.verification.roc_auc == pytest.approx(auc)


def test_of_many_images_some_ask_and_some_pairs_are_compared_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = random_collection(3)
    whole = study_relink(collection, CPU)
    monkeypatch.setattr(relink, "ASKED", 50)
    monkeypatch.setattr(verification, "PAIRS", 100)
    some = study_relink(collection, CPU)
    assert (some.all.queries, some.all.of) == (50, whole.all.of)
    assert whole.all.verification is not None
    assert some.all.verification is not None
    assert (some.all.verification.same, some.all.verification.different) == (100, 100)
    assert some.all.verification.different_of == whole.all.verification.different_of
    assert abs(some.all.verification.roc_auc - whole.all.verification.roc_auc) < 0.15
    assert study_relink(collection, CPU) == some


def test_where_nobody_has_two_studies_it_says_what_it_needs() -> None:
    once = held([("a", "a", "1", CHEST), ("b", "b", "1", CHEST), ("c", None, None, CHEST)], at(0, 1, 2))
    with pytest.raises(RadSearchError, match="no patient with images of two studies: the study 'relink' needs both"):
        study_relink(once, CPU)


def test_one_patient_alone_has_no_pair_of_two_and_images_without_a_site_have_no_second_part() -> None:
    study = study_relink(held([("a", "a", "1", {}), ("b", "a", "2", {})], at(0, 1)), CPU)
    assert (study.all.verification, study.same_site, study.all.rates["rank-1"]) == (None, None, 1)


def test_it_turns_into_json_without_a_nan() -> None:
    trial = Trial("leave-patient-out", np.arange(8), np.arange(8), False, {})
    json.dumps(STUDIES["relink"](TABLE, trial, CPU), allow_nan=False)


def test_published_vectors_with_patients_and_studies_in_their_manifest(tmp_path: Path) -> None:
    lines = ["filepath,patient,study,modality,region,labels"]
    lines += [f"{row}.png,p{row // 2},{row % 2},CT,chest,{'ab'[row % 2]}" for row in range(8)]
    manifest, vectors = tmp_path / "manifest.csv", tmp_path / "vectors.npy"
    manifest.write_text("\n".join(lines), encoding="utf-8")
    np.save(vectors, at(*(10 * (row // 2) + row % 2 for row in range(8))).astype(np.float32))
    run = ["run", "--vectors", str(vectors), "--manifest", str(manifest), "--out", str(tmp_path / "run")]
    assert main([*run, "--study", "relink"]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["studies"]["relink"]
    assert (found["linkable"], found["all"]["queries"], found["all"]["rates"]["rank-1"]) == (4, 8, 1)
    assert "Study: relink" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
