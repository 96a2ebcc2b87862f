"""The engines that search_scale.py compares, each behind the same few methods: ours and its peers.

All compare by inner product of unit vectors, and the peers' graphs are built with the links and candidates of ours. The
libraries of the peers are no dependency of radsearch.
"""

import importlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, cast

import numpy as np
from scale_data import HITS, Numbers, Points

from radsearch.index import IndexedImage, open_index
from radsearch.index.effort import GRAPH_CANDIDATES, GRAPH_LINKS
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter, Vectors

THREADS = 2
_PARTS = (2, 10, 100, 1000)
_BATCH = 256  # as an ingest writes (ingest.pipeline)


@dataclass(slots=True)
class Clock:
    """Seconds of a build by what they were spent on: `insert` or `index`."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        begun = perf_counter()
        yield
        self.seconds[what] += perf_counter() - begun


class Side(ABC):
    """One engine. A process builds, another one opens what was built and searches.

    package: what is to be installed. efforts: values of the parameter that trades speed for recall, ascending;
    `effort_words` says one.
    """

    package: ClassVar[str]
    module: ClassVar[str]
    effort_words: ClassVar[str] = "ef {}"

    def __init__(self, folder: Path, points: Points) -> None:
        self.folder = folder
        self.points = points
        self.library: Any = importlib.import_module(self.module)

    @property
    @abstractmethod
    def efforts(self) -> Sequence[Any]:
        """What the tuning may choose from."""

    @abstractmethod
    def build(self, clock: Clock) -> None:
        """Index all points and bring them to disk, below the folder."""

    @abstractmethod
    def open(self) -> None:
        """Make ready to search what was built."""

    @abstractmethod
    def where(self, parts: int, block: int) -> Any:
        """The filter that keeps a block, as the engine wants it; made before the clock starts."""

    @abstractmethod
    def search(self, query: Vectors, where: Any, effort: Any) -> Sequence[int]:
        """Numbers of the ten nearest points that pass the filter."""

    def close(self) -> None:  # noqa: B027 -- most have nothing to do
        """Let go of what was opened."""


class RadSearch(Side):
    """Our own index, through its public interface and as it is: it has nothing to tune."""

    package = "qdrant-edge-py"
    module = "qdrant_edge"
    effort_words = ""
    efforts = (None,)
    storage: ClassVar[dict[str, Any]] = {}

    def build(self, clock: Clock) -> None:
        labels = np.stack([self.points.labels(parts) for parts in _PARTS], axis=1)
        fingerprint = Fingerprint("drawn", "none", self.points.dimension, "none", "float32", 1)
        with open_index(self._settings(), create_for=[fingerprint]) as index:
            index.admit([fingerprint], "no pseudonyms")
            for first, vectors in self.points.blocks():
                images = [
                    IndexedImage(f"00000000-0000-0000-0000-{number:012x}", {"drawn": vector}, _payload(labels[number]))
                    for number, vector in enumerate(vectors, first)
                ]
                with clock.on("insert"):
                    for start in range(0, len(images), _BATCH):
                        index.write(images[start : start + _BATCH])
            with clock.on("index"):
                index.finish()

    def open(self) -> None:
        self._index = open_index(self._settings())

    def where(self, parts: int, block: int) -> SearchFilter:
        value = (str(block),)
        filters = (
            SearchFilter(),
            SearchFilter(modality=value),
            SearchFilter(region=value),
            SearchFilter(dataset=value),
            SearchFilter(pathology=value),
        )
        return dict(zip((1, *_PARTS), filters, strict=True))[parts]

    def search(self, query: Vectors, where: SearchFilter, effort: None) -> Sequence[int]:  # noqa: ARG002 -- it has none
        return [int(hit.id[-12:], 16) for hit in self._index.nearest({"drawn": query}, where, HITS)]

    def close(self) -> None:
        self._index.close()

    def _settings(self) -> Settings:
        return replace(Settings(index=str(self.folder / "index")), **self.storage)


class RadSearchInt8(RadSearch):
    """The same with codes of a byte a number."""

    storage: ClassVar[dict[str, Any]] = {"quantization": "int8"}


class RadSearchWhole(RadSearch):
    """The same without codes."""

    storage: ClassVar[dict[str, Any]] = {"quantization": "none"}


class RadSearchFloat16(RadSearch):
    """The same with whole vectors of half the length."""

    storage: ClassVar[dict[str, Any]] = {"vectors": "float16"}


def _payload(labels: Numbers) -> dict[str, Any]:
    modality, region, dataset, pathology = (str(label) for label in labels)
    return {"modality": modality, "region": region, "dataset": dataset, "pathology": [pathology]}


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
        columns = {f"part_{parts}": arrow.int32() for parts in _PARTS}
        vector = arrow.list_(arrow.float32(), self.points.dimension)
        schema = arrow.schema({"id": arrow.int64(), "vector": vector, **columns})
        labels = [self.points.labels(parts) for parts in _PARTS]
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
