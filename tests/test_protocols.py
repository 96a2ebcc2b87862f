"""The protocols: who asks, among whom, and what is found; held against worked tables and an independent loop."""

from collections.abc import Sequence

import numpy as np
import pytest

from evaluation.collection import Collection, Image
from evaluation.figures import measure
from evaluation.protocols import Trial, available, denner2024, leave_patient_out
from radsearch.errors import NothingToSearchError


def image(name: str, patient: str, findings: str, split: str = "", **facts: str) -> Image:
    known = {"modality": "CT", "region": "chest", "split": split, **facts}
    stated = tuple(sorted(findings.split(";"))) if findings else ()
    return Image(name, patient, stated, {key: value for key, value in known.items() if value})


def collection(images: Sequence[Image], vectors: "np.ndarray") -> Collection:
    unit = np.asarray(vectors, np.float32)
    return Collection(list(images), unit / np.linalg.norm(unit, axis=1, keepdims=True), "here", {"model": "m"})


def at(*degrees: float) -> "np.ndarray":
    turned = np.radians(np.array(degrees))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


# Index: four nodules, two effusions. Queries: a nodule, an effusion, and a cyst that the index does not hold.
TABLE = [
    image("i1", "a", "nodule", "train"),
    image("i2", "a", "effusion", "train"),
    image("i3", "b", "nodule", "train"),
    image("i4", "b", "effusion", "train"),
    image("i5", "c", "nodule", "train"),
    image("i6", "c", "nodule", "train"),
    image("q1", "d", "nodule", "test"),
    image("q2", "d", "effusion", "test"),
    image("q3", "e", "cyst", "test"),
    image("v1", "e", "nodule", "val"),
    image("x1", "f", "nodule;effusion", "train"),
    image("x2", "f", "", "train"),
    image("x3", "f", "Support Devices", "train"),
    image("x4", "f", "nodule", "train", region=""),
]
# i1, i2, ... at these angles; q1 looks from 0 degrees: i1 i2 i3 i4 i5 i6. q2 looks from 25: i4 (24) i5 (27) i3 (22) ...
ANGLES = (1, 12, 22, 24, 27, 60, 0, 25, 5, 0, 0, 0, 0, 0)


def test_denner2024_is_the_hand_worked_table() -> None:
    held = collection(TABLE, at(*ANGLES))
    trial = denner2024(held)
    assert [held.images[row].id for row in trial.queries] == ["q1", "q2"]
    assert [held.images[row].id for row in trial.index] == ["i1", "i2", "i3", "i4", "i5", "i6"]
    assert trial.lost == {"CT/chest/cyst": 1}
    assert trial.dropped == {
        "several findings": 1,
        "no finding stated": 1,
        "no modality or region stated, or no finding that counts": 2,
        "neither of the split train nor test": 1,
        "class not in the index": 1,
    }
    figures = measure(held, trial)
    # q1, a nodule, of which there are four: n i1, e i2, n i3, e i4, n i5, n i6.
    # q2, an effusion, of which there are two: e i4 (1), n i5 (2), n i3 (3), e i2 (13), n i1 (24), n i6 (35).
    np.testing.assert_allclose(figures.values["P@1"], [1, 1])
    np.testing.assert_allclose(figures.values["P@3"], [2 / 3, 1 / 2], atol=1e-15)  # n = 3 and n = min(3, 2)
    np.testing.assert_allclose(figures.values["P@5"], [2 / 4, 1 / 2], atol=1e-15)  # n = min(5, 4)
    np.testing.assert_allclose(figures.values["P@10"], [2 / 4, 1 / 2], atol=1e-15)
    assert figures.summaries["P@3"].micro == pytest.approx(7 / 12, abs=1e-15)
    assert figures.summaries["P@3"].micro_sd == pytest.approx(np.std([2 / 3, 1 / 2], ddof=1), abs=1e-15)
    assert figures.summaries["P@3"].macro == pytest.approx(7 / 12, abs=1e-15)
    assert figures.summaries["P@3"].macro_sd is None  # each class has one query
    assert figures.chance == pytest.approx((4 / 6 + 2 / 6) / 2)
    assert figures.leak is None


def test_of_equal_scores_the_one_that_comes_first_by_its_id_is_nearer() -> None:
    images = [
        image("b", "1", "nodule", "train"),
        image("a", "2", "effusion", "train"),
        image("c", "3", "nodule", "train"),
        image("q", "4", "nodule", "test"),
    ]
    order = sorted(range(4), key=lambda row: images[row].id)
    held = collection([images[row] for row in order], at(30, 30, 30, 0))
    figures = measure(held, denner2024(held))
    assert [held.images[row].id for row in figures.positions[0][:3]] == ["a", "b", "c"]
    np.testing.assert_allclose(figures.values["P@1"], [0])
    np.testing.assert_allclose(figures.values["P@3"], [1 / 2])


def naive_denner(held: Collection, cuts: Sequence[int]) -> tuple[dict[int, float], dict[int, float], int]:
    """The protocol as a loop over queries, in float64: micro, macro, and dropped queries."""
    single = [row for row, one in enumerate(held.images) if len(one.findings) == 1]
    index = [row for row in single if held.images[row].facts["split"] == "train"]
    queries = [row for row in single if held.images[row].facts["split"] == "test"]
    sizes: dict[str, int] = {}
    for row in index:
        name = held.images[row].paths[0]
        sizes[name] = sizes.get(name, 0) + 1
    by_class: dict[str, dict[int, list[float]]] = {}
    dropped = 0
    for query in queries:
        name = held.images[query].paths[0]
        if name not in sizes:
            dropped += 1
            continue
        scores = held.vectors[index].astype(np.float64) @ held.vectors[query].astype(np.float64)
        ranked = sorted(range(len(index)), key=lambda place: (-scores[place], place))
        for k in cuts:
            counted = min(k, sizes[name])
            found = sum(held.images[index[place]].paths[0] == name for place in ranked[:counted])
            by_class.setdefault(name, {}).setdefault(k, []).append(found / counted)
    every = {k: [value for one in by_class.values() for value in one[k]] for k in cuts}
    micro = {k: sum(values) / len(values) for k, values in every.items()}
    macro = {k: sum(sum(one[k]) / len(one[k]) for one in by_class.values()) / len(by_class) for k in cuts}
    return micro, macro, dropped


def test_denner2024_is_an_independent_loop_to_the_last_digit() -> None:
    """500 queries, 2,000 vectors, 40 classes of unequal size, two of them missing from the index."""
    random = np.random.default_rng(3)
    weights = random.dirichlet(np.full(40, 0.6))
    centres = random.normal(size=(40, 16))
    images, vectors = [], []
    for number in range(2500):
        split = "test" if number < 500 else "train"
        kinds = np.arange(40) if split == "test" else np.arange(2, 40)
        part = weights[kinds] / weights[kinds].sum() * 0.9 + 0.1 / len(kinds)
        kind = int(random.choice(kinds, p=part))
        images.append(image(f"{number:05}", f"p{number // 3}", f"finding {kind}", split, region=f"r{kind % 4}"))
        vectors.append(centres[kind] + random.normal(size=16) * 1.5)
    held = collection(images, np.array(vectors))
    trial = denner2024(held)
    figures = measure(held, trial)
    micro, macro, dropped = naive_denner(held, (1, 3, 5, 10))
    assert dropped > 0
    assert trial.dropped == {"class not in the index": dropped}
    assert sum(trial.lost.values()) == dropped
    for k in (1, 3, 5, 10):
        assert figures.summaries[f"P@{k}"].micro == pytest.approx(micro[k], abs=1e-12)
        assert figures.summaries[f"P@{k}"].macro == pytest.approx(macro[k], abs=1e-12)


def random_collection(seed: int, images: int = 300) -> Collection:
    random = np.random.default_rng(seed)
    rows = []
    for number in range(images):
        findings = random.choice(list("abcdef"), random.integers(1, 4), replace=False)
        rows.append(image(f"{number:04}", f"p{random.integers(0, images // 4)}", ";".join(findings)))
    return collection(rows, random.normal(size=(images, 8)))


def test_leave_patient_out_is_an_independent_loop() -> None:
    held = random_collection(5)
    trial = leave_patient_out(held)
    figures = measure(held, trial)
    leaks, leaks_at_10 = [], []
    for place, row in enumerate(trial.queries):
        mine = held.images[row]
        others = [other for other, one in enumerate(held.images) if one.patient != mine.patient]
        scores = held.vectors.astype(np.float64) @ held.vectors[row].astype(np.float64)
        ranked = sorted(others, key=lambda other: (-scores[other], other))
        shares = [bool(set(held.images[other].findings) & set(mine.findings)) for other in ranked]
        reachable = sum(shares)
        counted = min(10, reachable)
        assert figures.values["P@10"][place] == pytest.approx(sum(shares[:counted]) / counted, abs=1e-12)
        assert figures.values["R-precision"][place] == pytest.approx(sum(shares[:reachable]) / reachable, abs=1e-12)
        overlaps = [
            len(set(held.images[other].findings) & set(mine.findings))
            / len(set(held.images[other].findings) | set(mine.findings))
            for other in ranked
        ]
        discount = 1 / np.log2(np.arange(2, 12))
        ideal = sorted(overlaps, reverse=True)[:10]
        gained = float(np.dot(overlaps[:10], discount) / np.dot(ideal, discount))
        assert figures.values["nDCG@10"][place] == pytest.approx(gained, abs=1e-6)
        first = max((other for other in range(len(scores)) if other != row), key=lambda other: (scores[other], -other))
        leaks.append(bool(set(held.images[first].findings) & set(mine.findings)))
        everybody = sorted(set(range(len(scores))) - {row}, key=lambda other: (-scores[other], other))
        shares = [bool(set(held.images[other].findings) & set(mine.findings)) for other in everybody]
        counted = min(10, sum(shares))
        leaks_at_10.append(sum(shares[:counted]) / counted)
    assert figures.leak is not None
    assert figures.leak["P@1"] == pytest.approx(np.mean(leaks), abs=1e-12)
    assert figures.leak["P@10"] == pytest.approx(np.mean(leaks_at_10), abs=1e-12)
    assert figures.chance == pytest.approx(
        np.mean(
            [
                count / sum(one.patient != held.images[row].patient for one in held.images)
                for row, count in zip(trial.queries, available(trial, held, "label"), strict=True)
            ]
        )
    )


def test_the_leak_lets_a_query_meet_its_own_patient_and_not_itself() -> None:
    asked = {"a1": "nodule", "a2": "nodule", "b1": "cyst", "c1": "nodule", "d1": "cyst"}
    held = collection([image(name, name[0], finding) for name, finding in asked.items()], at(0, 1, 3, 40, 50))
    figures = measure(held, leave_patient_out(held))
    assert figures.values["P@1"].tolist() == [0, 0, 0, 0, 0]  # b1 is next to a1, a2 and c1; d1 to nobody of its kind
    assert figures.leak is not None
    assert figures.leak["P@1"] == pytest.approx(2 / 5)  # a1 and a2 meet each other; b1's next is a2


def test_in_a_class_of_two_the_query_itself_is_not_reachable_by_the_leak() -> None:
    asked = {"a1": "nodule", "a2": "nodule", "b1": "nodule", "c1": "cyst", "d1": "cyst"}
    held = collection([image(name, name[0], finding) for name, finding in asked.items()], at(0, 1, 2, 40, 41))
    figures = measure(held, leave_patient_out(held))
    assert figures.leak is not None
    assert figures.leak["P@10"] == 1  # of a1 the two others come first; with itself among the reachable it were 2 of 3


def test_images_of_one_finding_only_where_that_is_asked_for() -> None:
    held = random_collection(6)
    trial = leave_patient_out(held, single_label=True)
    assert all(len(held.images[row].findings) == 1 for row in (*trial.queries, *trial.index))
    several = sum(len(one.findings) > 1 for one in held.images)
    assert trial.dropped["several findings"] == several
    assert len(trial.queries) + sum(trial.dropped.values()) == len(held.images)


def test_a_patient_in_both_splits_is_counted() -> None:
    held = collection(
        [image("i", "a", "nodule", "train"), image("j", "b", "nodule", "train"), image("q", "a", "nodule", "test")],
        at(0, 10, 20),
    )
    assert denner2024(held).shared_patients == 1


def test_a_finding_that_only_one_patient_has_cannot_be_found_and_is_counted() -> None:
    held = collection(
        [image("a1", "a", "rare"), image("a2", "a", "rare"), image("b", "b", "nodule"), image("c", "c", "nodule")],
        at(0, 10, 20, 30),
    )
    trial = leave_patient_out(held)
    assert [held.images[row].id for row in trial.queries] == ["b", "c"]
    assert trial.lost == {"CT/chest/rare": 2}
    assert trial.dropped == {"class not in the index": 2}


def test_computed_and_digital_radiographs_are_one_modality() -> None:
    held = collection([image("a", "a", "nodule", modality="CR"), image("b", "b", "nodule", modality="DX")], at(0, 10))
    assert measure(held, leave_patient_out(held)).values["P@1"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("images", "protocol", "said"),
    [
        ([image("a", "a", "nodule"), image("b", "b", "nodule")], denner2024, "needs both"),
        ([image("a", "a", "nodule", "train"), image("b", "b", "nodule", "train")], denner2024, "needs both"),
        ([image("a", "a", "nodule", "train"), image("b", "b", "cyst", "test")], denner2024, "no query"),
        ([image("a", "a", "nodule"), image("b", "a", "nodule")], leave_patient_out, "fewer than two patients"),
        ([image("a", "a", "nodule"), image("b", "b", "cyst")], leave_patient_out, "no query"),
        ([image("a", "a", ""), image("b", "b", "")], leave_patient_out, "fewer than two patients"),
    ],
)
def test_what_cannot_be_asked_is_said(images: list[Image], protocol: "type[Trial]", said: str) -> None:
    with pytest.raises(NothingToSearchError, match=said):
        protocol(collection(images, at(0, 10)))


@pytest.mark.parametrize("spelt", ["Support Devices", "support devices", "SUPPORT DEVICES"])
def test_support_devices_are_no_finding_of_the_paper_however_they_are_spelt(spelt: str) -> None:
    images = [image("i", "a", f"nodule;{spelt}", "train"), image("q", "b", "nodule", "test"), image("s", "c", spelt)]
    trial = denner2024(collection(images, at(0, 1, 2)))
    assert (list(trial.index), list(trial.queries)) == ([0], [1])
    assert trial.dropped == {"no modality or region stated, or no finding that counts": 1}


def test_a_finding_with_a_slash_keeps_its_whole_name() -> None:
    held = collection(
        [image(f"{number}", f"p{number // 2}", ("mass/nodule", "mass/cyst")[number % 2]) for number in range(8)],
        at(*range(8)),
    )
    trial = leave_patient_out(held)
    assert set().union(*trial.labels["label"]) == {"CT/chest/mass/nodule", "CT/chest/mass/cyst"}
    assert set().union(*trial.labels["region"]) == {"CT/chest"}
