"""Runs against each other: paired by hand, p against all swaps there are; what does not fit is refused or counted."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from evaluation.comparison import ClassDifference, Comparison, compare, comparison_lines, name_of
from evaluation.intervals import difference_of
from evaluation.stored import Run
from radsearch.errors import NothingToSearchError, SettingsError

IDS = ("n1", "n2", "n3", "c1", "c2", "b1")
GROUPS = ("0", "0", "1", "2", "3", "1")
CLASSES = (("nodule",), ("nodule",), ("nodule",), ("cyst",), ("cyst",), ("cyst", "nodule"))
BEFORE = (1.0, 0.0, 0.5, 1.0, 0.0, 0.5)
AFTER = (1.0, 1.0, 0.25, 0.0, 0.0, 1.0)
# After less before:  0, 1, -1/4, -1, 0, 1/2.


def run(
    name: str,
    values: Sequence[float] = BEFORE,
    *,
    ids: Sequence[str] = IDS,
    protocol: str = "denner2024",
    **told: object,
) -> Run:
    """A run of these queries in this order; its classes and patients are those of the table above."""
    places = [IDS.index(one) for one in ids]
    of_queries = np.array([values[place] for place in places])
    return Run(
        folder=Path("/runs", name),
        metrics={"protocol": protocol, "single_label": True, "model": {"model": name}, "index_state": "one", **told},
        ids=list(ids),
        groups=[GROUPS[place] for place in places],
        classes=[CLASSES[place] for place in places],
        values={"P@1": of_queries, "P@10": of_queries / 2, "mAP@10": of_queries / 4},
        nearest=[()] * len(ids),
        found=[()] * len(ids),
    )


def only(comparisons: list[Comparison]) -> Comparison:
    assert len(comparisons) == 1
    return comparisons[0]


def test_two_runs_are_compared_query_by_query() -> None:
    found = only(compare([run("old"), run("new", AFTER)], ["P@1"]))
    assert (found.first, found.second, found.metric) == ("old (/runs/old)", "new (/runs/new)", "P@1")
    assert (found.common, found.only) == (6, 0)
    assert found.difference.mean == pytest.approx((1 - 1 / 4 - 1 + 1 / 2) / 6, abs=1e-15)
    # Cysts: -1, 0, 1/2. Nodules: 0, 1, -1/4, 1/2; the image of both counts in both.
    assert found.by_class == [
        ClassDifference("cyst", 3, pytest.approx(-1 / 6), won=1, lost=1),
        ClassDifference("nodule", 4, pytest.approx(5 / 16), won=2, lost=1),
    ]
    assert found.apart == [("n2", 1.0), ("c1", -1.0), ("b1", 0.5), ("n3", -0.25)]


def test_queries_are_paired_by_name_and_not_by_place() -> None:
    straight = only(compare([run("old"), run("new", AFTER)], ["P@1"]))
    turned = only(compare([run("old"), run("new", AFTER, ids=IDS[::-1])], ["P@1"]))
    assert turned == straight


def test_queries_of_one_run_alone_are_counted_and_left_out() -> None:
    fewer = run("old", ids=IDS[:4])
    other = run("new", AFTER, ids=("b1", "c1", "n3", "n2", "c2"))
    found = only(compare([fewer, other], ["P@1"]))
    assert (found.common, found.only) == (3, 3)  # n2, n3, c1; without n1 of the one, and b1, c2 of the other
    assert found.difference.mean == pytest.approx((1 - 1 / 4 - 1) / 3, abs=1e-15)
    assert "  3 queries are in one of the two runs only and were left out" in comparison_lines(found)


def test_runs_over_another_index_are_said_to_be_and_other_rules_refused() -> None:
    same, other = compare([run("old"), run("new", AFTER), run("newer", AFTER, index_state="another")], ["P@1"])
    words = "  THEY SEARCHED OTHER IMAGES, or other classes: the difference is not of the models alone"
    assert (words in comparison_lines(same), words in comparison_lines(other)) == (False, True)
    with pytest.raises(SettingsError, match="leave images of several findings out"):
        compare([run("old"), run("new", single_label=False)])


def test_only_the_queries_furthest_apart_are_named() -> None:
    found = compare([run("old"), run("new", AFTER)], ["P@1"], most_apart=2)[0]
    assert found.apart == [("n2", 1.0), ("c1", -1.0)]


def test_p_of_a_comparison_is_that_of_all_swaps_of_patients() -> None:
    # Sums of patients 0 to 3: 1, -1/4 + 1/2, -1, 0; together 1/4.
    sums = (1, 1 / 4, -1, 0)
    ways = [abs(sum(sign * one for sign, one in zip(way, sums, strict=True))) for way in product((1, -1), repeat=4)]
    expected = sum(way >= 1 / 4 for way in ways) / len(ways)
    assert expected == 1
    assert compare([run("old"), run("new", AFTER)], ["P@1"])[0].difference.p == 1
    better = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    # Sums: 1, 1/2 + 1/2, 0, 1; together 3, which 2 of 8 swaps reach; the patient without a difference doubles both.
    assert compare([run("old"), run("new", better)], ["P@1"])[0].difference.p == pytest.approx(1 / 4, abs=0.018)


def test_every_run_is_compared_with_the_first_one_by_every_metric() -> None:
    found = compare([run("old"), run("new", AFTER), run("newer", (1.0,) * 6)])
    assert [(one.first, one.second, one.metric) for one in found] == [
        ("old (/runs/old)", f"{name} (/runs/{name})", metric)
        for name in ("new", "newer")
        for metric in ("P@1", "P@10", "mAP@10")
    ]
    means = [one.difference.mean for one in found]
    assert means == pytest.approx([1 / 24, 1 / 48, 1 / 96, 1 / 2, 1 / 4, 1 / 8], abs=1e-15)


def test_p_is_corrected_for_the_number_of_tests() -> None:
    """Six tests: three of p = 1 and three equal ones of about a quarter, which Holm multiplies by six."""
    runs = [run("old"), run("new", AFTER), run("newer", (1.0,) * 6)]
    alone = difference_of(np.array(BEFORE), np.ones(6), GROUPS).p
    assert 1 / 6 < alone < 1 / 3
    assert [one.difference.p for one in compare(runs)] == [1.0] * 6
    many = [f"i{place}" for place in range(60)]
    zeros, ones = (wide(many, np.zeros(60)), wide(many, np.ones(60)))
    assert [one.difference.p for one in compare([zeros, ones, ones])] == pytest.approx([6 / 10_001] * 6, abs=1e-15)
    assert compare([zeros, ones], ["P@1"])[0].difference.p == 1 / 10_001


def wide(ids: Sequence[str], values: "np.ndarray") -> Run:
    """Each query of another patient."""
    metrics, none = run("wide").metrics, [()] * len(ids)
    of_metrics = {"P@1": values, "P@10": values, "mAP@10": values}
    return Run(Path("/runs/wide"), metrics, ids, ids, [("nodule",)] * len(ids), of_metrics, none, none)


def test_a_comparison_in_words() -> None:
    found = only(compare([run("old"), run("new", (1.0,) * 6)], ["P@1"]))
    interval = found.difference.interval
    assert 0 <= interval.low < 0.5 < interval.high <= 1
    assert comparison_lines(found) == [
        f"P@1: new (/runs/new) less old (/runs/old): +0.5000 [{interval.low:+.4f}, {interval.high:+.4f}]",
        f"  p = {found.difference.p:.4f} (permutation of patients, corrected), 6 queries",
        "  class   queries  mean     won  lost",
        "  cyst    3        +0.5000  2    0",  # c1 is found by both, c2 and b1 better by the new one
        "  nodule  4        +0.5000  3    0",
    ]


def test_a_run_is_called_by_its_model_and_by_its_folder_which_no_other_has() -> None:
    named = Run(Path("/runs/tuesday"), run("rad-dino").metrics, [], [], [], {}, [], [])
    assert name_of(named) == "rad-dino (/runs/tuesday)"
    assert name_of(run("rad-dino")) != name_of(named)


def test_a_run_alone_is_compared_with_nothing() -> None:
    for runs in ([], [run("old")]):
        with pytest.raises(SettingsError, match="two runs or more"):
            compare(runs)


def test_runs_of_other_protocols_are_refused_by_name() -> None:
    runs = [run("old"), run("new"), run("newer", protocol="leave-patient-out")]
    with pytest.raises(SettingsError, match="several protocols: denner2024, leave-patient-out"):
        compare(runs)


def test_runs_without_a_common_query_are_refused() -> None:
    with pytest.raises(NothingToSearchError, match="/runs/old and /runs/new have no query with P@1 in common"):
        compare([run("old", ids=IDS[:3]), run("new", ids=IDS[3:])])


def test_a_metric_that_a_run_lacks_is_refused() -> None:
    with pytest.raises(NothingToSearchError, match="no query with P@7 in common"):
        compare([run("old"), run("new")], ["P@7"])


def test_common_queries_of_one_patient_are_no_comparison() -> None:
    with pytest.raises(NothingToSearchError, match="two patients or more"):
        compare([run("old", ids=("n1", "n2", "c1")), run("new", ids=("n1", "n2", "c2"))], ["P@1"])
