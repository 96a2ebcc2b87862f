"""Points, queries and exact answers for search_scale.py, drawn around real embeddings.

Random vectors have as many dimensions as they have numbers, and no index can help them; embeddings of images lie near a
surface of far fewer. So each point is a mixture of a real image and its nearest neighbours, with a little noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsearch.study import Vectors

HITS = 10
_MODEL = "efficientnet-lite0"
_IMAGES_AT_ONCE = 64
_BLOCK = 20_000
_WEIGHTS = (2, 1, 1, 1)  # of an image and its three nearest neighbours in a mixture (Dirichlet)
_NOISE = 0.25  # its norm, beside vectors of unit length

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a filter that keeps one of `parts` equal regions of the space.

    opposite: the region is not the query's own but the one half a tour away.
    """

    parts: int = 1
    opposite: bool = False

    @property
    def name(self) -> str:
        if self.parts == 1:
            return "no filter"
        return f"{100 / self.parts:g} %, {'the far side' if self.opposite else 'around the query'}"


ROWS = (Row(), *(Row(parts, opposite) for opposite in (False, True) for parts in (2, 10, 100, 1000)))


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What is indexed; a point's number is its place in the file.

    file: a .npy of (count, dimension) float32 vectors of unit length.
    ranks: (count,) each point's place in the order of the tour, so that a block of ranks is a region of the space.
    """

    file: Path
    ranks: Numbers

    @property
    def dimension(self) -> int:
        return int(np.load(self.file, mmap_mode="r").shape[1])

    def blocks(self) -> Iterator[tuple[int, Vectors]]:
        """Number of the first point, vectors. The file is mapped for a block only: its pages are nobody's memory."""
        for start in range(0, len(self.ranks), _BLOCK):
            yield start, np.array(np.load(self.file, mmap_mode="r")[start : start + _BLOCK])

    def labels(self, parts: int) -> Numbers:
        """(count,) which of so many equal blocks of ranks each point lies in."""
        return self.ranks * parts // len(self.ranks)


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """What is asked.

    vectors: (count, dimension) float32 of unit length, drawn as the points are but none of them.
    wanted: (rows, count) the block that each row's filter keeps.
    truth: (rows, count, 10) numbers of the nearest points that pass it, -1 where there are fewer.
    """

    vectors: Vectors
    wanted: Numbers
    truth: Numbers

    def part(self, some: slice) -> "Queries":
        return Queries(self.vectors[some], self.wanted[:, some], self.truth[:, some])


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The real images.

    anchors: (images, dimension) float32 of unit length.
    places: (images,) where each stands in a tour that goes from an image to its nearest one.
    neighbours: (images, 4) each image and its three nearest.
    """

    anchors: Vectors
    places: Numbers
    neighbours: Numbers

    def draw(self, count: int, seed: int) -> Iterator[tuple[Vectors, NDArray[np.float64]]]:
        """Blocks of new vectors, float32 of unit length, and of their places in the tour."""
        random = np.random.default_rng(seed)
        dimension = self.anchors.shape[1]
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            base = random.integers(0, len(self.anchors), size)
            weights = random.dirichlet(_WEIGHTS, size).astype(np.float32)
            vectors = random.standard_normal((size, dimension), dtype=np.float32) * np.float32(_NOISE / dimension**0.5)
            for weight, neighbour in zip(weights.T, self.neighbours[base].T, strict=True):
                vectors += weight[:, np.newaxis] * self.anchors[neighbour]
            yield _unit(vectors), self.places[base] + random.random(size)


def make(space: Space, file: Path, points: int, queries: int) -> tuple[Points, Queries]:
    """Draw points into a file, draw queries, and find their exact answers."""
    drawn = np.lib.format.open_memmap(file, "w+", np.float32, (points, space.anchors.shape[1]))
    places = np.empty(points)
    start = 0
    for vectors, there in space.draw(points, seed=0):
        drawn[start : start + len(vectors)], places[start : start + len(vectors)] = vectors, there
        start += len(vectors)
    drawn.flush()
    ranks = np.empty(points, np.int64)
    ranks[places.argsort()] = np.arange(points)
    made = Points(file, ranks)
    asked, where = (np.concatenate(column) for column in zip(*space.draw(queries, seed=1), strict=True))
    own_ranks = np.minimum(np.searchsorted(np.sort(places), where), points - 1)
    wanted = np.stack([_wanted(row, own_ranks, points) for row in ROWS])
    return made, Queries(asked, wanted, exact_hits(made, asked, wanted))


def _wanted(row: Row, ranks: Numbers, points: int) -> Numbers:
    own = ranks * row.parts // points
    return (own + row.parts // 2) % row.parts if row.opposite else own


def exact_hits(points: Points, queries: Vectors, wanted: Numbers) -> Numbers:
    """The ten of highest cosine among the points that each row's filter keeps, in any order; see `Queries`."""
    shape = (len(ROWS), len(queries), HITS)
    best, hits = np.full(shape, -np.inf, np.float32), np.full(shape, -1)
    labels = {row.parts: points.labels(row.parts) for row in ROWS}
    for start, vectors in points.blocks():
        cosines = queries @ vectors.T
        for at, row in enumerate(ROWS):
            there = labels[row.parts][start : start + len(vectors)]
            for block in np.unique(wanted[at]):
                asking, kept = np.flatnonzero(wanted[at] == block), np.flatnonzero(there == block)
                numbers = np.broadcast_to(start + kept, (len(asking), len(kept)))
                scores = np.concatenate((best[at, asking], cosines[np.ix_(asking, kept)]), axis=1)
                candidates = np.concatenate((hits[at, asking], numbers), axis=1)
                top = np.argpartition(scores, -HITS)[:, -HITS:]
                best[at, asking] = np.take_along_axis(scores, top, axis=1)
                hits[at, asking] = np.take_along_axis(candidates, top, axis=1)
    return hits


def recall(found: Sequence[Sequence[int]], truth: Numbers) -> float:
    """Share of the exact hits that were found, over all queries; where a filter keeps fewer than ten, of those."""
    exact = [set(some.tolist()) - {-1} for some in truth[: len(found)]]
    hits = sum(len(true.intersection(some)) for some, true in zip(found, exact, strict=True))
    return hits / sum(map(len, exact))


def real_vectors(corpus: Path) -> Vectors:
    """All images of CORPUS/images -> (images, 1280) float32 vectors of EfficientNet-Lite0."""
    from radsearch.models import built_in_models
    from radsearch.models.base import load_model
    from radsearch.privacy import Pseudonymizer
    from radsearch.reading import read
    from radsearch.rendering import render

    folder = corpus / "images"
    if not folder.is_dir():
        raise SystemExit(f"there is no folder {folder}: name the development corpus with --corpus")
    embedder = load_model(built_in_models()[_MODEL], device="cpu")
    pseudonymizer = Pseudonymizer(bytes(32))
    files = sorted(folder.iterdir())
    vectors = []
    for start in range(0, len(files), _IMAGES_AT_ONCE):
        some = files[start : start + _IMAGES_AT_ONCE]
        vectors.append(embedder.embed_images(render(image) for file in some for image in read(file, pseudonymizer)))
    return np.concatenate(vectors)


def space_of(real: Vectors, dimension: int) -> Space:
    """Reduce real vectors to their `dimension` strongest principal components."""
    centred = real - real.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    if dimension >= len(components):
        raise SystemExit(f"{len(real)} images span fewer than {dimension} dimensions: take a smaller --dimension")
    anchors = _unit(centred @ components[:dimension].T)
    cosines = anchors @ anchors.T
    nearest = np.argsort(-cosines, axis=1)[:, : len(_WEIGHTS)]
    return Space(anchors, _places_in_tour(cosines), nearest)


def _places_in_tour(cosines: NDArray[np.float32]) -> Numbers:
    """Go from image to nearest unvisited image, from the first one on."""
    places = np.full(len(cosines), -1)
    here = 0
    for place in range(len(cosines)):
        places[here] = place
        here = int(np.where(places < 0, cosines[here], -np.inf).argmax())
    return places


def _unit(vectors: NDArray[Any]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
