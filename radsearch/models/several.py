"""Several GPUs: a process each that holds the models, so that none waits for another's Python.

The processes are those of `reading.isolation`, without its limits: one that is lost is replaced and its batch embedded
again.
"""

import functools
import queue
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from radsearch.errors import RadSearchError
from radsearch.models.spec import ModelSpec, Precision
from radsearch.models.weights import find_weights, fingerprint_of
from radsearch.reading.isolation import IsolatedPool, Limits, Pending, Refusal
from radsearch.study import Picture, Vectors

if TYPE_CHECKING:
    from radsearch.models.base import Embedder

_NO_LIMITS = Limits(seconds=0, memory_mb=0)


@dataclass(frozen=True, slots=True)
class EmbeddingOrder:
    """What a process needs to know: the device that is its own, and how to load a model on it."""

    device: str
    models_folder: Path | None
    batch: int


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingWork:
    """Pictures for one model; `prepared` where they went through `prepare`; `probe` for the test card instead."""

    spec: ModelSpec
    precision: Precision
    pictures: Sequence[Picture]
    prepared: bool
    probe: bool = False


def embed(order: EmbeddingOrder, work: EmbeddingWork) -> Vectors | RadSearchError:
    """Runs in the process. An error that the caller has to deal with is its result."""
    try:
        embedder = _load(order, work.spec, work.precision)
        if work.probe:
            return embedder.probe()
        return embedder.embed_prepared(work.pictures) if work.prepared else embedder.embed_images(work.pictures)
    except RadSearchError as error:
        return error


@functools.cache
def _load(order: EmbeddingOrder, spec: ModelSpec, precision: Precision) -> "Embedder":
    from radsearch.models.base import load_model

    return load_model(
        spec, models_folder=order.models_folder, device=order.device, batch=order.batch, precision=precision
    )


class DeviceProcesses:
    """A process a device. Use it as a context manager."""

    def __init__(self, devices: Sequence[str], models_folder: Path | None, batch: int) -> None:
        self.devices = tuple(devices)
        self._pools = [IsolatedPool(EmbeddingOrder(device, models_folder, batch), 1, _NO_LIMITS) for device in devices]
        self._free: queue.SimpleQueue[IsolatedPool[EmbeddingOrder]] = queue.SimpleQueue()
        for pool in self._pools:
            self._free.put(pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def embed(self, work: EmbeddingWork) -> Vectors:
        """Have the next free device do it. Raises what the model raised; RadSearchError where its process is lost."""
        pool = self._free.get()
        try:
            pending: Pending[Vectors | RadSearchError] = pool.begin(embed, [work])
            (result,) = pending.results()
        finally:
            self._free.put(pool)
        if isinstance(result, Refusal):
            raise RadSearchError(f"the process that embeds with {work.spec.name} failed: {result.reason}")
        if isinstance(result, RadSearchError):
            raise result
        return result

    def close(self) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.close()


class ManyDeviceEmbedder:
    """One model on all the devices; what an ingest needs of an `Embedder`. Call it from as many threads as devices."""

    def __init__(
        self,
        spec: ModelSpec,
        processes: DeviceProcesses,
        models_folder: Path | None,
        *,
        precision: Precision,
        batch: int,
    ) -> None:
        self.spec = spec
        self.fingerprint = fingerprint_of(spec, find_weights(spec, models_folder), precision)
        self.takes_pictures = not processes.devices[0].startswith("cpu")
        self.batch = batch
        self._precision = precision
        self._processes = processes

    def probe(self) -> Vectors:
        """As `Embedder.probe`, on one of the devices."""
        return self._processes.embed(EmbeddingWork(self.spec, self._precision, (), prepared=False, probe=True))

    def embed_images(self, pictures: Iterable[Picture]) -> Vectors:
        """As `Embedder.embed_images`."""
        return self._processes.embed(EmbeddingWork(self.spec, self._precision, list(pictures), prepared=False))

    def embed_prepared(self, squares: Sequence[Picture]) -> Vectors:
        """As `Embedder.embed_prepared`."""
        return self._processes.embed(EmbeddingWork(self.spec, self._precision, list(squares), prepared=True))
