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

from radsearch.models.devices import devices_of

Vectors: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = NDArray[np.integer[Any]]

_TILE_ROWS = 4096  # of the index, in one product
_BLOCK_QUERIES = 1024  # in one product
_GROUP = 8  # scores side by side that are looked at only if the highest reaches the limit: 10 % faster than 32
_SLICE = 128  # queries for which large temporary tables are made at once
_EXACT_NUMBERS = 2**17  # multiplied at once in float64: they stay in a core's cache
_LONGEST = 1e18  # products of longer vectors could leave the range of float32
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_UNDERFLOW = 1e-30  # more than all products of a row lose that are too small for float32
_LOWEST = torch.finfo(torch.float32).min  # a score; below it are only the rows left out


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
        for block in _slices(len(queries), search.block_queries):
            positions[block], scores[block] = search.block(asked[block], slack[block], left_out.of_queries(block))
    return Neighbours(positions, scores)


def _check(queries: Vectors, index: Vectors, depth: int) -> None:
    if depth < 1:
        raise ValueError(f"a depth of {depth}: at least one neighbour must be asked for")
    if queries.ndim != 2 or index.ndim != 2 or queries.shape[1] != index.shape[1] or not queries.shape[1]:  # noqa: PLR2004 -- rows and columns
        raise ValueError(f"vectors of shape {queries.shape} do not meet an index of shape {index.shape}")
    if queries.dtype != np.float32 or index.dtype != np.float32:
        raise ValueError(f"the vectors are {queries.dtype} and {index.dtype}: both are to be float32")


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, count, step))


def _tensor(vectors: Vectors) -> Tensor:
    """The same memory, which is only read here: torch warns of arrays that are read-only, such as a memmap."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(vectors))


def _lengths(vectors: Tensor, name: str) -> NDArray[np.float64]:
    """(rows,) Euclidean lengths. Raises ValueError where a number is not finite."""
    lengths = np.empty(len(vectors))
    for part in _slices(len(vectors), max(1, _EXACT_NUMBERS // vectors.shape[1])):
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
        for first in range(0, len(scores), _SLICE):
            rows, places = _equal_pairs(self.query_groups[first : first + _SLICE], groups)
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
    return rows, first[rows] + _ranks(rows, counts)


def _ranks(rows: Tensor, counts: Tensor) -> Tensor:
    """Of rising row numbers, of which row i comes counts[i] times: 0, 1, 2 ... in each row."""
    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


class _Search:
    """An index, and the table that its products are written into."""

    def __init__(self, index: Tensor, depth: int, device: torch.device, memory: int) -> None:
        self._index, self._depth, self._device = index, depth, device
        rows, dimension = index.shape
        on_device = device.type != index.device.type
        width = min(
            _TILE_ROWS, rows + _GROUP, memory // 4 // (4 * dimension) if on_device else _TILE_ROWS, memory // 2048
        )
        self._width = max(_GROUP, width // _GROUP * _GROUP)
        # The query; its scores; those that are looked at closer, with their places; candidates, while they are ordered.
        of_query = 8 * dimension + 4 * self._width + 48 * min(self._width, _GROUP * _room(depth)) + 160 * _room(depth)
        self.block_queries = min(_BLOCK_QUERIES, max(1, memory * 5 // 8 // of_query))
        self._scores = torch.empty(0, self._width, device=device)

    def block(self, queries: Tensor, slack: Tensor, left_out: _LeftOut) -> tuple[NDArray[np.int64], Vectors]:
        """Positions and scores, (queries, depth) each."""
        wanted = queries.to(self._device)
        shortlist = _Shortlist(_Exact(queries, self._index, self._depth), slack.to(self._device))
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


def _room(depth: int) -> int:
    """Candidates of one query that a tile may bring, and as many again that may be kept of the tiles before."""
    return 2 * depth + 64


class _Exact:
    """Scores in float64 that depend on nothing but the two vectors."""

    def __init__(self, queries: Tensor, index: Tensor, depth: int) -> None:
        self._queries = queries.double()
        self._index = index
        self.depth = depth

    def scores(self, rows: Tensor, positions: Tensor) -> NDArray[np.float64]:
        """(pairs,) inner products of queries with rows of the index."""
        scores = np.empty(len(rows))
        for part in _slices(len(rows), max(1, _EXACT_NUMBERS // self._queries.shape[1])):
            products = self._index.index_select(0, positions[part]).double()
            scores[part] = _sums(products.mul_(self._queries.index_select(0, rows[part]))).numpy()
        return scores

    def best(self, row: int, positions: Tensor) -> tuple[Tensor, float]:
        """Which of a query's candidates, `depth` of them or more, are the best, and the score of the last of these."""
        scores = self.scores(torch.full_like(positions, row), positions)
        order = np.lexsort((positions.numpy(), -scores))[: self.depth]
        return torch.from_numpy(order), float(scores[order[-1]])


def _sums(products: Tensor) -> Tensor:
    """Sums of the rows, by halving them: element by element, so that no library chooses an order. Writes into them."""
    width = products.shape[1]
    while width > 1:
        half = (width + 1) // 2
        products[:, : width - half] += products[:, half:width]
        width = half
    return products[:, 0]


class _Shortlist:
    """A block of queries with the rows that can still be among their nearest."""

    def __init__(self, exact: _Exact, slack: Tensor) -> None:
        self._exact = exact
        self._depth = exact.depth
        self._room = _room(self._depth)
        self._slack = slack
        self._least = torch.full_like(self._slack, _LOWEST)  # a lower score is not among the nearest
        self._scores = torch.full((len(slack), 2 * self._room), -torch.inf, device=slack.device)
        self._positions = torch.full(self._scores.shape, -1, device=slack.device)
        self._tiles, self._settled_after = 0, 1
        self._filled = torch.zeros(len(slack), dtype=torch.int64, device=slack.device)

    def add(self, scores: Tensor, start: int) -> None:
        """Keep what can be among the nearest. scores: (queries, tile) of the rows from `start` on."""
        groups = scores.view(-1, _GROUP)
        highest = groups.view(len(scores), -1, _GROUP).amax(2)
        opened = self._reaching(highest)
        if self._raise(scores, opened // highest.shape[1]):
            opened = self._reaching(highest)
        rows = opened // highest.shape[1]
        inside = groups.index_select(0, opened)
        places = (inside >= self._least[rows, None]).view(-1).nonzero()[:, 0]
        group = places // _GROUP
        rows, reached = rows[group], inside.view(-1)[places]
        positions = start + opened[group] % highest.shape[1] * _GROUP + places % _GROUP
        if self._raise(scores, rows):
            kept = reached >= self._least[rows]
            rows, positions, reached = rows[kept], positions[kept], reached[kept]
        self._append(rows, positions, reached)
        self._tiles += 1
        if self._tiles == 2 * self._settled_after:  # the limit rises fast at first, and ever slower
            self._settle()
            self._settled_after = self._tiles

    def best(self) -> tuple[NDArray[np.int64], Vectors]:
        """Positions and scores of the nearest, (queries, depth) each, from exact scores."""
        self._settle()
        places = (self._scores > -torch.inf).nonzero(as_tuple=True)
        rows, ranks = places[0].cpu(), _ranks(places[0], self._filled).cpu().numpy()
        candidates = self._positions[places].cpu()
        exact = self._exact.scores(rows, candidates)
        order = np.lexsort((candidates.numpy(), -exact, rows.numpy()))  # rows are rising, so they stay where they are
        first = ranks < self._depth
        chosen, into = order[first], (rows.numpy()[first], ranks[first])
        positions = np.full((len(self._filled), self._depth), -1, np.int64)
        scores = np.full(positions.shape, -np.inf, np.float32)
        positions[into], scores[into] = candidates.numpy()[chosen], exact[chosen]
        return positions, scores

    def _reaching(self, highest: Tensor) -> Tensor:
        return (highest >= self._least[:, None]).view(-1).nonzero()[:, 0]

    def _raise(self, scores: Tensor, rows: Tensor) -> bool:
        """Where a tile brings a query very many candidates, the `depth` best of the tile set a limit.

        rows: of the candidates, each as often as it has some. Returns whether there was such a query.
        """
        crowded = (torch.bincount(rows, minlength=len(scores)) > self._room).nonzero()[:, 0]
        for part in _slices(len(crowded), _SLICE):
            self._limit(crowded[part], scores[crowded[part]])
        return len(crowded) > 0

    def _limit(self, rows: Tensor, scores: Tensor) -> None:
        """`depth` rows reach this score or miss it by half the slack; a row that misses it by all of it is below."""
        if scores.shape[1] >= self._depth:
            reached = scores.topk(self._depth, dim=1, sorted=False).values.amin(1)
            self._least[rows] = torch.maximum(self._least[rows], reached - self._slack[rows])

    def _append(self, rows: Tensor, positions: Tensor, scores: Tensor) -> None:
        """Rows are rising."""
        counts = torch.bincount(rows, minlength=len(self._filled))
        if bool((counts > self._room).any()):
            self._decide(counts, positions, scores)
            fits = (counts <= self._room)[rows]
            rows, positions, scores = rows[fits], positions[fits], scores[fits]
            counts = counts * (counts <= self._room)
        if bool((self._filled + counts > self._scores.shape[1]).any()):
            self._settle()
        places = self._filled[rows] + _ranks(rows, counts)
        self._scores[rows, places], self._positions[rows, places] = scores, positions
        self._filled += counts

    def _settle(self) -> None:
        """Drop what can no longer be among the nearest, and see to it that there is room for another tile."""
        everyone = torch.arange(len(self._filled), device=self._filled.device)
        self._limit(everyone, self._scores)
        kept = self._scores >= self._least[:, None]
        rows, places = kept.nonzero(as_tuple=True)
        scores, positions = self._scores[rows, places], self._positions[rows, places]
        self._filled = kept.sum(1)
        self._scores.fill_(-torch.inf)
        ranks = _ranks(rows, self._filled)
        self._scores[rows, ranks], self._positions[rows, ranks] = scores, positions
        for row in (self._filled > self._room).nonzero()[:, 0].tolist():
            self._keep_best(row, self._positions[row, : self._filled[row]], self._scores[row, : self._filled[row]])

    def _decide(self, counts: Tensor, positions: Tensor, scores: Tensor) -> None:
        """Of queries with too many rows that the products cannot tell apart: exact scores decide at once."""
        ends = counts.cumsum(0).tolist()
        for row in (counts > self._room).nonzero()[:, 0].tolist():
            filled, new = int(self._filled[row]), slice(ends[row] - int(counts[row]), ends[row])
            self._keep_best(
                row,
                torch.cat((self._positions[row, :filled], positions[new])),
                torch.cat((self._scores[row, :filled], scores[new])),
            )

    def _keep_best(self, row: int, positions: Tensor, scores: Tensor) -> None:
        chosen, last = self._exact.best(row, positions.cpu())
        chosen = chosen.to(scores.device)
        positions, scores = positions[chosen], scores[chosen]
        self._scores[row] = -torch.inf
        self._scores[row, : self._depth], self._positions[row, : self._depth] = scores, positions
        self._filled[row] = self._depth
        self._least[row] = max(float(self._least[row]), last - float(self._slack[row]) / 2)
