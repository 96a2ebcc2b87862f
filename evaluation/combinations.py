"""Which classes images have, by combination: there are few of these beside the images, which only name theirs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.checks import Flags, Gains, Rows


class Combinations:
    """The classes of some images, and how often each combination of them is found in an index."""

    def __init__(self, labels: Sequence[frozenset[str]], rows: Iterable[int], index: Rows) -> None:
        """Args: labels: of all images. rows: those that matter. index: those of them that can be found."""
        known: dict[frozenset[str], int] = {}
        self._of_row = np.full(len(labels), -1, np.int64)
        for row in rows:
            self._of_row[row] = known.setdefault(labels[row], len(known))
        self._labels = list(known)
        self.names = sorted(frozenset().union(*known))
        column = {name: place for place, name in enumerate(self.names)}
        self.members = np.zeros((len(known), len(self.names)), bool)
        for several, place in known.items():
            self.members[place, [column[name] for name in several]] = True
        self._sizes = np.count_nonzero(self.members, axis=1)
        self._bits = _packed(self.members)
        self._in_index = np.bincount(self._of_row[index], minlength=len(known))

    def of(self, rows: Rows) -> Flags:
        """(rows, classes) bool, which classes images have."""
        return self.members[self._of_row[rows]]

    def near(self, found: Rows) -> Rows:
        """Rows of `members` of neighbours; -1 where there is none."""
        return np.where(found < 0, -1, self._of_row[found])

    def counted(self, rows: Rows) -> dict[int, int]:
        """How many of the images have each combination."""
        codes, counts = np.unique(self._of_row[rows], return_counts=True)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True))

    def reachable(self, queries: Rows, own: Sequence[Mapping[int, int]]) -> Rows:
        """(queries,) how many images of the index share a class with each query.

        Args:
            queries: rows of images.
            own: of each query, what it may not meet of the index, counted by combination.
        """
        totals = {code: int(self._in_index[self._shares(code)].sum()) for code in self.counted(queries)}
        there = [
            totals[code] - sum(number for other, number in mine.items() if self._share(code, other))
            for code, mine in zip(self._of_row[queries].tolist(), own, strict=True)
        ]
        return np.array(there, np.int64)

    def ideal(self, queries: Rows, own: Sequence[Mapping[int, int]], depth: int) -> Gains:
        """(queries, depth) float32, the greatest overlaps (Jaccard) that each query could meet, falling.

        Args:
            queries: rows of images.
            own: of each query, what it may not meet of the index, counted by combination.
            depth: how many.
        """
        enough = depth + max((sum(mine.values()) for mine in own), default=0)
        best = {code: self._best(code, enough) for code in self.counted(queries)}
        ideal = np.zeros((len(queries), depth), np.float32)
        for place, (code, mine) in enumerate(zip(self._of_row[queries].tolist(), own, strict=True)):
            looked_at = slice(depth + sum(mine.values()))
            overlaps, others = (one[looked_at].tolist() for one in best[code])
            filled = 0
            for overlap, other in zip(overlaps, others, strict=True):
                more = min(depth - filled, int(self._in_index[other]) - mine.get(other, 0))
                ideal[place, filled : filled + more] = overlap
                filled += more
                if filled == depth:
                    break
        return ideal

    def _shares(self, code: int) -> Flags:
        shares: Flags = (self._bits & self._bits[code]).any(axis=1)
        return shares

    def _share(self, code: int, other: int) -> bool:
        return not self._labels[code].isdisjoint(self._labels[other])

    def _best(self, code: int, enough: int) -> tuple[NDArray[np.float32], Rows]:
        """The combinations that overlap most, as far as that many images need; the overlaps, falling."""
        common = np.bitwise_count(self._bits & self._bits[code]).sum(axis=1, dtype=np.int64)
        overlap = (common / (self._sizes + self._sizes[code] - common)).astype(np.float32)
        there = np.flatnonzero((common > 0) & (self._in_index > 0))
        if len(there) > enough:  # each is of one image at least
            there = there[np.argpartition(-overlap[there], enough)[:enough]]
        order = there[np.argsort(-overlap[there], kind="stable")]
        return overlap[order], order


def _packed(members: Flags) -> NDArray[np.uint64]:
    """(combinations, words) the flags as bits, eight bytes at a time."""
    bytes_of = np.packbits(members, axis=1)
    padded = np.pad(bytes_of, ((0, 0), (0, -bytes_of.shape[1] % 8)))
    return np.ascontiguousarray(padded).view(np.uint64)
