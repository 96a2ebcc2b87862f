"""The exact search against sums in plain numpy, and where an order hangs on the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import neighbours
from evaluation.neighbours import Neighbours, nearest
from radsearch.errors import SettingsError

TINY_MB, LARGE_MB = 1, 512


def unit_vectors(count: int, dimension: int = 24, *, seed: int = 0) -> "np.ndarray":
    vectors = np.random.default_rng(seed).standard_normal((count, dimension), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_brute_force(queries: "np.ndarray", index: "np.ndarray", depth: int, allowed: "np.ndarray") -> "np.ndarray":
    """(queries, depth) positions by whole sorts in float64. allowed: (queries, rows) bool."""
    scores = queries.astype(np.float64) @ index.astype(np.float64).T
    scores[~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return np.where(np.take_along_axis(scores, order, axis=1) > -np.inf, order, -1)


def assert_same(one: Neighbours, other: Neighbours) -> None:
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.fixture
def use_threads() -> Any:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("depth", [1, 10, 300])
def test_the_nearest_are_those_of_a_whole_sort_in_float64(depth: int) -> None:
    queries, index = unit_vectors(90, seed=1), unit_vectors(9000)
    found = nearest(queries, index, depth)
    everyone = np.ones((90, 9000), bool)
    np.testing.assert_array_equal(found.positions, by_brute_force(queries, index, depth, everyone))
    exact = np.einsum("qd,qkd->qk", queries.astype(np.float64), index[found.positions].astype(np.float64))
    np.testing.assert_allclose(found.scores, exact, rtol=0, atol=1e-7)
    assert found.positions.dtype == np.int64
    assert found.scores.dtype == np.float32


def test_scores_worked_out_by_hand() -> None:
    index = np.array([[0, 1], [0.6, 0.8], [1, 0], [-1, 0]], np.float32)
    found = nearest(np.array([[1, 0]], np.float32), index, 4)
    assert found.positions.tolist() == [[2, 1, 0, 3]]
    np.testing.assert_array_equal(found.scores, np.array([[1, 0.6, 0, -1]], np.float32))


def test_a_query_meets_neither_its_own_group_nor_itself() -> None:
    random = np.random.default_rng(3)
    vectors = unit_vectors(5000)
    groups, rows = random.integers(0, 40, 5000), random.choice(5000, 80, replace=False)
    groups[rows[:20]] = groups[::6] = -1  # a negative code is no group, and excludes nothing
    own = np.where(np.arange(80) % 4, rows, -1)
    found = nearest(
        vectors[rows],
        vectors,
        50,
        query_groups=groups[rows],
        index_groups=groups,
        query_positions=own,
        memory_mb=TINY_MB,
    )
    allowed = (groups[rows][:, None] != groups) | (groups[rows] < 0)[:, None]
    allowed &= own[:, None] != np.arange(5000)
    np.testing.assert_array_equal(found.positions, by_brute_force(vectors[rows], vectors, 50, allowed))


def test_without_groups_only_the_own_row_is_left_out() -> None:
    index = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    found = nearest(index, index, 2, query_positions=np.arange(3))
    assert found.positions.tolist() == [[1, 2], [0, 2], [0, 1]]


def test_a_group_that_fills_the_whole_index_leaves_nothing() -> None:
    index = unit_vectors(6000)
    found = nearest(
        index[:3], index, 2, query_groups=np.array([7, 7, 8]), index_groups=np.full(6000, 7), query_positions=None
    )
    assert found.positions[:2].tolist() == [[-1, -1], [-1, -1]]
    assert found.scores[:2].tolist() == [[-np.inf, -np.inf], [-np.inf, -np.inf]]
    assert found.positions[2, 0] == 2


def test_equal_scores_come_in_the_order_of_the_index() -> None:
    few = unit_vectors(7)
    index = few[np.arange(10_000) % 7]
    found = nearest(few, index, 20)
    expected = np.arange(7)[:, None] + 7 * np.arange(20)
    np.testing.assert_array_equal(found.positions, expected)
    assert (found.scores == found.scores[:, :1]).all()


@pytest.mark.parametrize("memory_mb", [TINY_MB, LARGE_MB])
@pytest.mark.parametrize("dimension", [1, 7, 37, 512])
def test_of_ten_thousand_copies_at_the_cut_the_first_ones_win(memory_mb: int, dimension: int) -> None:
    others, blank = unit_vectors(3000, dimension, seed=5), unit_vectors(1, dimension, seed=6)
    index = np.concatenate([others, np.repeat(blank, 10_000, axis=0)])
    index = index[np.random.default_rng(7).permutation(len(index))]
    found = nearest(blank, index, 150, memory_mb=memory_mb)
    copies = np.flatnonzero((index == blank).all(axis=1))[:150]
    np.testing.assert_array_equal(found.positions[0], copies)


def test_copies_behind_better_rows_are_cut_at_the_lowest_positions() -> None:
    query = np.array([[1, 0]], np.float32)
    index = np.repeat(np.array([[0.6, 0.8]], np.float32), 12_000, axis=0)
    index[[11_000, 5]] = [[1, 0], [0.8, 0.6]]
    found = nearest(query, index, 6)
    assert found.positions.tolist() == [[11_000, 5, 0, 1, 2, 3]]


def test_copies_of_the_own_group_make_way_for_later_ones() -> None:
    index = np.repeat(unit_vectors(1), 9000, axis=0)
    groups = np.where(np.arange(9000) < 8000, 1, 2)
    found = nearest(index[:1], index, 3, query_groups=np.array([1]), index_groups=groups)
    assert found.positions.tolist() == [[8000, 8001, 8002]]


def test_scores_that_float32_cannot_tell_apart_are_ordered_exactly() -> None:
    # Each row is the query with one number moved by a few units in the last place: scores differ by about 1e-9.
    query = unit_vectors(1, 64)
    index = np.repeat(query, 6000, axis=0)
    random = np.random.default_rng(9)
    rows, columns = np.arange(6000), random.integers(0, 64, 6000)
    moved = index[rows, columns].view(np.int32) + random.integers(-9, 10, 6000, dtype=np.int32)
    index[rows, columns] = moved.view(np.float32)
    found = nearest(query, index, 40)
    exact = np.array([_exact(query[0], row) for row in index], object)
    expected = sorted(range(6000), key=lambda row: (-exact[row], row))[:40]
    np.testing.assert_array_equal(exact[found.positions[0]], exact[expected])


def _exact(one: "np.ndarray", other: "np.ndarray") -> int:
    """The inner product in whole numbers: nothing is rounded but what float64 cannot hold."""
    return sum(int(float(a) * 2.0**52) * int(float(b) * 2.0**52) for a, b in zip(one, other, strict=True)) >> 52


def test_neither_memory_nor_threads_change_a_bit(use_threads: Any) -> None:
    queries, index = unit_vectors(700, 96, seed=1), unit_vectors(7000, 96)
    index[3000:] = index[np.random.default_rng(2).integers(0, 50, 4000)]  # many copies
    found = nearest(queries, index, 60, memory_mb=LARGE_MB)
    for threads in (1, 2):
        use_threads(threads)
        for memory_mb in (TINY_MB, 3, LARGE_MB):
            assert_same(nearest(queries, index, 60, memory_mb=memory_mb), found)


def test_an_index_in_the_order_of_its_classes_is_searched_alike() -> None:
    # All near rows come at the end, in one run: a tile then holds far more candidates than there is room for.
    queries = unit_vectors(1, seed=1) + 0.01 * unit_vectors(40, seed=2)
    near = unit_vectors(1, seed=1) + 0.3 * unit_vectors(6000, seed=3)
    index = np.concatenate([unit_vectors(6000, seed=4), near]).astype(np.float32)
    found = nearest(queries, index, 30)
    np.testing.assert_array_equal(found.positions, by_brute_force(queries, index, 30, np.ones((40, 12_000), bool)))


def test_a_process_that_allows_low_precision_gets_the_same() -> None:
    queries, index = unit_vectors(64, 256, seed=1), unit_vectors(6000, 256)
    found = nearest(queries, index, 20)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(nearest(queries, index, 20), found)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_bound_holds_for_products_of_the_library_in_use() -> None:
    queries, index = unit_vectors(200, 512, seed=1), unit_vectors(2000, 512)
    products = (torch.from_numpy(queries) @ torch.from_numpy(index).T).numpy()
    off = np.abs(products - queries.astype(np.float64) @ index.astype(np.float64).T)
    assert 0 < off.max() < neighbours._bound(512)


def test_what_an_index_does_not_have_is_filled_up() -> None:
    found = nearest(unit_vectors(2, seed=1), unit_vectors(3), 5)
    assert (found.positions[:, :3] >= 0).all()
    assert (found.positions[:, 3:] == -1).all()
    assert (found.scores[:, 3:] == -np.inf).all()
    assert (nearest(unit_vectors(2), unit_vectors(0), 5).positions == -1).all()


def test_no_queries_find_nothing() -> None:
    found = nearest(unit_vectors(0), unit_vectors(30), 4)
    assert found.positions.shape == found.scores.shape == (0, 4)


def test_a_read_only_file_is_searched_as_an_array_is(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    queries, index = unit_vectors(20, seed=1), unit_vectors(5000)
    np.save(tmp_path / "index.npy", index)
    assert_same(nearest(queries, np.load(tmp_path / "index.npy", mmap_mode="r"), 10), nearest(queries, index, 10))
    assert not recwarn.list


def test_vectors_that_are_not_finite_are_counted() -> None:
    index = unit_vectors(30)
    index[[2, 5], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"^2 of 30 rows of the index hold numbers that are not finite"):
        nearest(unit_vectors(4), index, 1)
    with pytest.raises(ValueError, match=r"^2 of 30 queries hold"):
        nearest(index, unit_vectors(4), 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"depth": 0}, "a depth of 0"),
        ({"queries": unit_vectors(3, 8)}, "do not meet"),
        ({"index": unit_vectors(9).astype(np.float64)}, "float64: both are to be float32"),
        ({"query_groups": np.zeros(3, int)}, "of the queries and of the index, or of neither"),
        ({"query_groups": np.zeros(2, int), "index_groups": np.zeros(9, int)}, "groups of the queries are int64 of"),
        ({"query_positions": np.zeros(3)}, "positions of the queries are float64"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], words: str) -> None:
    arguments = {"queries": unit_vectors(3), "index": unit_vectors(9), "depth": 2} | changed
    with pytest.raises(ValueError, match=words):
        nearest(**arguments)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(SettingsError):
        nearest(unit_vectors(1), unit_vectors(2), 1, device="abacus")
