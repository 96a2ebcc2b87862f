"""Exact nearest neighbours, so that an evaluation measures the model and not an approximate index.

Products of whole blocks in float32 tell which rows can be among the nearest. Each is off by no more than a bound that
holds whatever the order of its sum, and all rows within that bound stay candidates. Their scores are then worked out
anew in float64, by sums of one fixed order. So neither the size of a block, nor the number of threads, nor the device
changes a result, and copies of a row tie exactly.

Source of the bound: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.shortlist import EXACT_NUMBERS, GROUP, SLICE, Exact, Shortlist, ranks, room, slices
from radsearch.models.devices import devices_of
from radsearch.study import Vectors

Codes: TypeAlias = NDArray[np.integer[Any]]

_TILE_ROWS = 4096  # of the index, in one product
_BLOCK_QUERIES = 1024  # in one product
_LONGEST = 1e18  # products of longer vectors could leave the range of float32
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_UNDERFLOW = 1e-30  # more than all products of a row lose that are too small for float32


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The best rows of the index for each query, best first.

    positions: (queries, depth) int64 rows of the index, -1 where no more are left. scores: (queries, depth) float32
    inner products (cosines, of unit vectors), -inf where no more are left. The order is that of the scores before they
    were rounded to float32; of equal ones the row that comes first in the index is the first.
    """

    positions: NDArray[np.int64]
    scores: Vectors


def nearest(  # noqa: PLR0913 -- who may not be matched with whom is three columns, and the rest has defaults
    queries: Vectors,
    index: Vectors,
    depth: int,
    *,
    query_groups: Codes | None = None,
    index_groups: Codes | None = None,
    query_positions: Codes | None = None,
    device: str = "auto",
    memory_mb: int = 512,
) -> Neighbours:
    """Compare every query with every row of the index.

    Args:
        queries: (m, dimension) float32, unit vectors.
        index: (n, dimension) float32, unit vectors; may be a numpy memmap.
        depth: neighbours of each query, at least 1; may be more than n.
        query_groups: (m,) whole numbers, such as a code a patient: a query meets no row of its own group. A negative
            one is no group.
        index_groups: (n,) those of the rows.
        query_positions: (m,) the row that is the query itself, which it does not meet; negative where none is.
        device: of the products in float32: "auto" is a GPU where there is one.
        memory_mb: bound of what is held beside the arguments and the result, in 10**6 bytes, as far as 8 rows, one
            query and a hundred bytes for each of the `depth` make do with it.

    Returns:
        The same whatever `device` and `memory_mb` are.

    Raises:
        ValueError: an array has not the form above, or rows with numbers that are not finite.
        SettingsError: there is no such device.
    """
    _check(queries, index, depth)
    left_out = _LeftOut.of(len(queries), len(index), query_groups, index_groups, query_positions)
    positions = np.full((len(queries), depth), -1, np.int64)
    scores = np.full((len(queries), depth), -np.inf, np.float32)
    with torch.inference_mode(), _full_precision():
        rows, asked = _tensor(index), _tensor(queries)
        search = _Search(rows, depth, torch.device(devices_of(device)[0]), memory_mb * 10**6)
        lengths, longest = _lengths(asked, "queries"), _lengths(rows, "rows of the index").max(initial=0.0)
        slack = torch.from_numpy(2 * _bound(queries.shape[1]) * lengths * longest + _UNDERFLOW).float()
        for block in slices(len(queries), search.block_queries):
            positions[block], scores[block] = search.block(asked[block], slack[block], left_out.of_queries(block))
    return Neighbours(positions, scores)


def _check(queries: Vectors, index: Vectors, depth: int) -> None:
    if depth < 1:
        raise ValueError(f"a depth of {depth}: at least one neighbour must be asked for")
    if queries.ndim != 2 or index.ndim != 2 or queries.shape[1] != index.shape[1] or not queries.shape[1]:  # noqa: PLR2004 -- rows and columns
        raise ValueError(f"vectors of shape {queries.shape} do not meet an index of shape {index.shape}")
    if queries.dtype != np.float32 or index.dtype != np.float32:
        raise ValueError(f"the vectors are {queries.dtype} and {index.dtype}: both are to be float32")


def _tensor(vectors: Vectors) -> Tensor:
    """The same memory, which is only read here: torch warns of arrays that are read-only, such as a memmap."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(vectors))


def _lengths(vectors: Tensor, name: str) -> NDArray[np.float64]:
    """(rows,) Euclidean lengths. Raises ValueError where a number is not finite."""
    lengths = np.empty(len(vectors))
    for part in slices(len(vectors), max(1, EXACT_NUMBERS // vectors.shape[1])):
        lengths[part] = torch.linalg.vector_norm(vectors[part], dim=1, dtype=torch.float64).numpy()
    unusable = int((~(lengths <= _LONGEST)).sum())  # NaN is not below anything
    if unusable:
        raise ValueError(f"{unusable:,} of {len(vectors):,} {name} hold numbers that are not finite, or far too large")
    return lengths


def _bound(dimension: int) -> float:
    """The most that a float32 product is off, as a part of the lengths' product; a few roundings of ours included."""
    roundings = (dimension + 8) * _UNIT_ROUNDOFF
    return roundings / (1 - roundings)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Neither TF32 on a GPU nor bfloat16 on a CPU, whatever the process has set: the bound is that of float32."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]  # set at run time
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@dataclass(frozen=True, slots=True, eq=False)
class _LeftOut:
    """Which rows a query does not meet: those of its group, and its own; a negative number says that there is none."""

    query_groups: Tensor  # (queries,)
    query_positions: Tensor  # (queries,)
    index_groups: Tensor  # (rows,)

    @classmethod
    def of(
        cls, queries: int, rows: int, query_groups: Codes | None, index_groups: Codes | None, own: Codes | None
    ) -> "_LeftOut":
        if (query_groups is None) != (index_groups is None):
            raise ValueError("groups are stated of the queries and of the index, or of neither")
        return cls(
            _codes(query_groups, queries, "groups of the queries"),
            _codes(own, queries, "positions of the queries"),
            _codes(index_groups, rows, "groups of the index"),
        )

    def of_queries(self, block: slice) -> "_LeftOut":
        return _LeftOut(self.query_groups[block], self.query_positions[block], self.index_groups)

    def strike(self, scores: Tensor, start: int) -> None:
        """Set the scores of what is left out to -inf. scores: (queries, tile) of the rows from `start` on."""
        width = min(scores.shape[1], len(self.index_groups) - start)
        own = self.query_positions - start
        rows = ((own >= 0) & (own < width)).nonzero()[:, 0]
        scores[rows.to(scores.device), own[rows].to(scores.device)] = -torch.inf
        if not bool((self.query_groups >= 0).any()):
            return
        groups, order = self.index_groups[start : start + width].sort()
        for first in range(0, len(scores), SLICE):
            rows, places = _equal_pairs(self.query_groups[first : first + SLICE], groups)
            scores[(first + rows).to(scores.device), order[places].to(scores.device)] = -torch.inf


def _codes(codes: Codes | None, count: int, name: str) -> Tensor:
    if codes is None:
        return torch.full((count,), -1)
    if codes.shape != (count,) or codes.dtype.kind not in "iu":
        raise ValueError(f"the {name} are {codes.dtype} of shape {codes.shape}, not {count:,} whole numbers")
    return torch.from_numpy(codes.astype(np.int64))


def _equal_pairs(wanted: Tensor, rising: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of places with the same number in both, without the negative ones."""
    first = torch.searchsorted(rising, wanted)
    counts = (torch.searchsorted(rising, wanted, right=True) - first) * (wanted >= 0)
    rows = torch.arange(len(wanted)).repeat_interleave(counts)
    return rows, first[rows] + ranks(rows, counts)


class _Search:
    """An index, and the table that its products are written into."""

    def __init__(self, index: Tensor, depth: int, device: torch.device, memory: int) -> None:
        self._index, self._depth, self._device = index, depth, device
        rows, dimension = index.shape
        on_device = device.type != index.device.type
        width = min(
            _TILE_ROWS, rows + GROUP, memory // 4 // (4 * dimension) if on_device else _TILE_ROWS, memory // 2048
        )
        self._width = max(GROUP, width // GROUP * GROUP)
        # The query; its scores; those that are looked at closer, with their places; candidates, while they are ordered.
        of_query = 8 * dimension + 4 * self._width + 48 * min(self._width, GROUP * room(depth)) + 160 * room(depth)
        self.block_queries = min(_BLOCK_QUERIES, max(1, memory * 5 // 8 // of_query))
        self._scores = torch.empty(0, self._width, device=device)

    def block(self, queries: Tensor, slack: Tensor, left_out: _LeftOut) -> tuple[NDArray[np.int64], Vectors]:
        """Positions and scores, (queries, depth) each."""
        wanted = queries.to(self._device)
        shortlist = Shortlist(Exact(queries, self._index, self._depth), slack.to(self._device))
        for start in range(0, len(self._index), self._width):
            shortlist.add(self._products(wanted, start, left_out), start)
        return shortlist.best()

    def _products(self, queries: Tensor, start: int, left_out: _LeftOut) -> Tensor:
        """(queries, tile) scores of the rows from `start` on; -inf where a row is left out or none is there."""
        if len(self._scores) != len(queries):
            self._scores = self._scores.new_empty(len(queries), self._width)
        tile = self._index[start : start + self._width].to(self._device)
        if len(tile) == self._width:
            torch.mm(queries, tile.T, out=self._scores)
        else:
            self._scores.fill_(-torch.inf)[:, : len(tile)] = queries @ tile.T
        left_out.strike(self._scores, start)
        return self._scores
