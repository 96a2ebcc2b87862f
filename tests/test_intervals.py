"""How sure a mean is: held against all draws and all swaps of a few patients, one by one, and Holm's table by hand."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from evaluation.intervals import Difference, Interval, corrected, difference_of, interval_of

PERMUTATIONS = 10_000


def known(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


def exact_p(deltas: Sequence[Fraction], patients: Sequence[str]) -> float:
    """The part of all ways to swap the runs patient by patient that differ at least as much, in exact numbers."""
    sums: Counter[str] = Counter()
    for delta, patient in zip(deltas, patients, strict=True):
        sums[patient] += delta  # type: ignore[assignment]  # a Counter of fractions
    ways = list(product((1, -1), repeat=len(sums)))
    observed = abs(sum(sums.values()))
    extreme = [way for way in ways if abs(sum(s * one for s, one in zip(way, sums.values(), strict=True))) >= observed]
    return len(extreme) / len(ways)


def of_deltas(deltas: Sequence[Fraction], patients: Sequence[str], *, seed: int = 0) -> Difference:
    first = np.zeros(len(deltas))
    return difference_of(first, np.array([float(one) for one in deltas]), patients, seed=seed)


def test_patients_are_drawn_and_not_queries() -> None:
    """Ten misses of one patient, ten hits of the other: a quarter of the draws has but the one, a quarter the other."""
    interval = interval_of(np.repeat([0.0, 1.0], 10), ["a"] * 10 + ["b"] * 10)
    assert interval == Interval(0.0, 1.0)


def test_a_patient_of_many_queries_weighs_as_many() -> None:
    """Forty patients miss once, forty hit three times: 3/4 of the queries, and 1/2 by patients."""
    values, patients = np.array([0.0, 1, 1, 1]), ["a", "b", "b", "b"]
    many = [f"{patient}{place}" for place in range(40) for patient in patients]
    interval = known(interval_of(np.tile(values, 40), many))
    assert 0.6 < interval.low < 0.75 < interval.high < 0.9


def test_the_interval_is_that_of_all_draws_there_are() -> None:
    values = {"a": [0.0], "b": [1.0, 0.5, 0.75], "c": [0.25, 0.0], "d": [1.0], "e": [0.5, 0.5, 0.25, 1.0]}
    means = []
    for drawn in product(values.values(), repeat=5):
        several = [value for patient in drawn for value in patient]
        means.append(sum(several) / len(several))
    everything = np.array(means)
    assert len(everything) == 5**5
    interval = known(
        interval_of(
            np.array([value for several in values.values() for value in several]),
            [patient for patient, several in values.items() for _ in several],
        )
    )
    # Of 1000 draws the part below a percentile strays by 0.005 (standard deviation).
    assert (everything < interval.low - 1e-12).mean() < 0.025 + 0.015
    assert (everything <= interval.low + 1e-12).mean() > 0.025 - 0.015
    assert (everything > interval.high + 1e-12).mean() < 0.025 + 0.015
    assert (everything >= interval.high - 1e-12).mean() > 0.025 - 0.015


def test_of_many_patients_of_one_query_it_is_the_textbook_interval() -> None:
    values = np.tile([0.0, 1.0], 200)
    interval = known(interval_of(values, [str(place) for place in range(400)]))
    half = NormalDist().inv_cdf(0.975) * 0.5 / 400**0.5  # 0.049
    assert interval.low == pytest.approx(0.5 - half, abs=0.006)
    assert interval.high == pytest.approx(0.5 + half, abs=0.006)


def test_of_one_patient_nothing_is_said() -> None:
    assert interval_of(np.array([0.0, 1.0, 1.0]), ["a", "a", "a"]) is None


def test_what_never_varies_has_no_width() -> None:
    assert interval_of(np.full(6, 0.25), list("aabbcc")) == Interval(0.25, 0.25)


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    random = np.random.default_rng(5)
    values, patients = random.random(60), [str(place // 2) for place in range(60)]
    assert interval_of(values, patients) == interval_of(values, patients, seed=0)
    assert interval_of(values, patients, seed=1) != interval_of(values, patients, seed=2)


def test_the_order_of_the_queries_makes_no_difference() -> None:
    random = np.random.default_rng(6)
    values, patients = random.random(40), [str(place // 3) for place in range(40)]
    order = random.permutation(40)
    one, other = interval_of(values, patients), interval_of(values[order], [patients[place] for place in order])
    assert (known(one).low, known(one).high) == pytest.approx((known(other).low, known(other).high), abs=1e-12)


def test_a_difference_is_the_second_run_less_the_first() -> None:
    first, second = np.array([1.0, 0.0, 0.5, 0.5]), np.array([1.0, 1.0, 0.0, 1.0])
    difference = difference_of(first, second, list("abcd"))
    assert difference.mean == pytest.approx((0 + 1 - 0.5 + 0.5) / 4, abs=1e-15)
    assert difference.interval == interval_of(second - first, list("abcd"))
    turned = difference_of(second, first, list("abcd"))
    assert turned.mean == -difference.mean
    assert turned.p == difference.p
    mirrored = (-turned.interval.high, -turned.interval.low)
    assert mirrored == pytest.approx((difference.interval.low, difference.interval.high), abs=1e-12)


def test_three_patients_who_all_gain_are_no_proof() -> None:
    """Of the eight ways to swap, two differ as much: all as they are, and all swapped."""
    assert of_deltas([Fraction(1)] * 3, list("abc")).p == pytest.approx(2 / 8, abs=0.018)


def test_a_hundred_queries_of_two_patients_are_no_more_than_two() -> None:
    assert of_deltas([Fraction(1)] * 100, ["a", "b"] * 50).p == pytest.approx(2 / 4, abs=0.02)


@pytest.mark.parametrize("seed", range(8))
def test_p_is_that_of_all_swaps_there_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    people = 2 + seed
    patients = [f"p{place % people}" for place in range(3 * people)]
    deltas = [Fraction(int(one), 4) for one in random.integers(-3, 6, len(patients))]
    expected = exact_p(deltas, patients)
    # Four standard deviations of a part of so many swaps drawn by chance.
    allowed = 4 * (expected * (1 - expected) / PERMUTATIONS) ** 0.5 + 2 / PERMUTATIONS
    assert of_deltas(deltas, patients).p == pytest.approx(expected, abs=allowed)


def test_swaps_that_differ_by_rounding_alone_differ_as_much() -> None:
    """A tenth has no exact binary fraction: sums that are equal by hand differ in their last digit.

    Of the 32 swaps 28 come to two tenths or more, and only 16 of them if every rounding error counted.
    """
    deltas = [Fraction(one, 10) for one in (-1, -2, 3, 0, -2)]
    assert exact_p(deltas, list("abcde")) == 28 / 32
    assert of_deltas(deltas, list("abcde")).p == pytest.approx(28 / 32, abs=0.02)


def test_equal_runs_differ_by_nothing() -> None:
    values = np.array([0.5, 1.0, 0.0])
    assert difference_of(values, values, list("abc")) == Difference(0.0, Interval(0.0, 0.0), 1.0)


def test_gains_and_losses_that_cancel_out_are_no_difference() -> None:
    assert of_deltas([Fraction(1), Fraction(-1), Fraction(1), Fraction(-1)], list("abcd")).p == 1.0


def test_p_is_never_nought() -> None:
    """Of 60 patients who all gain no swap drawn differs as much: 2 of 2^60 do."""
    assert of_deltas([Fraction(1)] * 60, [str(place) for place in range(60)]).p == 1 / (PERMUTATIONS + 1)


def test_a_difference_of_one_patient_or_of_other_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="two patients or more"):
        of_deltas([Fraction(1)] * 3, ["a"] * 3)
    with pytest.raises(ValueError, match="other numbers of queries"):
        difference_of(np.zeros(3), np.zeros(2), list("abc"))


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01; 2 x 0.03; 1 x 0.04, but no less than the one before
        ([0.04, 0.001, 0.03, 0.02], [0.06, 0.004, 0.06, 0.06]),  # 4 x 0.001; 3 x 0.02; 2 x 0.03; 0.04
        ([0.6, 0.5], [1.0, 1.0]),  # twice 0.5; 0.6 is no less
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_several_tests_at_once_are_corrected_by_holm(p_values: list[float], expected: list[float]) -> None:
    assert corrected(p_values) == pytest.approx(expected, abs=1e-15)
