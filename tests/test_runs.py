"""A run on the disk: the contract's keys, figures worked out by hand, read back as written, and refused if damaged."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.collection import Collection, Image
from evaluation.contamination import Training
from evaluation.figures import Figures, measure
from evaluation.protocols import Trial, leave_patient_out
from evaluation.runs import Surroundings, metrics_of, write_run
from evaluation.stored import METRICS, QUERIES, SUMMARY, read_run
from evaluation.telling import summary_lines
from radsearch import __version__
from radsearch.errors import RadSearchError, SettingsError

HEAD, CHEST = "CT/head/cyst", "CT/chest/nodule"
PATIENTS = ("Weber^Anna", "Kurz^Emil", "MRN-4711", "1970-01-01")


def image(name: str, patient: str, region: str, finding: str) -> Image:
    return Image(name, patient, (finding,), {"modality": "CT", "region": region, "dataset": "own"})


IMAGES = [
    image("c1.png", PATIENTS[0], "head", "cyst"),
    image("c1b.png", PATIENTS[0], "head", "cyst"),
    image("c2.png", PATIENTS[1], "head", "cyst"),
    image("n1.png", PATIENTS[2], "chest", "nodule"),
    image("n2.png", PATIENTS[3], "chest", "nodule"),
]
DEGREES = (16, 17, 40, 0, 10)
# From each at its angle, without its patient's own:
NEAREST = {
    "c1.png": "n2.png;n1.png;c2.png",
    "c1b.png": "n2.png;n1.png;c2.png",
    "c2.png": "c1b.png;c1.png;n2.png;n1.png",
    "n1.png": "n2.png;c1.png;c1b.png;c2.png",
    "n2.png": "c1.png;c1b.png;n1.png;c2.png",
}
RECIPROCAL = [1 / 3, 1 / 3, 1, 1, 1 / 3]


@pytest.fixture(scope="module")
def made() -> tuple[Collection, Trial, Figures]:
    turned = np.radians(np.array(DEGREES))
    vectors = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    collection = Collection(IMAGES, vectors, "published.npy", {"model": "rad-dino", "dimension": 2})
    trial = leave_patient_out(collection)
    return collection, trial, measure(collection, trial, device="cpu")


@pytest.fixture
def folder(made: tuple[Collection, Trial, Figures], tmp_path: Path) -> Path:
    write_run(tmp_path / "deep" / "run", *made)
    return tmp_path / "deep" / "run"


def strict(text: str) -> Any:
    """JSON as the standard has it: neither NaN nor Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_contract_s_keys_and_figures_are_there(folder: Path) -> None:
    told = strict((folder / METRICS).read_text(encoding="utf-8"))
    assert told["protocol"] == "leave-patient-out"
    assert told["model"] == {"model": "rad-dino", "dimension": 2}
    assert (told["queries"], told["index"], told["classes"], told["dropped"]) == (5, 5, 2, {})
    # Hits at 1: of c1 and c1b none, c2, n1, and none of n2. Cysts 1/3, nodules 1/2.
    assert told["micro"]["P@1"] == 0.4
    assert told["macro"]["P@1"] == pytest.approx((1 / 3 + 1 / 2) / 2, abs=1e-6)
    # c2 could find two, and does; the others could find one, at rank 3 and n1 at 1.
    assert told["micro"]["P@3"] == pytest.approx((0 + 0 + 1 + 1 + 0) / 5, abs=1e-6)
    assert told["micro"]["plain P@3"] == pytest.approx((1 / 3 + 1 / 3 + 2 / 3 + 1 / 3 + 1 / 3) / 5, abs=1e-6)
    assert told["micro"]["MRR"] == pytest.approx(sum(RECIPROCAL) / 5, abs=1e-6)
    # An image of chance: 1 of 3, 1 of 3, 2 of 4, 1 of 4, 1 of 4.
    assert told["chance"] == {"P@1": pytest.approx((1 / 3 + 1 / 3 + 2 / 4 + 1 / 4 + 1 / 4) / 5, abs=1e-6)}
    # With the patient's own, c1 and c1b find each other.
    assert told["leak"]["P@1"] == 0.8
    assert told["by"]["modality"] == {"CT": {"queries": 5, "P@1": 0.4, "macro P@1": pytest.approx(5 / 12, abs=1e-6)}}
    assert told["by"]["region"] == {
        "CT/chest": {"queries": 2, "P@1": 0.5, "macro P@1": 0.5},
        "CT/head": {"queries": 3, "P@1": pytest.approx(1 / 3, abs=1e-6), "macro P@1": pytest.approx(1 / 3, abs=1e-6)},
    }
    assert told["by"]["label"] == {
        CHEST: {"queries": 2, "P@1": 0.5, "same finding": 0.5},
        HEAD: {"queries": 3, "P@1": pytest.approx(1 / 3, abs=1e-6), "same finding": pytest.approx(1 / 3, abs=1e-6)},
    }
    assert told["levels"]["modality"]["P@1"] == {"micro": 1.0, "macro": 1.0}
    assert told["levels"]["region"]["P@1"]["micro"] == 0.4
    assert (told["source"], told["version"]) == ("published.npy", __version__)
    assert (told["contaminated"], told["training_unknown"], told["index_recall"]) == (None, 0, {"recall@10": None})
    assert (told["single_label"], len(told["index_state"])) == (False, 64)


def test_every_metric_has_its_means_its_spread_and_an_interval_about_it(folder: Path) -> None:
    told = strict((folder / METRICS).read_text(encoding="utf-8"))
    assert {"P@1", "P@3", "P@5", "P@10", "mAP@10", "MRR"} <= set(told["micro"])
    for several in ("macro", "micro_sd", "macro_sd", "interval"):
        assert list(told[several]) == list(told["micro"])
    for name, (low, high) in told["interval"].items():
        assert 0 <= low <= told["micro"][name] <= high <= 1
    # P@1 is 0 0 1 1 0: squares about 0.4 sum to 1.2, by four.
    assert told["micro_sd"]["P@1"] == pytest.approx(math.sqrt(0.3), abs=1e-6)


def test_a_spread_that_is_none_is_null_and_no_nan(tmp_path: Path) -> None:
    """Two patients, two classes of one query each, and one that nobody else has."""
    images = [
        Image("a", "1", ("nodule", "cyst"), {"modality": "CT", "region": "chest"}),
        Image("b", "2", ("nodule",), {"modality": "CT", "region": "chest"}),
    ]
    collection = Collection(images, np.eye(2, dtype=np.float32), "here", {"model": "m"})
    trial = leave_patient_out(collection)
    write_run(tmp_path, collection, trial, measure(collection, trial, device="cpu"))
    told = strict((tmp_path / METRICS).read_text(encoding="utf-8"))
    assert told["micro"]["P@1"] == 1
    spread = told["macro_sd"]["P@1"]
    assert spread is None or math.isfinite(spread)
    one = replace(trial, queries=trial.queries[:1])
    told = metrics_of(collection, one, measure(collection, one, device="cpu"), Surroundings())
    assert told["micro_sd"]["P@1"] is None
    assert told["interval"] == {}  # all of one patient
    strict(json.dumps(told))
    assert summary_lines(told)[3] == "P@1: 1.000, macro 1.000"  # without an interval


def test_a_value_that_is_no_number_is_never_written(made: tuple[Collection, Trial, Figures], tmp_path: Path) -> None:
    collection, trial, figures = made
    with pytest.raises(ValueError, match="JSON compliant"):
        write_run(tmp_path, collection, trial, replace(figures, chance=math.nan))
    assert not (tmp_path / METRICS).exists()


def test_queries_are_listed_with_their_neighbours_and_values(folder: Path) -> None:
    with (folder / QUERIES).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["id"]: ";".join(json.loads(row["nearest"])) for row in rows} == NEAREST
    assert [json.loads(row["classes"]) for row in rows] == [[HEAD], [HEAD], [HEAD], [CHEST], [CHEST]]
    assert [json.loads(row["nearest_classes"])[0] for row in rows] == [[CHEST], [CHEST], [HEAD], [CHEST], [HEAD]]
    assert [row["group"] for row in rows] == ["0", "0", "1", "2", "3"]
    assert [float(row["P@1"]) for row in rows] == [0, 0, 1, 1, 0]
    assert [float(row["MRR"]) for row in rows] == pytest.approx(RECIPROCAL, abs=1e-9)


def test_no_word_of_a_patient_leaves_with_a_run(folder: Path) -> None:
    for file in (METRICS, QUERIES, SUMMARY):
        content = (folder / file).read_text(encoding="utf-8")
        for patient in PATIENTS:
            assert patient not in content
    assert "patient" not in (folder / QUERIES).read_text(encoding="utf-8")


def test_a_run_is_read_back_as_it_was_written(made: tuple[Collection, Trial, Figures], folder: Path) -> None:
    run, figures = read_run(folder), made[2]
    assert run.folder == folder
    assert run.metrics == strict((folder / METRICS).read_text(encoding="utf-8"))
    assert list(run.ids) == [one.id for one in IMAGES]
    assert list(run.groups) == ["0", "0", "1", "2", "3"]
    assert list(run.classes) == [(HEAD,), (HEAD,), (HEAD,), (CHEST,), (CHEST,)]
    assert {name: ";".join(near) for name, near in zip(run.ids, run.nearest, strict=True)} == NEAREST
    assert [len(found) for found in run.found] == [3, 3, 4, 4, 4]
    assert run.found[0] == ((CHEST,), (CHEST,), (HEAD,))
    assert list(run.values) == list(figures.values)
    for name, values in run.values.items():
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, figures.values[name], rtol=1e-8)
        assert values.mean() == pytest.approx(run.metrics["micro"][name], abs=1e-6)


def test_names_with_commas_quotes_and_line_breaks_come_back(tmp_path: Path) -> None:
    names = ['a, "b".png', "c\nd.png", "é\u2028.png"]
    images = [Image(name, name, ("nodule", "cyst, old"), {"modality": "CT", "region": "chest"}) for name in names]
    collection = Collection(images, np.ones((3, 1), np.float32), "here", {"model": "m"})
    trial = leave_patient_out(collection)
    write_run(tmp_path, collection, trial, measure(collection, trial, device="cpu"))
    run = read_run(tmp_path)
    assert list(run.ids) == names
    assert set(run.classes) == {("CT/chest/cyst, old", "CT/chest/nodule")}


def test_the_summary_says_what_matters_in_plain_words(made: tuple[Collection, Trial, Figures], tmp_path: Path) -> None:
    around = Surroundings(Training(["nih14", "own"], 1200), index_recall=0.98765)
    told = write_run(tmp_path, *made, around)
    lines = (tmp_path / SUMMARY).read_text(encoding="utf-8").splitlines()
    assert lines == summary_lines(told)
    low, high = told["interval"]["P@1"]
    assert lines[:4] == [
        "leave-patient-out, rad-dino",
        "5 queries of 2 classes against 5 images",
        "chance: P@1 0.333",
        f"P@1: 0.400 [{low:.3f}, {high:.3f}], macro 0.417",
    ]
    assert "region: P@1 0.400, macro 0.417" in lines
    assert "with the query's own patient allowed: P@1 0.800" in lines
    assert "CONTAMINATED: the model was trained on nih14, own" in lines
    assert "the index's own search finds 0.9877 of the ten nearest" in lines
    assert "the model may have seen 1,200 of the images in training: it is not known" in lines
    assert not any("left out" in line for line in lines)
    more = {**told, "dropped": {"several findings": 1200}, "lost_classes": {"CT/head/tumour": 3}, "shared_patients": 7}
    assert summary_lines(more)[-3:] == [
        "7 patients have images among the queries and in the index",
        "left out: 1,200 images: several findings",
        "  CT/head/tumour: 3 without an image to be found",
    ]


def test_a_run_that_cannot_be_written_is_said_in_one_line(
    made: tuple[Collection, Trial, Figures], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SettingsError, match="cannot be written") as raised:
            write_run(folder, *made)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", [METRICS, QUERIES])
def test_half_a_run_is_none(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(SettingsError, match="holds no run of an evaluation"):
        read_run(folder)


def test_a_folder_that_is_none_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no run of an evaluation") as raised:
        read_run(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(raised.value)


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "figures cut off": (METRICS, lambda content: content[: len(content) // 2]),
    "figures empty": (METRICS, lambda _: b""),
    "figures of no text": (METRICS, lambda content: b"\xff\xfe" + content),
    "queries empty": (QUERIES, lambda _: b""),
    "queries without a row": (QUERIES, lambda content: content.split(b"\r\n")[0] + b"\r\n"),
    "queries of no text": (QUERIES, lambda _: bytes(range(256))),
    "queries without classes": (QUERIES, lambda content: content.replace(b"classes", b"klasses", 1)),
    "queries without neighbours": (QUERIES, lambda content: content.replace(b"nearest", b"farthest", 1)),
    "a value that is a word": (QUERIES, lambda content: content.replace(b",1\r\n", b",one\r\n", 1)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_in_one_line(folder: Path, damage: str) -> None:
    file, spoil = DAMAGE[damage]
    whole = (folder / file).read_bytes()
    assert spoil(whole) != whole
    (folder / file).write_bytes(spoil(whole))
    with pytest.raises(RadSearchError, match="is damaged") as raised:
        read_run(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "".join(text.splitlines(keepends=True)[:3]),
        lambda text: text.replace(",1\r\n", ",inf\r\n", 1),
        lambda text: text.replace(",1\r\n", ",7\r\n", 1),
        lambda text: text.replace(",1\r\n", ",nan\r\n", 1),
        lambda text: text.rstrip() + ",1,2\r\n",
        lambda text: text + "x" * 200_000 + "\r\n",
        lambda text: text.replace("P@10", "P@11"),
    ],
)
def test_queries_that_are_not_all_there_are_refused(folder: Path, spoil: Callable[[str], str]) -> None:
    file = folder / QUERIES
    whole = file.read_bytes().decode()
    assert spoil(whole) != whole
    file.write_bytes(spoil(whole).encode())
    with pytest.raises(SettingsError, match="is damaged"):
        read_run(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"model": "m"}', "[" * 100_000])
def test_figures_of_another_form_are_refused(folder: Path, content: str) -> None:
    (folder / METRICS).write_text(content)
    with pytest.raises(SettingsError, match="is damaged"):
        read_run(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"queries": "5"},
        {"queries": 5.0},
        {"queries": True},
        {"queries": 0},
        {"model": "m"},
        {"micro": {"P@1": None}},
        {"by": []},
        {"by": {"modality": {"CT": {}}, "region": {}, "dataset": {}, "finding": {}, "label": {}}},
        {"chance": 1},
        {"chance": {}},
        {"micro_sd": {}},
        {"macro": {}},
        {"levels": {}},
        {"levels": {"modality": {}, "region": {}, "label": {}}},
        {"index_recall": {}},
        {"index": "x"},
        {"shared_patients": "x"},
        {"dropped": {"a": "x"}},
        {"protocol": ["x"]},
        {"single_label": 1},
        {"interval": {"P@1": [0.1]}},
        {"interval": {"P@2": [0.1, 0.2]}},
        {"leak": {"nothing": 0.5}},
        {"contaminated": "nih14"},
    ],
)
def test_figures_with_other_values_are_refused(folder: Path, change: dict[str, object]) -> None:
    told = json.loads((folder / METRICS).read_text())
    (folder / METRICS).write_text(json.dumps({**told, **change}))
    with pytest.raises(SettingsError, match="is damaged"):
        read_run(folder)
    (folder / METRICS).write_text(json.dumps(told).replace('"P@1": ', '"P@1": NaN, "x": ', 1))
    with pytest.raises(SettingsError, match="is damaged"):
        read_run(folder)


def test_what_a_report_would_go_through_is_known(folder: Path) -> None:
    told = json.loads((folder / METRICS).read_text())
    for changed in (
        {**told, "by": {**told["by"], "scanner": {"x": {}}}},
        {**told, "levels": {**told["levels"], "organ": {}}},
        {**told, "studies": {"space": "\ud800"}},
        json.loads(json.dumps(told).replace("P@3", "P@x")),
    ):
        (folder / METRICS).write_text(json.dumps(changed))
        with pytest.raises(SettingsError, match="is damaged"):
            read_run(folder)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("id", "c1.png"),  # of another query
        ("nearest_classes", "[[]]"),
        ("nearest_classes", json.dumps([["CT/head/cyst"]] * 9)),
        ("nearest_classes", '["CT/head/cyst"]'),
        ("classes", "[]"),
        ("classes", '["\\ud800"]'),
        ("nearest", '{"c1.png": 1}'),
    ],
)
def test_a_query_that_contradicts_itself_is_refused(folder: Path, column: str, cell: str) -> None:
    with (folder / QUERIES).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[-1][column] = cell
    with (folder / QUERIES).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(SettingsError, match="is damaged"):
        read_run(folder)


def test_names_as_long_as_a_manifest_may_have_them_come_back(tmp_path: Path) -> None:
    images = [Image("n" * 20_000 + str(n), f"p{n}", ("a",), {"modality": "CT", "region": "chest"}) for n in range(12)]
    collection = Collection(images, np.eye(12, dtype=np.float32), "here", {"model": "m"})
    trial = leave_patient_out(collection)
    write_run(tmp_path, collection, trial, measure(collection, trial, device="cpu"))
    csv.field_size_limit(131_072)  # as Python has it
    assert list(read_run(tmp_path).ids) == [image.id for image in images]


def test_another_index_has_another_state(made: tuple[Collection, Trial, Figures]) -> None:
    collection, trial, figures = made

    def state(trial: Trial) -> str:
        return str(metrics_of(collection, trial, figures, Surroundings())["index_state"])

    assert state(trial) == state(replace(trial, queries=trial.queries[:1]))
    assert state(trial) != state(replace(trial, index=trial.index[1:]))
    renamed = [frozenset({"CT/chest/other"}) if row == 4 else one for row, one in enumerate(trial.labels["label"])]
    assert state(trial) != state(replace(trial, labels={**trial.labels, "label": renamed}))


def test_a_query_of_several_findings_counts_once_in_its_part() -> None:
    images = [Image(f"{n}", f"p{n}", ("a", "b", "c"), {"modality": "CT", "region": "chest"}) for n in range(10)]
    collection = Collection(images, np.eye(10, dtype=np.float32), "here", {"model": "m"})
    trial = leave_patient_out(collection)
    told = metrics_of(collection, trial, measure(collection, trial, device="cpu"), Surroundings())
    assert (
        told["queries"] == told["by"]["modality"]["CT"]["queries"] == told["by"]["dataset"]["unknown"]["queries"] == 10
    )
