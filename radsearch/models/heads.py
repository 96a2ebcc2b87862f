"""A head: what turns a frozen model's vectors into shorter ones in which images of the same label lie together.

It compares a vector block by block with landmarks, vectors of training images, and projects what comes out. Numpy only,
so that it runs on stored vectors without any network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from radsearch.study import Vectors

_BLOCK_ROWS = 1024  # vectors at once: their kernel with the landmarks is in memory


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Landmarks and a projection.

    parts: lengths of a vector's blocks. landmarks: (landmarks, base dimension) float32, each block of unit length.
    widths: (blocks,) squared distances over which the likeness of two blocks falls to 1/e. projection: (landmarks,
    dimension). offset: (dimension,). outputs, shares: lengths of the parts of the vectors that it gives, and how much
    of the likeness of two of them each part is.
    """

    parts: tuple[int, ...]
    landmarks: Vectors
    widths: Vectors
    projection: Vectors
    offset: Vectors
    outputs: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def dimension(self) -> int:
        """Length of the vectors that it gives."""
        return int(self.projection.shape[1])

    def apply(self, vectors: Vectors) -> Vectors:
        """(n, base dimension) of any length -> (n, dimension) float32 of unit length."""
        found = np.empty((len(vectors), self.dimension), np.float32)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            some = slice(start, start + _BLOCK_ROWS)
            found[some] = self.of_likeness(likeness(vectors[some], self.landmarks, self.parts, self.widths))
        return found

    def of_likeness(self, likeness_to: NDArray[np.floating]) -> Vectors:
        """(n, landmarks) likeness to the landmarks -> (n, dimension) float32 of unit length."""
        projected = (likeness_to @ self.projection + self.offset).astype(np.float32)
        shares = np.repeat(np.sqrt(self.shares), self.outputs).astype(np.float32)
        return unit_blocks(projected, self.outputs) * shares


def unit_blocks(vectors: Vectors, parts: Sequence[int]) -> Vectors:
    """(n, dimension) -> the same with each block of unit length; a block of zeros stays.

    Args:
        vectors: of any length.
        parts: lengths of the blocks, which add up to the dimension.
    """
    starts = np.cumsum((0, *parts[:-1]))
    squares = np.add.reduceat(np.square(vectors, dtype=np.float64), starts, axis=1)
    lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
    return cast("Vectors", (vectors / np.repeat(lengths, parts, axis=1)).astype(np.float32))


def likeness(vectors: Vectors, landmarks: Vectors, parts: Sequence[int], widths: Vectors) -> Vectors:
    """(n, landmarks) float32 from 0 to 1: the mean over the blocks of `exp(-|a - b|^2 / width)`.

    Args:
        vectors: (n, dimension), of any length.
        landmarks: (landmarks, dimension), each block of unit length.
        parts: lengths of the blocks.
        widths: (blocks,).

    Source: Gonen and Alpaydin, Multiple kernel learning algorithms, JMLR 2011: a sum of kernels with equal weights.
    """
    found = np.zeros((len(vectors), len(landmarks)), np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        some = unit_blocks(vectors[start : start + _BLOCK_ROWS], parts)
        for place, of_block in blockwise(some, landmarks, parts):
            found[start : start + len(some)] += np.exp(-of_block / widths[place])
    return cast("Vectors", found / np.float32(len(parts)))


def blockwise(some: Vectors, others: Vectors, parts: Sequence[int]) -> "list[tuple[int, Vectors]]":
    """The number of each block and its (n, m) squared distances; blocks have unit length or are zero."""
    found = []
    begin = 0
    for place, length in enumerate(parts):
        one, other = some[:, begin : begin + length], others[:, begin : begin + length]
        begin += length
        squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * (one @ other.T)
        found.append((place, np.maximum(squared, 0.0)))
    return found
