"""The pipeline: identify, leave out what the index holds, decode in worker processes, embed, write, account.

Memory is bounded: a few chunks of files are on their way at any time, each with a few small batches decoded ahead.
Decoding (worker processes), embedding (one chunk's thread) and writing (another's) overlap.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from ingest.decoding import (
    DecodedImage,
    DecodeJob,
    Identified,
    WorkOrder,
    decode_file,
    identify_file,
)
from ingest.embedding import Embedding
from ingest.forbidden import Forbidden
from ingest.planning import Job, Wanted, by_size, plan, stored_of
from ingest.report import Accounts, FileOutcome
from ingest.sources import SourceFile
from radsearch.catalogue import catalogue_of
from radsearch.errors import EmbeddingError, OutOfDeviceMemoryError, RadSearchError
from radsearch.index import Index, IndexedImage, Stored
from radsearch.models import ModelSpec
from radsearch.models.devices import expected_gpus
from radsearch.privacy import Pseudonymizer
from radsearch.reading import choice_of
from radsearch.reading.isolation import IsolatedPool, Refusal, limits_of
from radsearch.rendering import text_policy_of
from radsearch.settings import Settings, usable_cores
from radsearch.study import Vectors
from radsearch.thumbnails import thumbnails_of

CHUNK_FILES = 256  # files that are embedded and written together; also what one Prefect task takes
CHUNKS_IN_FLIGHT = 3  # one decodes, one embeds, one is written; two more for each further GPU
_IDENTIFY_FILES = 64
_IDENTIFY_AHEAD = 4
_NO_VECTOR = "the model gave no usable vector"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is embedded and written together; `number` counts from 1."""

    number: int
    jobs: tuple[Job, ...]


class Ingestion:
    """One run over one archive. Use it as a context manager; `chunks` and `ingest_chunk` share its workers."""

    def __init__(
        self,
        index: Index,
        models: Sequence[ModelSpec],
        settings: Settings,
        pseudonymizer: Pseudonymizer,
        *,
        embedding: Embedding | None = None,
    ) -> None:
        """Args: embedding: of the same models, where it is there already."""
        self.accounts = Accounts()
        self._index = index
        self._thumbnails = thumbnails_of(settings)
        self._catalogue = catalogue_of(settings)
        self._wanted = Wanted(frozenset(model.name for model in models), self._thumbnails is not None)
        self._pseudonymizer = pseudonymizer
        self._policy = text_policy_of(settings)
        self._forbidden = Forbidden(index)
        preprocessings = tuple(dict.fromkeys(model.preprocessing for model in models))
        workers = settings.workers or max(1, usable_cores() - 1)
        self._decode_ahead = workers + 1
        gpus = expected_gpus(settings.device)
        self.chunks_in_flight = CHUNKS_IN_FLIGHT + 2 * max(0, gpus - 1)
        order = WorkOrder(
            pseudonymizer,
            preprocessings,
            choice_of(settings),
            pictures_travel=gpus > 0,
            thumbnails=self._wanted.thumbnails,
            policy=self._policy,
        )
        self._pool = IsolatedPool(order, workers, limits_of(settings))
        self.embedding = embedding or Embedding(models, settings, index.card.models)
        self.catalogue_fault: RadSearchError | None = None  # why places were not kept (any more)
        self.known_only = False  # whether files that the index does not hold yet are left out
        self._handed_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()
        self.embedding.close()
        self.accounts.close()

    def stop(self) -> None:
        """Read no more files: chunks under way end after what they are embedding now."""
        self._pool.close()

    def passes(self, files: Callable[[], Iterable[SourceFile]]) -> Iterator[Iterator[Chunk]]:
        """The chunks of each pass over the files; all of a pass are to be ingested before the next one is asked for.

        There is one pass, and further ones only for files whose SOP Instance UID was taken by an unreadable copy.
        """
        yield self._chunks(enumerate(files()))
        while again := self.accounts.second_chances():
            yield self._chunks((position, file) for position, file in enumerate(files()) if position in again)
        self.accounts.images_taken_out += self._forbidden.take_out_the_rest()

    def _chunks(self, files: Iterator[tuple[int, SourceFile]]) -> Iterator[Chunk]:
        """Go through the files in their order and hand out those that have to be embedded.

        All others (unreadable, met twice, unchanged) are accounted for on the way.
        """
        todo: list[Job] = []
        for batch in self._identified(files):
            todo.extend(self._to_embed(batch))
            while len(todo) >= CHUNK_FILES:
                yield self._chunk(todo[:CHUNK_FILES])
                del todo[:CHUNK_FILES]
        if todo:
            yield self._chunk(todo)

    def _chunk(self, jobs: Sequence[Job]) -> Chunk:
        self._handed_out += 1
        return Chunk(self._handed_out, tuple(jobs))

    def ingest_chunk(self, chunk: Chunk) -> int:
        """Decode, embed and write a chunk; account for each file when its images are stored.

        It may be run again after a failure: points are written by id and files accounted for by position, so
        nothing comes twice.

        Returns:
            The number of images written.
        """
        written = 0
        waiting: list[tuple[Job, list[DecodedImage]]] = []
        for job, decoded in self._decoded(chunk.jobs):
            if isinstance(decoded, Refusal):
                self.accounts.record([_left_out(job.position, job.decode.source, decoded)])
                continue
            waiting.append((job, decoded))
            if sum(len(images) for _, images in waiting) >= self.embedding.at_once:
                written += self._store(waiting)
                waiting = []
        return written + self._store(waiting)

    def _store(self, decoded: Sequence[tuple[Job, list[DecodedImage]]]) -> int:
        outcomes = self._embed_and_write(decoded) if decoded else []
        self.accounts.record(outcomes)
        return sum(outcome.images for outcome in outcomes)

    def _identified(
        self, numbered: Iterator[tuple[int, SourceFile]]
    ) -> Iterator[list[tuple[int, SourceFile, Identified | Refusal]]]:
        """Files with their identities, in order, a few batches ahead of the caller."""
        under_way: deque[tuple[list[tuple[int, SourceFile]], Callable[[], list[Identified | Refusal]]]] = deque()
        exhausted = False
        while under_way or not exhausted:
            while not exhausted and len(under_way) < _IDENTIFY_AHEAD:
                batch = list(islice(numbered, _IDENTIFY_FILES))
                exhausted = not batch
                if batch:
                    usable = [file for _, file in batch if file.reason is None]
                    under_way.append((batch, self._pool.begin(identify_file, usable).results))
            if under_way:
                batch, results = under_way.popleft()
                found = iter(results())
                yield [
                    (position, file, next(found) if file.reason is None else Refusal(file.reason, file.skipped))
                    for position, file in batch
                ]

    def _to_embed(self, batch: Sequence[tuple[int, SourceFile, Identified | Refusal]]) -> list[Job]:
        """The jobs of a batch; every other file of it is accounted for."""
        settled: list[FileOutcome] = []
        candidates: list[tuple[int, DecodeJob]] = []
        for position, file, identified in batch:
            refusal = identified if isinstance(identified, Refusal) else self._met_before(identified, position)
            if refusal is not None:
                settled.append(_left_out(position, file, refusal))
            elif isinstance(identified, Identified):
                candidates.append((position, DecodeJob(file, identified)))
        jobs = []
        stored = stored_of(self._index, [job for _, job in candidates])
        for position, decode in candidates:
            known = stored.get(decode.identified.identity.instance, {})
            refusal = self._not_wanted(decode, known)
            if refusal is not None:
                settled.append(_left_out(position, decode.source, refusal))
                continue
            job = plan(position, decode, known, wanted=self._wanted, point_id=self._pseudonymizer.point_id)
            if job is None:
                settled.append(FileOutcome(position, decode.source.name, "unchanged"))
            else:
                jobs.append(job)
        if self._catalogue is not None:
            places = ((job.identified.identity.instance, job.source.path) for _, job in candidates)
            try:
                self._catalogue.record(place for place in places if not self.known_only or place[0] in stored)
            except RadSearchError as error:  # the images are worth more than the way back to their files
                self._catalogue, self.catalogue_fault = None, error
        self.accounts.images_taken_out += self._forbidden.take_out()
        self.accounts.record(settled)
        return jobs

    def _not_wanted(self, decode: DecodeJob, known: Mapping[str, Stored]) -> Refusal | None:
        """Why a file is not looked at further; what was taken of it when more was allowed leaves the index."""
        if self.known_only and not known:
            return Refusal("not in the index yet", skipped=True)
        identity = decode.identified.identity
        reason = self._policy.refusal(identity.text_risk)
        if reason is None:
            self._forbidden.allow(identity)
            return None
        self._forbidden.refuse(identity, known)
        return Refusal(reason)

    def _met_before(self, identified: Identified, position: int) -> Refusal | None:
        """In one run the first file of an instance is taken: two would overwrite each other, run after run."""
        identity = identified.identity
        earlier = self.accounts.claim(identity.instance, identity.content, position)
        if earlier is None:
            return None
        same = earlier == identity.content
        words = "copy of another file" if same else "SOP Instance UID of another file, with other content"
        return Refusal(words, skipped=True)

    def _decoded(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[DecodedImage] | Refusal]]:
        """Each job with its pictures; a few small batches are decoded ahead, so that memory stays bounded."""
        batches = by_size(jobs)
        under_way = deque(self._begin(batch) for batch in islice(batches, self._decode_ahead))
        while under_way:
            batch, results = under_way.popleft()
            decoded = results()
            under_way.extend(self._begin(following) for following in islice(batches, 1))
            yield from zip(batch, decoded, strict=True)

    def _begin(self, batch: list[Job]) -> tuple[list[Job], Callable[[], list[list[DecodedImage] | Refusal]]]:
        return batch, self._pool.begin(decode_file, [job.decode for job in batch]).results

    def _embed_and_write(self, decoded: Sequence[tuple[Job, list[DecodedImage]]]) -> list[FileOutcome]:
        points: list[IndexedImage] | None = None
        try:
            points = self._embed(decoded)
        except EmbeddingError as error:
            memory = isinstance(error, OutOfDeviceMemoryError)
            reason = "the device has not the memory for the model and one image" if memory else _NO_VECTOR
        if points is None:  # the error is gone by now, and with it what it held of the device's memory
            if len(decoded) > 1:  # find the one that is to blame
                return [outcome for one in decoded for outcome in self._embed_and_write([one])]
            ((job, _),) = decoded
            return [_left_out(job.position, job.decode.source, Refusal(reason))]
        stale = [point for job, _ in decoded for point in job.stale]
        if stale:
            self._index.delete(stale)
        self._index.write(points)
        return [
            FileOutcome(job.position, job.decode.source.name, "indexed", images=len(images)) for job, images in decoded
        ]

    def _embed(self, decoded: Sequence[tuple[Job, list[DecodedImage]]]) -> list[IndexedImage]:
        """The points of decoded files; thumbnails first, so that no kill leaves a point without."""
        new = [image for job, of_file in decoded if not job.decode.only_thumbnails for image in of_file]
        by_model = self.embedding.vectors_of(new) if new else {}
        vectors = {
            image.id: {name: rows[number] for name, rows in by_model.items()} for number, image in enumerate(new)
        }
        return [self._point(job, image, vectors.get(image.id, {})) for job, of_file in decoded for image in of_file]

    def _point(self, job: Job, image: DecodedImage, vectors: Mapping[str, Vectors]) -> IndexedImage:
        kept = job.kept.get(image.id, ())
        payload = {**job.payloads.get(image.id, image.payload), "models": sorted({*vectors, *kept})}
        payload.pop("thumbnail", None)  # maybe another frame's
        name = job.thumbnails.get(image.id)
        if self._thumbnails is not None and image.thumbnail is not None:
            name = self._thumbnails.write(image.thumbnail)
        return IndexedImage(image.id, vectors, {**payload, "thumbnail": name} if name else payload, kept)


def _left_out(position: int, file: SourceFile, refusal: Refusal) -> FileOutcome:
    return FileOutcome(position, file.name, "skipped" if refusal.skipped else "refused", refusal.reason)
