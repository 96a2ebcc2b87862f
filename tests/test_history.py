"""The history of runs: who is accepted, what falls below it, and that neither creep nor damage goes unseen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.__main__ import main
from evaluation.collection import Collection, Image
from evaluation.figures import measure
from evaluation.history import ACCEPTED, Past, accept, accepted, judge
from evaluation.protocols import PROTOCOLS
from evaluation.runs import write_run
from evaluation.stored import METRICS, QUERIES, Run, read_run
from radsearch.errors import SettingsError

PAIRS = 20


def collection(swapped: int, *, prefix: str, model: str, one_patient: bool, turned: int) -> Collection:
    """Pairs of images of one class and one vector, the classes by turns: an image's nearest is the other of its pair.

    Of each swap two pairs of different classes exchange one image each, so that four queries of forty miss: P@1 is
    1 - swapped / 10. `turned` images have the other class.
    """
    images, vectors = [], []
    for number in range(PAIRS):
        for half, split in enumerate(("train", "test")):
            at = number ^ 1 if half and number < 2 * swapped else number
            finding = ("nodule", "cyst")[(number + (number < turned)) % 2]
            patient = "one" if one_patient else f"{number}-{half}"
            facts = {"modality": "CT", "region": "chest", "split": split}
            images.append(Image(f"{prefix}{number:02}-{half}", patient, (finding,), facts))
            vectors.append(np.eye(PAIRS, dtype=np.float32)[at])
    return Collection(images, np.stack(vectors), "here", {"model": model, "weights": "one"})


def written(  # noqa: PLR0913
    folder: Path,
    swapped: int = 0,
    *,
    prefix: str = "",
    model: str = "first",
    protocol: str = "leave-patient-out",
    single_label: bool = False,
    one_patient: bool = False,
    turned: int = 0,
) -> Run:
    images = collection(swapped, prefix=prefix, model=model, one_patient=one_patient, turned=turned)
    trial = PROTOCOLS[protocol](images, single_label=single_label)
    write_run(folder, images, trial, measure(images, trial, device="cpu"))
    return read_run(folder)


def test_a_first_run_is_held_to_nothing_and_is_to_be_accepted(tmp_path: Path) -> None:
    run = written(tmp_path / "a", 2)
    past = accepted(tmp_path, run)
    assert past == Past(None)
    verdict = judge(run, past)
    assert (verdict.outcome, verdict.accepts, verdict.is_bad, verdict.notes) == ("first", True, False, [])
    assert str(verdict) == "first: P@1 0.800 is the first, and accepted"
    assert accepted(tmp_path / "nowhere", run) == Past(None)


def test_a_run_below_the_accepted_interval_falls_and_the_figures_are_said(tmp_path: Path) -> None:
    before = written(tmp_path / "before", 2)
    verdict = judge(written(tmp_path / "after", 6), Past(before))
    low, high = before.metrics["interval"]["P@1"]
    assert 0.4 < low < 0.8 < high < 1
    assert (verdict.outcome, verdict.is_bad, verdict.accepts) == ("fell", True, False)
    assert str(verdict) == f"first: P@1 0.400 fell below 0.800 [{low:.3f}, {high:.3f}] of before"
    # Sixteen of forty queries are lost, none won.
    assert verdict.difference is not None
    assert verdict.difference.mean == pytest.approx(-0.4)
    assert verdict.difference.interval.high < 0
    assert verdict.difference.p < 0.01
    assert [one.metric for one in verdict.comparisons] == ["P@1", "P@10", "mAP@10"]
    (note,) = verdict.notes
    assert note.startswith("query by query -0.4000 [-0.")
    assert note.endswith(", 40 queries")


def test_quality_cannot_creep_down_by_steps_that_are_within_the_interval(tmp_path: Path) -> None:
    written(tmp_path / "1", 2)
    accept(tmp_path / "1", "by itself")
    outcomes = []
    for swapped in (3, 4, 5):
        run = written(tmp_path / str(swapped), swapped)
        verdict = judge(run, accepted(tmp_path, run))
        assert verdict.accepted is not None
        assert verdict.accepted.name == "1"
        assert not verdict.accepts
        outcomes.append(verdict.outcome)
    assert outcomes[0] == "held"
    assert outcomes[-1] == "fell"


def test_a_run_above_the_interval_raises_the_measure(tmp_path: Path) -> None:
    verdict = judge(written(tmp_path / "after", 0), Past(written(tmp_path / "before", 2)))
    assert (verdict.outcome, verdict.accepts, verdict.is_bad) == ("rose", True, False)
    assert str(verdict).startswith("first: P@1 1.000 rose above 0.800 [")
    assert str(verdict).endswith("] of before, and is accepted")


@pytest.mark.parametrize("swapped", [0, 2, 10])
def test_the_same_run_again_neither_falls_nor_rises(tmp_path: Path, swapped: int) -> None:
    run = written(tmp_path / "run", swapped)
    assert judge(run, Past(run)).outcome == "held"
    beside = replace(run, metrics={**run.metrics, "interval": {"P@1": [0.97, 0.98]}})
    assert judge(beside, Past(beside)).outcome == "held"


def test_without_an_interval_the_figure_itself_is_the_bound(tmp_path: Path) -> None:
    before, lower, higher = (
        written(tmp_path / str(swapped), swapped, protocol="denner2024", one_patient=True) for swapped in (2, 3, 1)
    )
    assert before.metrics["interval"] == {}
    verdict = judge(lower, Past(before))
    assert verdict.outcome == "fell"
    assert str(verdict) == "first: P@1 0.700 fell below 0.800 of 2"
    assert verdict.difference is None
    assert "not compared query by query" in verdict.notes[0]
    assert judge(before, Past(before)).outcome == "held"
    assert judge(higher, Past(before)).outcome == "rose"


@pytest.mark.parametrize("other", [{"prefix": "other"}, {"turned": 2}])
def test_runs_without_a_query_or_with_other_classes_are_judged_and_it_is_said(
    tmp_path: Path, other: dict[str, str | int]
) -> None:
    verdict = judge(written(tmp_path / "after", 8, **other), Past(written(tmp_path / "before", 2)))  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.difference, verdict.comparisons) == ("fell", None, ())
    assert "not compared query by query" in verdict.notes[0]
    assert verdict.notes[1].startswith("the two searched other images, or other classes")


def test_another_model_of_that_name_is_said(tmp_path: Path) -> None:
    before = written(tmp_path / "before", 2)
    told = {**before.metrics, "model": {**before.metrics["model"], "weights": "two"}, "index_state": "another"}
    verdict = judge(replace(before, metrics=told), Past(before))
    assert verdict.notes[-1] == "the model's weights changed since"
    assert any("other images" in note for note in verdict.notes)


def test_who_accepted_last_decides_and_may_be_a_person_with_an_older_or_worse_run(tmp_path: Path) -> None:
    for name, swapped in (("20260101", 5), ("20260102", 2), ("20260103", 3)):
        run = written(tmp_path / name, swapped)
    for name in ("20260102", "20260103", "20260101"):
        assert accept(tmp_path / name, "anna").folder == tmp_path / name
        found = accepted(tmp_path, run).accepted
        assert found is not None
        assert found.folder == tmp_path / name
    marker = json.loads((tmp_path / "20260101" / ACCEPTED).read_text())
    assert marker["by"] == "anna"
    assert marker["when"].startswith("20")
    assert {file.name for file in (tmp_path / "20260101").iterdir()} >= {ACCEPTED, METRICS, QUERIES}


def test_a_run_of_another_model_protocol_or_choice_of_images_is_no_measure(tmp_path: Path) -> None:
    others = {
        "a": written(tmp_path / "a", model="second"),
        "b": written(tmp_path / "b", protocol="denner2024"),
        "c": written(tmp_path / "c", single_label=True),
    }
    for name in others:
        accept(tmp_path / name, "anna")
    assert accepted(tmp_path, written(tmp_path / "new")) == Past(None)
    for name, run in others.items():
        found = accepted(tmp_path, run).accepted
        assert found is not None
        assert found.folder == tmp_path / name


@pytest.mark.parametrize("spoilt", ["figures", "queries", "marker", "another run over it"])
def test_a_damaged_accepted_run_is_passed_over_and_counted(tmp_path: Path, spoilt: str) -> None:
    for name in ("1", "2"):
        run = written(tmp_path / name, 2)
        accept(tmp_path / name, "anna")
    if spoilt == "another run over it":
        written(tmp_path / "2", 2, model="second")
    else:
        file = tmp_path / "2" / {"figures": METRICS, "queries": QUERIES, "marker": ACCEPTED}[spoilt]
        file.write_bytes(file.read_bytes()[:-40])
    past = accepted(tmp_path, run)
    assert past.accepted is not None
    assert (past.accepted.folder.name, past.damaged) == ("1", 1)
    verdict = judge(past.accepted, past)
    assert verdict.outcome == "held"
    assert verdict.notes[0] == "1 accepted runs are damaged and were passed over"


def test_where_every_accepted_run_is_damaged_no_run_accepts_itself(tmp_path: Path) -> None:
    """Else the one after a damage might be a bad one, and the measure of all later ones."""
    run = written(tmp_path / "1", 2)
    accept(tmp_path / "1", "anna")
    (tmp_path / "1" / METRICS).write_text("{}")
    past = accepted(tmp_path, run)
    assert past == Past(None, 1)
    verdict = judge(run, past)
    assert (verdict.outcome, verdict.accepts, verdict.is_bad) == ("unheld", False, True)
    assert str(verdict) == "first: P@1 0.800 is held to nothing: accept a run"
    assert accepted(tmp_path, written(tmp_path / "2", model="second")) == Past(None)  # the marker says whose it is


def test_runs_that_nobody_accepted_are_not_read(tmp_path: Path) -> None:
    """Hundreds of nights: damaged ones among them are not even noticed, so that they cost no time."""
    run = written(tmp_path / "one", 2)
    accept(tmp_path / "one", "anna")
    for number in range(300):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / METRICS).write_text("no JSON")
    (tmp_path / "a file").touch()
    past = accepted(tmp_path, run)
    assert past.accepted is not None
    assert past.damaged == 0


def test_a_person_accepts_a_run_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written(tmp_path / "run", 2)
    assert main(["accept", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "P@1: 0.800 [" in said.out
    assert said.err == f"later runs beside {tmp_path / 'run'} are held to it\n"
    assert accepted(tmp_path, run).accepted is not None


def test_what_is_no_run_is_not_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accept", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    written(tmp_path / "run")
    (tmp_path / "run" / QUERIES).write_text("")
    with pytest.raises(SettingsError, match="damaged"):
        accept(tmp_path / "run", "anna")
    assert not (tmp_path / "run" / ACCEPTED).exists()


def test_a_run_that_cannot_be_marked_is_said_in_one_line(tmp_path: Path) -> None:
    written(tmp_path / "run")
    (tmp_path / "run" / ACCEPTED).mkdir()
    with pytest.raises(SettingsError, match="cannot be marked") as raised:
        accept(tmp_path / "run", "anna")
    assert "\n" not in str(raised.value)
