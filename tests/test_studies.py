"""The studies: held against tables worked out by hand and against independent loops."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import asking as asking_module
from evaluation.asking import first_neighbours, trial_rows
from evaluation.collection import Collection, Image
from evaluation.figures import measure
from evaluation.protocols import Trial, denner2024, leave_patient_out
from evaluation.settings import SearchSettings
from evaluation.studies import STUDIES
from evaluation.studies import copies as copies_module
from evaluation.studies import space as space_module
from evaluation.studies.confounds import study_confounds
from evaluation.studies.copies import find_copies
from evaluation.studies.dimension import study_dimension
from evaluation.studies.index_size import PERCENT, _part, study_index_size
from evaluation.studies.knn import KS, study_knn
from evaluation.studies.linear import study_linear
from evaluation.studies.space import study_space
from radsearch.errors import NothingToSearchError, RadSearchError

CPU = SearchSettings(device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make tiny products slow where other processes run, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def image(name: str, patient: str, findings: str, split: str = "", **facts: str) -> Image:
    known = {"modality": "CT", "region": "chest", "split": split, **facts}
    stated = tuple(sorted(findings.split(";"))) if findings else ()
    return Image(name, patient, stated, {key: value for key, value in known.items() if value})


def collection(images: Sequence[Image], vectors: Any) -> Collection:
    wide = np.asarray(vectors, np.float64)
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return Collection(list(images), unit, "here", {"model": "m"})


def at(*degrees: float) -> "np.ndarray":
    turned = np.radians(np.array(degrees))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def random_collection(seed: int, images: int = 400, dimension: int = 24, *, several: bool = False) -> Collection:
    """Six classes around centres, two images or so a patient, splits by patient, facts by lot."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(6, dimension))
    rows, vectors = [], []
    for number in range(images):
        patient = int(random.integers(0, images // 2))
        kind = int(random.choice(6, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04]))
        other = f";{'abcdef'[int(random.integers(0, 6))]}" if several and random.random() < 0.3 else ""
        finding = ";".join(sorted({"abcdef"[kind], *other.split(";")} - {""}))
        split = ("train", "train", "train", "val", "test", "test")[patient % 6]
        facts = {"sex": "FM"[patient % 2], "view": ("PA", "AP", "")[number % 3], "dataset": "xy"[number % 2]}
        rows.append(image(f"{number:04}", f"p{patient}", finding, split, **facts))
        vectors.append(centres[kind] + random.normal(size=dimension) * 1.6)
    return collection(rows, vectors)


def naive_nearest(held: Collection, trial: Trial, row: int) -> list[int]:
    """All rows of the index that the row may meet, the best first."""
    mine = held.images[row].patient
    allowed = [
        other for other in trial.index if other != row and (trial.own_patient or held.images[other].patient != mine)
    ]
    scores = held.vectors.astype(np.float64) @ held.vectors[row].astype(np.float64)
    return sorted(allowed, key=lambda other: (-scores[other], other))


def classes_of(held: Collection, row: int) -> set[str]:
    return set(held.images[row].paths)


def naive_precision(held: Collection, trial: Trial, k: int) -> tuple[float, float, int]:
    """Micro and macro capped precision, and queries without an image of their class."""
    values, of_class, lost = [], {}, 0
    for row in trial.queries:
        ranked = naive_nearest(held, trial, row)
        flags = [bool(classes_of(held, row) & classes_of(held, other)) for other in ranked]
        if not any(flags):
            lost += 1
            continue
        n = min(k, sum(flags))
        values.append(sum(flags[:n]) / n)
        for name in classes_of(held, row):
            of_class.setdefault(name, []).append(values[-1])
    return sum(values) / len(values), sum(sum(one) / len(one) for one in of_class.values()) / len(of_class), lost


def naive_draw(held: Collection, trial: Trial, percent: int, seed: list[int]) -> "np.ndarray":
    patients = sorted({held.images[row].patient for row in trial.index})
    drawn: set[str] = set()
    for place in np.random.default_rng(seed).permutation(len(patients)):
        if 100 * sum(held.images[row].patient in drawn for row in trial.index) >= percent * len(trial.index):
            break
        drawn.add(patients[place])
    return np.array([row for row in trial.index if held.images[row].patient in drawn])


# index-size


def test_index_size_is_an_independent_loop_over_the_drawn_patients() -> None:
    held = random_collection(1, images=130, several=True)
    trial = leave_patient_out(held)
    study = study_index_size(held, trial, replace(CPU, seed=7))
    assert [one.percent for one in study.sizes] == [1, 3, 10, 30, 100]
    for one in (study.sizes[0], study.sizes[2]):
        parts = [naive_draw(held, trial, one.percent, [7, draw]) for draw in range(5)]
        assert list(one.images) == [len(part) for part in parts]
        for k in (1, 10):
            told = [naive_precision(held, replace(trial, index=part), k) for part in parts]
            assert list(one.lost) == [lost for _, _, lost in told]
            assert one.micro[f"P@{k}"].mean == pytest.approx(np.mean([micro for micro, _, _ in told]), abs=1e-12)
            assert one.micro[f"P@{k}"].sd == pytest.approx(np.std([micro for micro, _, _ in told], ddof=1), abs=1e-12)
            assert one.macro[f"P@{k}"].mean == pytest.approx(np.mean([macro for _, macro, _ in told]), abs=1e-12)
    assert sum(study.sizes[0].lost) > 0


def test_the_whole_index_gives_the_figures_of_the_run() -> None:
    held = random_collection(2)
    trial = denner2024(held)
    whole, figures = study_index_size(held, trial, CPU).sizes[-1], measure(held, trial, device="cpu")
    assert whole.images == [len(trial.index)] * 5
    assert whole.lost == [0] * 5
    for name in ("P@1", "P@3", "P@5", "P@10"):
        assert whole.micro[name].mean == pytest.approx(figures.summaries[name].micro, abs=1e-12)
        assert whole.macro[name].mean == pytest.approx(figures.summaries[name].macro, abs=1e-12)
        assert whole.micro[name].sd == 0


def test_patients_are_drawn_whole_and_smaller_draws_are_parts_of_larger_ones() -> None:
    held = random_collection(3)
    trial = denner2024(held)
    smaller: set[int] = set()
    for percent in PERCENT:
        part = set(_part(held, trial, percent, [0, 0]).tolist())
        patients = {held.images[row].patient for row in part}
        assert part == {row for row in trial.index if held.images[row].patient in patients}
        assert len(part) * 100 >= percent * len(trial.index)
        assert smaller <= part
        smaller = part


def test_a_class_that_a_draw_does_not_hold_is_counted_and_gives_no_figure() -> None:
    """One of 200 images is a cyst, and only a cyst is asked with: few draws of two images have it."""
    images = [image(f"i{n:03}", f"p{n}", "cyst" if n == 0 else "nodule", "train") for n in range(200)]
    held = collection([*images, image("q", "x", "cyst", "test")], [*at(*range(200)), *at(0)])
    smallest, *_, whole = study_index_size(held, denner2024(held), CPU).sizes
    assert (smallest.images, smallest.lost) == ([2] * 5, [1, 1, 1, 1, 0])
    assert (smallest.micro["P@1"].mean, smallest.micro["P@1"].sd) == (1, None)
    assert (whole.lost, whole.micro["P@1"].mean, whole.micro["P@1"].sd) == ([0] * 5, 1, 0)
    unlucky = study_index_size(held, denner2024(held), replace(CPU, seed=1)).sizes[0]
    assert (unlucky.lost, unlucky.micro, unlucky.macro) == ([1] * 5, {}, {})


# dimension


def test_dimension_is_an_independent_singular_value_decomposition_of_the_index() -> None:
    held = random_collection(4, dimension=40)
    trial = denner2024(held)
    index = held.vectors[trial.index].astype(np.float64)
    _, singular, rows = np.linalg.svd(index - index.mean(axis=0), full_matrices=False)
    whole, *projected = study_dimension(held, trial, CPU).sizes
    assert (whole.dimension, whole.projected, whole.variance) == (40, False, 1.0)
    assert (whole.micro, whole.macro) == pytest.approx(naive_precision(held, trial, 1)[:2], abs=1e-12)
    assert [one.dimension for one in projected] == [32, 16]
    for one in projected:
        turned = (held.vectors - index.mean(axis=0)) @ rows[: one.dimension].T
        expected = naive_precision(collection(held.images, turned), trial, 1)
        assert (one.micro, one.macro) == pytest.approx(expected[:2], abs=1e-12)
        assert one.variance == pytest.approx((singular[: one.dimension] ** 2).sum() / (singular**2).sum(), abs=1e-9)
        assert one.without_direction == 0


def test_the_queries_do_not_shape_the_components() -> None:
    held = random_collection(5, dimension=20)
    trial = denner2024(held)
    others = held.vectors.copy()
    others[trial.queries] = np.roll(others[trial.queries], 3, axis=1)
    first, second = (study_dimension(one, trial, CPU).sizes[1] for one in (held, replace(held, vectors=others)))
    assert first.variance == second.variance
    assert first.micro != second.micro


def test_an_image_at_the_middle_of_the_index_has_no_direction_and_is_counted() -> None:
    """The index lies in opposite pairs around its mean, which is the last axis: so does one query."""
    axes = np.eye(20)
    index = [axes[19] + sign * axes[axis] for axis in range(18) for sign in (1, -1)]
    images = [image(f"i{n:02}", f"p{n}", "nodule", "train") for n in range(36)]
    held = collection([*images, image("q", "x", "nodule", "test")], [*index, axes[19]])
    exact = replace(held, vectors=np.array([*index, axes[19]], np.float32))  # unit length is no matter here
    sizes = study_dimension(exact, denner2024(exact), CPU).sizes
    assert sizes[1].dimension == 16
    assert sizes[1].without_direction >= 1
    assert sizes[1].micro == 1


def test_small_blocks_give_the_same_dimensions() -> None:
    held = random_collection(6, dimension=40)
    trial = leave_patient_out(held)
    plenty, little = (study_dimension(held, trial, replace(CPU, memory_mb=memory)) for memory in (512, 1))
    assert [one.micro for one in plenty.sizes] == [one.micro for one in little.sizes]


def test_dimension_needs_more_than_sixteen() -> None:
    held = random_collection(6, dimension=16)
    with pytest.raises(RadSearchError, match="dimension 16"):
        study_dimension(held, denner2024(held), CPU)


def test_dimension_of_equal_vectors_is_refused() -> None:
    held = random_collection(6)
    same = replace(held, vectors=np.repeat(held.vectors[:1], len(held.vectors), axis=0))
    with pytest.raises(RadSearchError, match="the same"):
        study_dimension(same, denner2024(same), CPU)


# space


def test_space_of_three_images_is_the_hand_worked_table() -> None:
    """Nodules at 0 and 60 degrees, an effusion at 180: cosines 0.5 within, -1 and -0.5 between."""
    images = [
        image("a", "1", "nodule", "train"),
        image("b", "2", "nodule", "test"),
        image("c", "3", "effusion", "train"),
    ]
    held = collection(images, at(0, 60, 180))
    study = study_space(held, denner2024(held), CPU)
    assert (study.images, study.of, study.pairs, study.within) == (3, 3, 3, 1)
    assert study.cosine_within == pytest.approx(0.5, abs=1e-6)
    assert study.cosine_between == pytest.approx(-0.75, abs=1e-6)
    assert study.separation == pytest.approx(1.25, abs=1e-6)
    assert study.alignment == pytest.approx(1, abs=1e-6)  # the squared chord of 60 degrees
    assert study.uniformity == pytest.approx(np.log((np.exp(-2) + np.exp(-8) + np.exp(-6)) / 3), abs=1e-6)


def test_pairs_of_one_patient_are_left_out_as_the_protocol_says() -> None:
    images = [image("a", "1", "nodule"), image("b", "1", "nodule"), image("c", "2", "nodule"), image("d", "3", "cyst")]
    held = collection(images, at(0, 1, 60, 180))
    study = study_space(held, leave_patient_out(held), CPU)
    assert (study.pairs, study.within) == (5, 2)


def test_space_of_one_class_has_no_pair_between_and_says_so() -> None:
    held = collection([image("a", "1", "nodule"), image("b", "2", "nodule")], at(0, 90))
    study = study_space(held, leave_patient_out(held), CPU)
    assert (study.cosine_between, study.separation) == (None, None)
    assert study.alignment == pytest.approx(2, abs=1e-6)


def test_space_is_an_independent_loop_and_blocks_change_nothing() -> None:
    held = random_collection(8, images=120, several=True)
    pairs = [
        (float(held.vectors[one].astype(float) @ held.vectors[other]), classes_of(held, one) & classes_of(held, other))
        for one in range(120)
        for other in range(one)
        if held.images[one].patient != held.images[other].patient
    ]
    within = [cosine for cosine, shared in pairs if shared]
    between = [cosine for cosine, shared in pairs if not shared]
    for memory in (1, 512):
        study = study_space(held, leave_patient_out(held), replace(CPU, memory_mb=memory))
        assert (study.pairs, study.within) == (len(pairs), len(within))
        assert study.separation == pytest.approx(np.mean(within) - np.mean(between), abs=1e-9)
        assert study.alignment == pytest.approx(np.mean([2 - 2 * cosine for cosine in within]), abs=1e-9)
        spread = np.mean([np.exp(-2 * (2 - 2 * cosine)) for cosine, _ in pairs])
        assert study.uniformity == pytest.approx(np.log(spread), abs=1e-9)


def test_of_many_images_a_sample_is_drawn_with_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "SAMPLE", 50)
    held = random_collection(8)
    trial = denner2024(held)
    first, again, other = (study_space(held, trial, replace(CPU, seed=seed)) for seed in (0, 0, 1))
    assert (first.images, first.of, first.pairs) == (50, len(trial_rows(trial)), 50 * 49 // 2)
    assert first == again
    assert first.uniformity != other.uniformity


# knn

VOTERS = [
    image("t1", "a", "nodule", "train"),
    image("t2", "b", "effusion", "train"),
    image("t3", "c", "effusion", "train"),
    image("v1", "d", "effusion", "val"),
    image("w1", "e", "nodule", "test"),
    image("w2", "f", "effusion", "test"),
    image("w3", "g", "effusion", "test"),
    image("w4", "h", "cyst", "test"),
    image("x1", "i", "nodule;effusion", "train"),
    image("x2", "j", "", "train"),
    image("x3", "k", "nodule"),
    image("y1", "l", "mass", "train"),
]


def test_knn_is_the_hand_worked_table() -> None:
    """From 0 degrees the nodule is at 1, the effusions at 2 and 3: one vote says nodule, three say effusion."""
    held = collection(VOTERS, at(1, 2, 3, 0, 0, 0, 3, 0, 0, 0, 0, 180))
    study = study_knn(held, leave_patient_out(held), CPU)
    assert study.val == {"1": 0, "3": 1}  # five neighbours are more than train has
    assert study.k == 3
    assert study.task.images == {"train": 4, "val": 1, "test": 3}
    assert study.task.left_out == {
        "several labels": 1,
        "no label": 1,
        "class not in train": 1,
        "of no split train, val or test": 1,
    }
    assert study.test.accuracy == pytest.approx(2 / 3)  # the nodule is outvoted
    assert study.test.macro_accuracy == pytest.approx(1 / 2)  # of the classes that test has
    assert (study.task.commonest.accuracy, study.task.commonest.macro_accuracy) == pytest.approx((2 / 3, 1 / 2))
    assert (study.task.classes, study.task.shared_patients) == (3, 0)


def naive_vote(held: Collection, trial: Trial, row: int, k: int) -> str:
    named = [held.images[other].findings[0] for other in naive_nearest(held, trial, row)[:k]]
    counts = Counter(named)
    return min(counts, key=lambda name: (-counts[name], named.index(name)))


@pytest.mark.parametrize(("protocol", "memory"), [(denner2024, 512), (leave_patient_out, 1)])
def test_knn_is_an_independent_vote(protocol: Any, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "_BLOCK", 40)
    held = random_collection(9, dimension=6)
    images = [
        replace(one, patient=f"p{number // 7}") for number, one in enumerate(held.images)
    ]  # splits share patients
    held = replace(held, images=images)
    trial = protocol(held)
    split = {
        name: [r for r, one in enumerate(images) if one.facts["split"] == name] for name in ("train", "val", "test")
    }
    asked = replace(trial, index=np.array(split["train"]))

    def right(name: str, k: int) -> list[bool]:
        return [naive_vote(held, asked, row, k) == images[row].findings[0] for row in split[name]]

    study = study_knn(held, trial, replace(CPU, memory_mb=memory))
    assert study.val == {str(k): pytest.approx(np.mean(right("val", k))) for k in KS}
    assert study.k == max(KS, key=lambda k: (study.val[str(k)], -k))
    test = right("test", study.k)
    assert study.test.accuracy == pytest.approx(np.mean(test))
    by_class: dict[str, list[bool]] = {}
    for row, flag in zip(split["test"], test, strict=True):
        by_class.setdefault(images[row].findings[0], []).append(flag)
    assert study.test.macro_accuracy == pytest.approx(np.mean([np.mean(one) for one in by_class.values()]))
    assert study.task.shared_patients > 0


def test_of_equally_good_k_the_smallest_is_taken() -> None:
    images = [image(f"{n:03}", f"p{n}", "ab"[n % 2], ("train", "val", "test")[n % 3]) for n in range(90)]
    held = collection(images, at(*(180 * (n % 2) + n / 100 for n in range(90))))
    study = study_knn(held, denner2024(held), CPU)
    assert (study.val["1"], study.val["10"], study.k, study.test.accuracy) == (1, 1, 1, 1)


@pytest.mark.parametrize("study", ["knn", "linear"])
def test_what_cannot_be_classified_says_why(study: str) -> None:
    held = collection(VOTERS[:3] + VOTERS[4:], at(*range(11)))
    with pytest.raises(RadSearchError, match=f"the split val: the study '{study}' needs train, val and test"):
        STUDIES[study](held, leave_patient_out(held), CPU)
    images = [image(f"{n}", f"p{n}", "nodule", split) for n, split in enumerate(("train", "val", "test"))]
    held = collection(images, at(0, 1, 2))
    with pytest.raises(RadSearchError, match="one class only"):
        STUDIES[study](held, leave_patient_out(held), CPU)


# linear


def naive_probe(
    held: Collection, split: dict[str, list[int]], classes: list[str], seed: int
) -> tuple[int, int, float, float]:
    """Softmax regression by AdamW, written out in numpy: epochs, best epoch, its accuracy on val and test."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(held.vectors.shape[1], len(classes))
    weights = [layer.weight.detach().numpy().astype(np.float64).T, layer.bias.detach().numpy().astype(np.float64)]
    moments = [[np.zeros_like(one), np.zeros_like(one)] for one in weights]
    inputs = {name: held.vectors[rows].astype(np.float64) for name, rows in split.items()}
    codes = {name: np.array([classes.index(held.images[r].findings[0]) for r in rows]) for name, rows in split.items()}
    random, step, best = np.random.default_rng(seed), 0, (0, -1.0, 0.0)
    for epoch in range(1, 101):
        order = random.permutation(len(inputs["train"]))
        for start in range(0, len(order), 512):
            batch, step = order[start : start + 512], step + 1
            raw = np.exp(inputs["train"][batch] @ weights[0] + weights[1])
            error = (raw / raw.sum(axis=1, keepdims=True) - np.eye(len(classes))[codes["train"][batch]]) / len(batch)
            for weight, moment, slope in zip(
                weights, moments, (inputs["train"][batch].T @ error, error.sum(axis=0)), strict=True
            ):
                weight[...] *= 1 - 1e-3 * 0.01
                moment[0] = 0.9 * moment[0] + 0.1 * slope
                moment[1] = 0.999 * moment[1] + 0.001 * slope**2
                weight[...] -= 1e-3 * (moment[0] / (1 - 0.9**step)) / (np.sqrt(moment[1] / (1 - 0.999**step)) + 1e-8)
        named = {name: (inputs[name] @ weights[0] + weights[1]).argmax(axis=1) for name in ("val", "test")}
        val, test = (float((named[name] == codes[name]).mean()) for name in ("val", "test"))
        if val > best[1]:
            best = (epoch, val, test)
        elif epoch - best[0] >= 20:
            break
    return epoch, *best


@pytest.mark.parametrize(("drawn", "dimension"), [(10, 24), (17, 4)])  # the second stops early
def test_linear_is_an_independent_softmax_regression(drawn: int, dimension: int) -> None:
    held = random_collection(drawn, images=1500, dimension=dimension)
    split = {
        name: [row for row, one in enumerate(held.images) if one.facts["split"] == name]
        for name in ("train", "val", "test")
    }
    assert len(split["train"]) > 512  # more than a batch
    study = study_linear(held, denner2024(held), replace(CPU, seed=5))
    epochs, best_epoch, val, test = naive_probe(held, split, list("abcdef"), seed=5)
    assert (study.epochs, study.best_epoch) == (epochs, best_epoch)
    assert study.val == pytest.approx(val, abs=1e-12)
    assert study.test.accuracy == pytest.approx(test, abs=1e-12)


def test_linear_tells_apart_what_lies_apart_and_stops_when_nothing_more_comes() -> None:
    images = [image(f"{n:03}", f"p{n}", "ab"[n % 2], ("train", "val", "test")[n % 3]) for n in range(90)]
    held = collection(images, [at(0)[0] if n % 2 == 0 else at(180)[0] for n in range(90)])
    study = study_linear(held, denner2024(held), CPU)
    assert (study.val, study.test.accuracy, study.test.macro_accuracy) == (1, 1, 1)
    assert study.epochs == min(100, study.best_epoch + 20)
    assert study.task.commonest.accuracy == 0.5


def test_linear_depends_on_its_seed_alone_and_leaves_the_process_its_random_numbers() -> None:
    held = random_collection(11)
    trial = denner2024(held)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = study_linear(held, trial, CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert study_linear(held, trial, CPU) == first


# confounds


def test_confounds_are_the_hand_worked_table() -> None:
    """Query p (90 degrees) meets i2 (80), query q (0) meets i1 (1); i3 lies at 180."""
    images = [
        image("i1", "a", "nodule", "train", sex="F", dataset="x"),
        image("i2", "b", "nodule", "train", sex="M", dataset="x"),
        image("i3", "c", "effusion", "train", sex="M", dataset="y"),
        image("p", "e", "effusion", "test", sex="F"),
        image("q", "d", "nodule", "test", sex="F", dataset="x"),
    ]
    held = collection(images, at(1, 80, 180, 90, 0))
    study = study_confounds(held, denner2024(held), CPU)
    finding, sex, dataset = study.finding, study.facts["sex"], study.facts["dataset"]
    assert (finding.queries, finding.values, finding.shared) == (2, 2, 0.5)
    assert finding.chance == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert finding.lift == pytest.approx(1)
    assert (sex.queries, sex.values, sex.shared, sex.with_finding, sex.without_finding) == (2, 1, 0.5, 1, 0)
    assert (sex.chance, sex.lift) == pytest.approx((1 / 3, 1.5))
    assert (dataset.queries, dataset.shared, dataset.with_finding, dataset.without_finding) == (1, 1, 1, None)
    assert (dataset.chance, dataset.lift) == pytest.approx((2 / 3, 1.5))
    view = study.facts["view"]
    assert (view.queries, view.shared, view.chance, view.lift) == (0, None, None, None)


def test_confounds_are_an_independent_loop_where_nobody_meets_himself() -> None:
    held = random_collection(12, several=True)
    trial = leave_patient_out(held)
    study = study_confounds(held, trial, CPU)
    for fact in ("sex", "view"):
        shared, chance = [], []
        for row in trial.queries:
            mine = held.images[row].facts.get(fact)
            if mine is not None:
                same = [held.images[other].facts.get(fact) == mine for other in naive_nearest(held, trial, row)]
                shared.append(same[0])
                chance.append(np.mean(same))
        assert study.facts[fact].queries == len(shared)
        assert study.facts[fact].shared == pytest.approx(np.mean(shared))
        assert study.facts[fact].chance == pytest.approx(np.mean(chance))
    assert study.finding.shared == pytest.approx(naive_precision(held, trial, 1)[0])


def with_copies(seed: int) -> Collection:
    """Every fifth image is an exact copy of the one before, every third nearly so; every fourth has no split."""
    held = random_collection(seed, images=150)
    random = np.random.default_rng(seed)
    vectors = held.vectors.astype(np.float64)
    for row in range(1, 150):
        if row % 5 == 0:
            vectors[row] = vectors[row - 1]
        elif row % 3 == 0:
            vectors[row] = vectors[row - 1] + random.normal(size=24) * (0.014, 0.004, 0.002)[row % 9 // 3]
    images = [
        replace(one, patient=f"p{number // 2}", facts={"split": one.facts["split"]} if number % 4 else {})
        for number, one in enumerate(held.images)
    ]
    images = [replace(one, facts={"modality": "CT", "region": "chest", **one.facts}) for one in images]
    return collection(images, vectors)


def held_against_a_loop(held: Collection, looked_at: set[int], settings: SearchSettings) -> None:
    """Copies of all pairs that one of these rows is in."""
    expected: dict[bool, list[tuple[tuple[str, str], list[str]]]] = {True: [], False: []}
    for row, one in enumerate(held.images):
        for place in range(row + 1, len(held.images)):
            if looked_at.isdisjoint({row, place}):
                continue
            other = held.images[place]
            apart = [
                word
                for word, is_so in (
                    ("patient", one.patient != other.patient),
                    ("split", len({one.facts.get("split"), other.facts.get("split")} - {None}) == 2),
                )
                if is_so
            ]
            cosine = float(held.vectors[row].astype(float) @ held.vectors[place])
            if apart and cosine >= 0.99:
                expected[cosine >= 0.9999].append(((one.id, other.id), apart))
    found = find_copies(held, leave_patient_out(held), settings)
    for copies, pairs in zip(found, (expected[True], expected[False]), strict=True):
        assert len(pairs) > 3
        assert [(pair.ids, list(pair.across)) for pair in copies.listed] == pairs[:50]
        assert copies.pairs == len(pairs)
        assert copies.across_patients == sum("patient" in apart for _, apart in pairs)
        assert copies.across_splits == sum("split" in apart for _, apart in pairs)
        assert (copies.looked_at, copies.of, copies.seed) == (len(looked_at), len(held.images), settings.seed)


@pytest.mark.parametrize("tile", [7, 64, 1024])
def test_copies_are_an_independent_loop_whatever_the_tile(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "_TILE", tile)
    held_against_a_loop(with_copies(13), set(range(150)), CPU)


@pytest.mark.parametrize("tile", [7, 64, 1024])
def test_of_many_images_copies_are_those_of_a_sample_and_the_result_says_so(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "_TILE", tile)
    monkeypatch.setattr(copies_module, "LOOKED_AT", 40)
    for seed in (0, 1):
        drawn = set(np.random.default_rng(seed).permutation(150)[:40].tolist())
        held_against_a_loop(with_copies(13), drawn, replace(CPU, seed=seed))


def test_a_sample_lists_the_first_pairs_by_their_ids_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sixty are alike and one is looked at, whose partners come before it and after it."""
    monkeypatch.setattr(copies_module, "LOOKED_AT", 1)
    images = [image(f"{number:02}", f"p{number}", "nodule") for number in range(60)]
    held = collection(images, np.ones((60, 3)))
    mine = int(np.random.default_rng(0).permutation(60)[0])
    assert 0 < mine < 50
    exact, _ = find_copies(held, leave_patient_out(held), CPU)
    pairs = [(f"{min(mine, other):02}", f"{max(mine, other):02}") for other in range(60) if other != mine]
    assert (exact.pairs, exact.looked_at, exact.of) == (59, 1, 60)
    assert [pair.ids for pair in exact.listed] == pairs[:50]


def test_of_very_many_copies_the_first_fifty_are_listed() -> None:
    images = [image(f"{number:03}", f"p{number}", "nodule") for number in range(60)]
    held = collection(images, np.ones((60, 3)))
    exact, near = find_copies(held, leave_patient_out(held), replace(CPU, memory_mb=1))
    assert (exact.pairs, exact.across_patients, exact.across_splits) == (60 * 59 // 2, 60 * 59 // 2, 0)
    assert [pair.ids for pair in exact.listed] == [("000", f"{other:03}") for other in range(1, 51)]
    assert (near.pairs, near.listed) == (0, [])


# all of them


# relink has tests of its own, test_relink.py: these images are of no study
OF_ANY_IMAGES = [name for name in STUDIES if name != "relink"]


@pytest.mark.parametrize("name", OF_ANY_IMAGES)
@pytest.mark.parametrize("protocol", [denner2024, leave_patient_out])
def test_every_study_turns_into_json_without_a_nan(name: str, protocol: Any) -> None:
    held = random_collection(14, images=120)
    told = STUDIES[name](held, protocol(held), SearchSettings(device="cpu", memory_mb=16))
    assert json.loads(json.dumps(told, allow_nan=False)).keys() == told.keys()


THREE = ("train", "val", "test")
TURNED = np.random.default_rng(0).normal(size=(60, 24))
NAMED = [image(f"{n:02}", f"p{n}", "abc"[n // 20], THREE[n % 3]) for n in range(60)]
SPLITLESS = [replace(one, facts={"modality": "CT", "region": "chest"}) for one in NAMED]
ONE_CLASS = [replace(one, findings=("a",)) for one in NAMED]
NO_VAL = "the split val: the study '{}' needs train, val and test"
NO_SPLITS = "the split train, val, test: the study '{}' needs train, val and test"
TOO_FEW = "the study 'dimension' needs more than 16 of both"
CLASSIFIERS = ("knn", "linear")
# What is odd about a collection; the collection; the studies that cannot be done, and what they say.
DEGENERATE: dict[str, tuple[Collection, dict[str, str]]] = {
    "one class": (collection(ONE_CLASS, TURNED), dict.fromkeys(CLASSIFIERS, "one class only: the study '{}'")),
    "two patients": (collection([replace(one, patient=f"p{n % 2}") for n, one in enumerate(NAMED)], TURNED), {}),
    "one patient has all of train and val": (
        collection([replace(one, patient="q" if n % 3 == 2 else "p") for n, one in enumerate(NAMED)], TURNED),
        {},
    ),
    "no split": (collection(SPLITLESS, TURNED), dict.fromkeys(CLASSIFIERS, NO_SPLITS)),
    "no val": (
        collection([one for n, one in enumerate(NAMED) if n % 3 != 1], TURNED[:40]),
        dict.fromkeys(CLASSIFIERS, NO_VAL),
    ),
    "two images": (
        collection([image("i", "a", "a", "train"), image("q", "b", "a", "test")], TURNED[:2]),
        {**dict.fromkeys(CLASSIFIERS, NO_VAL), "dimension": TOO_FEW},
    ),
    "two images of each class": (
        collection([image(f"{n:02}", f"p{n}", f"c{n // 2}", ("train", "test")[n % 2]) for n in range(60)], TURNED),
        dict.fromkeys(CLASSIFIERS, NO_VAL),
    ),
    "a class of one image": (collection([replace(NAMED[0], findings=("z",)), *NAMED[1:]], TURNED), {}),
    "all vectors equal": (collection(NAMED, np.ones((60, 24))), {"dimension": "all vectors of the index of here"}),
    "vectors on a line": (collection(NAMED, np.eye(24)[[3] * 60] * (-1.0) ** np.arange(60)[:, None]), {}),
    "dimension 2": (collection(NAMED, TURNED[:, :2]), {"dimension": TOO_FEW}),
    "dimension 1": (collection(NAMED, TURNED[:, :1]), {"dimension": TOO_FEW}),
    "several findings each": (
        collection([replace(one, findings=("a", "b")) for one in NAMED], TURNED),
        dict.fromkeys(CLASSIFIERS, NO_SPLITS),
    ),
    "several findings some": (
        collection([*(replace(one, findings=("a", "b")) for one in NAMED[:6]), *NAMED[6:]], TURNED),
        {},
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", OF_ANY_IMAGES)
@pytest.mark.parametrize("odd", list(DEGENERATE))
def test_a_study_of_an_odd_collection_gives_numbers_or_says_what_it_lacks(odd: str, name: str) -> None:
    held, refusals = DEGENERATE[odd]
    for protocol in (leave_patient_out, denner2024):
        try:
            trial = protocol(held)
        except NothingToSearchError:
            continue  # the run's own refusal: no study is asked
        if name in refusals:
            with pytest.raises(RadSearchError, match=refusals[name].format(name)):
                STUDIES[name](held, trial, CPU)
        else:
            json.dumps(STUDIES[name](held, trial, CPU), allow_nan=False)


def test_space_of_a_sample_of_one_patient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "SAMPLE", 2)
    images = [image(f"{n:02}", "p" if n else "q", "nodule") for n in range(30)]
    held = collection(images, TURNED[:30])
    assert 0 not in np.random.default_rng(0).permutation(30)[:2]
    with pytest.raises(RadSearchError, match="has drawn 2 images of here, and no two of them"):
        study_space(held, leave_patient_out(held), CPU)


def test_the_studies_are_listed_without_torch() -> None:
    listing = "import sys; from evaluation.studies import STUDIES; print(*STUDIES, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["index-size", "dimension", "space", "knn", "linear", "confounds", "relink", "False"]


def test_neighbours_come_in_blocks_in_the_order_of_the_queries() -> None:
    held = random_collection(15)
    trial = denner2024(held)
    blocks = list(first_neighbours(held, trial, 1500, replace(CPU, memory_mb=1)))
    assert len(blocks) > 1
    assert np.concatenate([rows for rows, _ in blocks]).tolist() == trial.queries.tolist()
    for rows, found in blocks[:2]:
        assert found.shape == (len(rows), 1500)
        for row, near in zip(rows, found, strict=True):
            assert near[: len(trial.index)].tolist() == naive_nearest(held, trial, row)
            assert set(near[len(trial.index) :]) == {-1}
