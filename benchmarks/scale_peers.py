"""The peers that search_scale.py compares with our index. Their libraries are no dependency of radsearch.

All compare by inner product of unit vectors, and their graphs are built with the links and candidates of ours.
"""

import importlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scale_data import HITS
from scale_sides import (
    PARTS,
    THREADS,
    Clock,
    RadSearch,
    RadSearchFloat16,
    RadSearchInt8,
    RadSearchWhole,
    Side,
)

from radsearch.index.effort import GRAPH_CANDIDATES, GRAPH_LINKS
from radsearch.study import Vectors


class _Faiss(Side):
    """What FAISS's two indexes share."""

    package = "faiss-cpu"
    module = "faiss"

    def build(self, clock: Clock) -> None:
        self.library.omp_set_num_threads(THREADS)
        index = self._empty(clock)
        for _, vectors in self.points.blocks():
            with clock.on("insert"):
                index.add(vectors)
        with clock.on("index"):
            self.library.write_index(index, str(self.folder / "index"))

    def open(self) -> None:
        self.library.omp_set_num_threads(1)
        self._index = self.library.read_index(str(self.folder / "index"))

    def where(self, parts: int, block: int) -> Any:
        if parts == 1:
            return None
        bits = np.packbits(self.points.labels(parts) == block, bitorder="little")
        return self.library.IDSelectorBitmap(bits)

    def search(self, query: Vectors, where: Any, effort: int) -> Sequence[int]:
        _, found = self._index.search(query[np.newaxis], HITS, params=self._parameters(where, effort))
        return cast("Sequence[int]", found[0].tolist())

    @abstractmethod
    def _empty(self, clock: Clock) -> Any:
        """An index without points."""

    @abstractmethod
    def _parameters(self, where: Any, effort: int) -> Any:
        """Of one search."""


class FaissGraph(_Faiss):
    """FAISS, HNSW over whole vectors; the filter is a bitmap."""

    efforts = tuple(1 << power for power in range(4, 13))

    def _empty(self, clock: Clock) -> Any:  # noqa: ARG002 -- nothing to train
        index = self.library.IndexHNSWFlat(self.points.dimension, GRAPH_LINKS, self.library.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = GRAPH_CANDIDATES
        return index

    def _parameters(self, where: Any, effort: int) -> Any:
        return self.library.SearchParametersHNSW(efSearch=effort, sel=where)


class FaissLists(_Faiss):
    """FAISS, inverted lists over whole vectors, 4 sqrt(n) of them (its wiki's advice); the filter is a bitmap."""

    effort_words = "nprobe {}"
    _sample = 40  # points a list for the training, which asks for 39

    @property
    def _lists(self) -> int:
        return int(4 * len(self.points.ranks) ** 0.5)

    @property
    def efforts(self) -> Sequence[int]:
        """The last one visits every list: an exact search of the points that pass the filter."""
        return (*(1 << power for power in range(10) if 1 << power < self._lists), self._lists)

    def _empty(self, clock: Clock) -> Any:
        metric = self.library.METRIC_INNER_PRODUCT
        quantizer = self.library.IndexFlatIP(self.points.dimension)
        index = self.library.IndexIVFFlat(quantizer, self.points.dimension, self._lists, metric)
        wanted = self._lists * self._sample  # points have no order, so that the first ones are as good as any
        sample = np.concatenate(
            [vectors[: wanted - first] for first, vectors in self.points.blocks() if first < wanted]
        )
        with clock.on("index"):
            index.train(sample)
        self._quantizer = quantizer  # the index has only a pointer to it
        return index

    def _parameters(self, where: Any, effort: int) -> Any:
        return self.library.SearchParametersIVF(nprobe=effort, sel=where)


class Hnswlib(Side):
    """hnswlib; the filter is a function that it calls for every point that it meets."""

    package = "hnswlib"
    module = "hnswlib"
    efforts = FaissGraph.efforts

    def build(self, clock: Clock) -> None:
        index = self.library.Index("ip", self.points.dimension)
        index.init_index(len(self.points.ranks), M=GRAPH_LINKS, ef_construction=GRAPH_CANDIDATES)
        for first, vectors in self.points.blocks():
            with clock.on("insert"):
                index.add_items(vectors, np.arange(first, first + len(vectors)), num_threads=THREADS)
        with clock.on("index"):
            index.save_index(str(self.folder / "index"))

    def open(self) -> None:
        self._index = self.library.Index("ip", self.points.dimension)
        self._index.load_index(str(self.folder / "index"))

    def where(self, parts: int, block: int) -> frozenset[int] | None:
        return None if parts == 1 else frozenset(np.flatnonzero(self.points.labels(parts) == block).tolist())

    def search(self, query: Vectors, where: frozenset[int] | None, effort: int) -> Sequence[int]:
        self._index.set_ef(effort)
        hits = HITS if where is None else min(HITS, len(where))
        keeps = None if where is None else where.__contains__
        try:
            found, _ = self._index.knn_query(query, hits, num_threads=1, filter=keeps)
        except RuntimeError as error:
            if "contiguous 2D array" not in str(error):
                raise
            return ()  # it met fewer points that pass than were wanted, and hands out none of them
        return cast("Sequence[int]", found[0].tolist())


class LanceDB(Side):
    """LanceDB, its default IVF-PQ with whole vectors for the refining; the filter is a clause on indexed columns."""

    package = "lancedb"
    module = "lancedb"
    effort_words = "nprobes {0[0]}, refine {0[1]}"
    efforts = ((1, 1), (5, 5), (10, 10), (20, 10), (20, 20), (50, 20), (50, 50), (100, 100), (200, 200))

    def build(self, clock: Clock) -> None:
        arrow: Any = importlib.import_module("pyarrow")
        columns = {f"part_{parts}": arrow.int32() for parts in PARTS}
        vector = arrow.list_(arrow.float32(), self.points.dimension)
        schema = arrow.schema({"id": arrow.int64(), "vector": vector, **columns})
        labels = [self.points.labels(parts) for parts in PARTS]
        table = self.library.connect(self.folder).create_table("points", schema=schema)
        for first, vectors in self.points.blocks():
            numbers = np.arange(first, first + len(vectors))
            with clock.on("insert"):
                rows = arrow.FixedSizeListArray.from_arrays(vectors.ravel(), self.points.dimension)
                table.add(arrow.table([numbers, rows, *(of[numbers] for of in labels)], schema=schema))
        with clock.on("index"):
            for name in columns:
                table.create_index(name, config=self.library.index.Bitmap())
            table.create_index("vector", config=self.library.index.IvfPq(distance_type="dot"))

    def open(self) -> None:
        self._table = self.library.connect(self.folder).open_table("points")

    def where(self, parts: int, block: int) -> str | None:
        return None if parts == 1 else f"part_{parts} = {block}"

    def search(self, query: Vectors, where: str | None, effort: tuple[int, int]) -> Sequence[int]:
        lists, refine = effort
        asked = self._table.search(query).distance_type("dot").nprobes(lists).refine_factor(refine).limit(HITS)
        if where:
            asked = asked.where(where, prefilter=True)
        return cast("Sequence[int]", asked.select(["id", "_distance"]).to_arrow()["id"].to_pylist())


SIDES: dict[str, type[Side]] = {
    "radsearch": RadSearch,
    "radsearch-int8": RadSearchInt8,
    "radsearch-whole": RadSearchWhole,
    "radsearch-float16": RadSearchFloat16,
    "faiss-hnsw": FaissGraph,
    "faiss-ivf": FaissLists,
    "hnswlib": Hnswlib,
    "lancedb": LanceDB,
}
