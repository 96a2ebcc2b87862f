"""What runs in the worker processes: files -> identities, and files -> pictures resized for the models."""

import errno
import json
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from ingest.sources import SourceFile
from radsearch.errors import UnreadableImageError
from radsearch.index.schema import Payload, payload_of
from radsearch.models.preprocessing import prepare
from radsearch.models.table import Preprocessing
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify, read
from radsearch.rendering import render
from radsearch.study import FileIdentity, Picture

_READ_TRIES = 3
_READ_PAUSE_SECONDS = 0.5
_FINAL_FAULTS = {errno.ENOENT: "file is missing", errno.EACCES: "no permission to read the file"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that gave no picture, and why."""

    reason: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Identified:
    """A file's identity, and the hash of what the manifest and the options say of it."""

    identity: FileIdentity
    described: str


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """One frame, ready for the models: squares by preprocessing, and its payload but for `models`."""

    id: str
    payload: Payload
    squares: dict[Preprocessing, Picture]


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """A file to decode, after `identify_files`."""

    source: SourceFile
    identified: Identified


Identities: TypeAlias = "list[Identified | Refusal]"
DecodedFiles: TypeAlias = "list[list[DecodedImage] | Refusal]"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """What every worker needs to know."""

    pseudonymizer: Pseudonymizer
    preprocessings: tuple[Preprocessing, ...]


def identify_files(order: WorkOrder, files: Sequence[SourceFile]) -> Identities:
    """Identity of each file, or why it has none."""
    return [_with_patience(lambda file=file: _identify(order, file)) for file in files]  # type: ignore[misc]


def decode_files(order: WorkOrder, jobs: Sequence[DecodeJob]) -> DecodedFiles:
    """All frames of each file, or why it has none: a file with one damaged frame is refused as a whole."""
    return [_with_patience(lambda job=job: _decode(order, job)) for job in jobs]  # type: ignore[misc]


def _identify(order: WorkOrder, file: SourceFile) -> Identified:
    identity = identify(file.path, order.pseudonymizer, name=file.identity)
    said = json.dumps(asdict(file.said), sort_keys=True)
    return Identified(identity, order.pseudonymizer.pseudonym("described", said))


def _decode(order: WorkOrder, job: DecodeJob) -> list[DecodedImage]:
    decoded = []
    identity = job.identified.identity
    for read_image in read(job.source.path, order.pseudonymizer):
        facts = replace(read_image.facts.completed_by(job.source.said), instance=identity.instance)
        image = replace(read_image, facts=facts)
        picture = render(image)
        payload = payload_of(image, content=identity.content, described=job.identified.described, models=())
        squares = {how: prepare(picture, how) for how in order.preprocessings}
        decoded.append(DecodedImage(order.pseudonymizer.point_id(identity.instance, image.frame), payload, squares))
    return decoded


def _with_patience(work: Callable[[], _Result]) -> _Result | Refusal:
    """Try again where the disk or the network failed; refuse the file where it stays so."""
    for attempt in range(1, _READ_TRIES + 1):
        try:
            return work()
        except UnreadableImageError as error:
            return Refusal(error.reason, error.skipped)
        except MemoryError:
            return Refusal("picture too large")
        except OSError as error:
            if error.errno in _FINAL_FAULTS:
                return Refusal(_FINAL_FAULTS[error.errno])
            if attempt == _READ_TRIES:
                return Refusal(f"file cannot be read ({errno.errorcode.get(error.errno or 0, 'input/output error')})")
            time.sleep(_READ_PAUSE_SECONDS * attempt)
    raise AssertionError  # the loop returns


class Pending(Generic[_Item, _Result]):
    """Work on a few items in a worker process; `results` waits for it."""

    def __init__(self, pool: "DecodingPool", task: "Task[_Item, _Result]", items: Sequence[_Item]) -> None:
        self._pool, self._task, self.items = pool, task, items
        self._executor, self._future = pool.submit(task, items)

    def results(self) -> "list[_Result | Refusal]":
        """One result an item.

        Where the worker died, each item is tried once more alone, so that only the one that kills it is refused.
        """
        try:
            return list(self._future.result())
        except BrokenProcessPool:
            self._pool.replace(self._executor)
            return self._pool.run_one_by_one(self._task, self.items)


Task: TypeAlias = "Callable[[WorkOrder, Sequence[_Item]], list[_Result | Refusal]]"


class DecodingPool:
    """Worker processes that survive the death of one of them."""

    def __init__(self, order: WorkOrder, workers: int) -> None:
        self._order = order
        self._workers = workers
        self._lock = threading.Lock()
        self._executor = self._start(workers)
        for _ in range(workers):  # have them start now, while the model is loaded
            self._executor.submit(_wake)

    def begin(self, task: "Task[_Item, _Result]", items: Sequence[_Item]) -> Pending[_Item, _Result]:
        """Start work on a few items."""
        return Pending(self, task, items)

    def submit(
        self, task: "Task[_Item, _Result]", items: Sequence[_Item]
    ) -> "tuple[ProcessPoolExecutor, Future[list[_Result | Refusal]]]":
        """Hand work to the pool as it stands; a broken one is replaced first."""
        with self._lock:
            try:
                return self._executor, self._executor.submit(task, self._order, items)
            except BrokenProcessPool:
                self._executor = self._start(self._workers)
                return self._executor, self._executor.submit(task, self._order, items)

    def replace(self, broken: ProcessPoolExecutor) -> None:
        """Start a new pool in the place of a broken one, once."""
        with self._lock:
            if self._executor is broken:
                self._executor = self._start(self._workers)
        broken.shutdown(wait=False)

    def run_one_by_one(self, task: "Task[_Item, _Result]", items: Sequence[_Item]) -> "list[_Result | Refusal]":
        """Work on the items one after the other in a process apart; those that kill it are refused."""
        results: list[_Result | Refusal] = []
        alone = self._start(1)
        for item in items:
            try:
                results += alone.submit(task, self._order, [item]).result()
            except BrokenProcessPool:
                alone = self._start(1)
                results.append(Refusal("the decoder crashed"))
        alone.shutdown()
        return results

    def close(self) -> None:
        """Stop the workers."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _start(workers: int) -> ProcessPoolExecutor:
        # spawn: a forked child of a process with threads (torch, Prefect) may hang
        return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_worker)


def _wake() -> None:
    """Nothing: what a worker imports to find this function is what takes time."""


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
