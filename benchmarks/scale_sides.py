"""What search_scale.py asks of an engine, and our own index, as it is and in its other ways to keep vectors."""

import importlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from scale_data import HITS, Numbers, Points

from radsearch.index import IndexedImage, open_index
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter, Vectors

THREADS = 2
PARTS = (2, 10, 100, 1000)
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
        labels = np.stack([self.points.labels(parts) for parts in PARTS], axis=1)
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
        return dict(zip((1, *PARTS), filters, strict=True))[parts]

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
