"""Several GPUs: a process each that holds the models, so that none waits for another's Python.

The processes are those of `reading.isolation`, without its limits: one that is lost is replaced and its batch embedded
again.
"""

import functools
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from radsearch.errors import ModelUnavailableError, OutOfDeviceMemoryError, RadSearchError
from radsearch.models.spec import ModelSpec, Precision
from radsearch.reading.isolation import CRASHED, KILLED, IsolatedPool, Limits, Pending, Refusal
from radsearch.study import Fingerprint, Picture, Vectors

if TYPE_CHECKING:
    from radsearch.models.base import Embedder

_NO_LIMITS = Limits(seconds=0, memory_mb=0)
_IN_FLIGHT = 2  # batches a device: one is computed while the next is on its way to it
_OF_THE_DEVICE = (OutOfDeviceMemoryError, ModelUnavailableError)  # another one may do better
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddingOrder:
    """What a process needs to know: the device that is its own, and how to load a model on it."""

    device: str
    models_folder: Path | None
    batch: int
    text_blanked: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingWork:
    """Pictures for one model; `prepared` where they went through `prepare`; `probe` for the test card instead."""

    spec: ModelSpec
    fingerprint: Fingerprint
    pictures: Sequence[Picture] = ()
    prepared: bool = False
    probe: bool = False


def embed(order: EmbeddingOrder, work: EmbeddingWork) -> Vectors | RadSearchError:
    """Runs in the process. An error that the caller has to deal with is its result."""
    try:
        embedder = _load(order, work.spec, cast("Precision", work.fingerprint.precision))
        require_same(work.fingerprint, embedder.fingerprint)
        if work.probe:
            return embedder.probe()
        return embedder.embed_prepared(work.pictures) if work.prepared else embedder.embed_images(work.pictures)
    except RadSearchError as error:
        return error


def require_same(wanted: Fingerprint, loaded: Fingerprint) -> None:
    """Raises ModelUnavailableError where somebody has replaced a model's weights since a run began."""
    if loaded != wanted:
        differences = "; ".join(wanted.differences(loaded))
        raise ModelUnavailableError(f"{wanted.model} has changed since this run began: {differences}")


@functools.cache
def _load(order: EmbeddingOrder, spec: ModelSpec, precision: Precision) -> "Embedder":
    from radsearch.models.base import load_model

    return load_model(
        spec,
        models_folder=order.models_folder,
        device=order.device,
        batch=order.batch,
        precision=precision,
        text_blanked=order.text_blanked,
    )


@dataclass(slots=True, eq=False)
class _Device:
    """A device with its process, and how many batches it has."""

    name: str
    pool: IsolatedPool[EmbeddingOrder]
    busy: int = 0

    def begin(self, work: EmbeddingWork) -> "Pending[Vectors | RadSearchError]":
        """Have its process do it."""
        pending: Pending[Vectors | RadSearchError] = self.pool.begin(embed, [work])
        return pending


class DeviceProcesses:
    """A process a device. Use it as a context manager."""

    def __init__(
        self, devices: Sequence[str], models_folder: Path | None, batch: int, *, text_blanked: bool = False
    ) -> None:
        self.batch = batch
        orders = [EmbeddingOrder(name, models_folder, batch, text_blanked) for name in devices]
        self._devices = [_Device(order.device, IsolatedPool(order, 1, _NO_LIMITS)) for order in orders]
        self._freed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The devices that work is given to."""
        return tuple(device.name for device in self._devices)

    def probe(self, work: EmbeddingWork) -> Vectors:
        """Have every device do it; those that cannot are named in the log and given no work any more.

        Raises:
            RadSearchError: none can; it is the first one's error.
        """
        asked = [(device, device.begin(work)) for device in self._devices]
        results = [(device, _result(work, pending)) for device, pending in asked]
        vectors = [result for _, result in results if not isinstance(result, RadSearchError)]
        failed = [(device, result) for device, result in results if isinstance(result, RadSearchError)]
        if not vectors:
            raise failed[0][1]
        for device, error in failed:
            _log.warning("%s is left out of this run: %s", device.name, error)
        with self._freed:
            self._devices = [device for device in self._devices if device not in [one for one, _ in failed]]
        for device, _ in failed:
            device.pool.close()
        return vectors[0]

    def embed(self, work: EmbeddingWork) -> Vectors:
        """Have the next free device do it; another one where the first has not the memory, or lost its process.

        Raises:
            RadSearchError: what the model raised on the last of them, or a process is lost again and again.
        """
        tried: list[_Device] = []
        failure = RadSearchError("there is no device to embed on")
        while True:
            with self._next(tried) as device:
                if device is None:
                    raise failure
                result = _result(work, device.begin(work))
            if not isinstance(result, RadSearchError):
                return result
            if not isinstance(result, _OF_THE_DEVICE):
                raise result
            tried.append(device)
            failure = result

    @contextmanager
    def _next(self, tried: Sequence[_Device]) -> Iterator[_Device | None]:
        """The least busy device of those that were not tried yet; None where all were."""
        with self._freed:
            while True:
                device = min((one for one in self._devices if one not in tried), key=lambda one: one.busy, default=None)
                if device is None or device.busy < _IN_FLIGHT:
                    break
                self._freed.wait()
            if device is not None:
                device.busy += 1
        if device is None:
            yield None
            return
        try:
            yield device
        finally:
            with self._freed:
                device.busy -= 1
                self._freed.notify_all()

    def close(self) -> None:
        """End the processes."""
        for device in self._devices:
            device.pool.close()


def _result(work: EmbeddingWork, pending: Pending[Vectors | RadSearchError]) -> Vectors | RadSearchError:
    """What came of it; a process that is lost, or does not start, is a model that is not available there."""
    try:
        (result,) = pending.results()
    except (RadSearchError, OSError) as error:
        return ModelUnavailableError(f"the process for {work.spec.name} failed: {error}")
    if not isinstance(result, Refusal):
        return result
    if result.reason in (KILLED, CRASHED):
        return ModelUnavailableError(
            f"the process that embeds with {work.spec.name} was lost twice in a row; the host may be short of memory"
        )
    return RadSearchError(f"the process that embeds with {work.spec.name} failed: {result.reason}")


class ManyDeviceEmbedder:
    """One model on all the devices; what an ingest needs of an `Embedder`.

    Call it from more threads than there are devices, so that each has its next batch before it is done with the first.
    """

    def __init__(self, spec: ModelSpec, processes: DeviceProcesses, fingerprint: Fingerprint) -> None:
        from radsearch.models.base import usual_batch

        self.spec = spec
        self.fingerprint = fingerprint
        self.takes_pictures = not processes.names[0].startswith("cpu")
        self.batch = processes.batch or usual_batch(spec, on_cpu=not self.takes_pictures)
        self._processes = processes

    def probe(self) -> Vectors:
        """As `Embedder.probe`, on all of the devices."""
        return self._processes.probe(EmbeddingWork(self.spec, self.fingerprint, probe=True))

    def embed_images(self, pictures: Iterable[Picture]) -> Vectors:
        """As `Embedder.embed_images`."""
        return self._processes.embed(EmbeddingWork(self.spec, self.fingerprint, list(pictures)))

    def embed_prepared(self, squares: Sequence[Picture]) -> Vectors:
        """As `Embedder.embed_prepared`."""
        return self._processes.embed(EmbeddingWork(self.spec, self.fingerprint, list(squares), prepared=True))
