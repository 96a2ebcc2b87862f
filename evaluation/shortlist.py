"""The rows that can still be among a query's nearest, as products in float32 tell, ordered by exact scores.

The limit below which a row is dropped leaves room for what a product can be off. So what is kept holds all of the
nearest, whatever made the products, and the scores in float64 alone decide among them.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsearch.study import Vectors

GROUP = 8  # scores side by side that are looked at only if the highest reaches the limit: 10 % faster than 32
SLICE = 128  # queries for which large temporary tables are made at once
EXACT_NUMBERS = 2**17  # multiplied at once in float64: they stay in a core's cache
_LOWEST = torch.finfo(torch.float32).min  # a score; below it are only the rows left out


def slices(count: int, step: int) -> Iterator[slice]:
    """0 to `count` in parts of `step`, which is at least 1; the last one may reach beyond."""
    return (slice(start, start + step) for start in range(0, count, step))


def ranks(rows: Tensor, counts: Tensor) -> Tensor:
    """Of rising row numbers, of which row i comes counts[i] times: 0, 1, 2 ... in each row.

    rows: (pairs,) int64. counts: (all rows,) int64. Returns (pairs,) int64 on their device.
    """
    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


def room(depth: int) -> int:
    """Candidates of one query that a tile may bring, and as many again that may be kept of the tiles before."""
    return 2 * depth + 64


class Exact:
    """Scores in float64 that depend on nothing but the two vectors.

    queries: (queries, dimension) float32. index: (rows, dimension) float32. Both are in the memory of the CPU.
    depth: neighbours of each query.
    """

    def __init__(self, queries: Tensor, index: Tensor, depth: int) -> None:
        self._queries = queries.double()
        self._index = index
        self.depth = depth

    def scores(self, rows: Tensor, positions: Tensor) -> NDArray[np.float64]:
        """(pairs,) inner products of queries with rows of the index. rows: (pairs,) of queries. positions: (pairs,)."""
        scores = np.empty(len(rows))
        for part in slices(len(rows), max(1, EXACT_NUMBERS // self._queries.shape[1])):
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


class Shortlist:
    """A block of queries with the rows that can still be among their nearest.

    exact: of these queries. slack: (queries,) float32, twice what a product can be off; the work is done on its device.
    """

    def __init__(self, exact: Exact, slack: Tensor) -> None:
        self._exact = exact
        self._depth = exact.depth
        self._room = room(self._depth)
        self._slack = slack
        self._least = torch.full_like(self._slack, _LOWEST)  # a lower score is not among the nearest
        self._scores = torch.full((len(slack), 2 * self._room), -torch.inf, device=slack.device)
        self._positions = torch.full(self._scores.shape, -1, device=slack.device)
        self._tiles, self._settled_after = 0, 1
        self._filled = torch.zeros(len(slack), dtype=torch.int64, device=slack.device)

    def add(self, scores: Tensor, start: int) -> None:
        """Keep what can be among the nearest.

        scores: (queries, tile) float32 products with the rows from `start` on, `GROUP` or a multiple of it; -inf where
        there is no row, or none that the query may meet.
        """
        groups = scores.view(-1, GROUP)
        highest = groups.view(len(scores), -1, GROUP).amax(2)
        opened = self._reaching(highest)
        if self._raise(scores, opened // highest.shape[1]):
            opened = self._reaching(highest)
        rows = opened // highest.shape[1]
        inside = groups.index_select(0, opened)
        places = (inside >= self._least[rows, None]).view(-1).nonzero()[:, 0]
        group = places // GROUP
        rows, reached = rows[group], inside.view(-1)[places]
        positions = start + opened[group] % highest.shape[1] * GROUP + places % GROUP
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
        rows, rank = places[0].cpu(), ranks(places[0], self._filled).cpu().numpy()
        candidates = self._positions[places].cpu()
        exact = self._exact.scores(rows, candidates)
        order = np.lexsort((candidates.numpy(), -exact, rows.numpy()))  # rows are rising, so they stay where they are
        first = rank < self._depth
        chosen, into = order[first], (rows.numpy()[first], rank[first])
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
        for part in slices(len(crowded), SLICE):
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
        places = self._filled[rows] + ranks(rows, counts)
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
        rank = ranks(rows, self._filled)
        self._scores[rows, rank], self._positions[rows, rank] = scores, positions
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
