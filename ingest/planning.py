"""What has to be done for a file, after what the index holds of it: embed it, give it thumbnails, or leave it be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ingest.decoding import DecodeJob
from radsearch.index import Index, Stored
from radsearch.index.schema import Payload

_DECODE_FILES = 8  # in a batch that one worker decodes
_DECODE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """A file that has to be embedded, or only to get its thumbnails.

    kept: by id, models whose vectors stay as they are. stale: ids of frames that are no longer there or not chosen.
    payloads: by id, what replaces the payloads that decoding gives: what a manifest said earlier stays so.
    thumbnails: by id, names of those that the same content has already.
    """

    position: int
    decode: DecodeJob
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    payloads: Mapping[str, Payload] = field(default_factory=dict)
    thumbnails: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every point is to have when the run is over: vectors of these models, and maybe a thumbnail."""

    models: frozenset[str]
    thumbnails: bool


def stored_of(index: Index, jobs: Sequence[DecodeJob]) -> dict[str, dict[str, Stored]]:
    """What the index holds of each file, whatever frames it once had: by instance, then by point."""
    stored: dict[str, dict[str, Stored]] = {}
    instances = [job.identified.identity.instance for job in jobs]
    for point in index.having("instance", instances) if instances else []:
        stored.setdefault(point.payload["instance"], {})[point.id] = point
    return stored


def plan(
    position: int,
    decode: DecodeJob,
    stored: Mapping[str, Stored],
    *,
    wanted: Wanted,
    point_id: Callable[[str, int], str],
) -> Job | None:
    """What has to be done for a file; None where the index holds all of it already.

    Args:
        position: the file's, in the archive.
        decode: the file, identified.
        stored: its points, by id.
        wanted: what its points are to have.
        point_id: gives the id of an instance's frame.
    """
    identity = decode.identified.identity
    chosen = {point_id(identity.instance, frame): frame for frame in identity.chosen}
    stale = tuple(point for point in stored if point not in chosen)
    if not stored or any(point.payload.get("content") != identity.content for point in stored.values()):
        return Job(position, decode, stale=stale)
    held = {point: set(stored[point].payload.get("models", ())) for point in chosen if point in stored}
    earlier = {} if decode.source.listed else _as_said_earlier(decode, chosen, stored)
    described = all(_is_described(stored[point].payload, earlier.get(point), decode) for point in held)
    named = {point: stored[point].payload["thumbnail"] for point in held if "thumbnail" in stored[point].payload}
    if (
        described
        and not stale
        and len(held) == len(chosen)
        and all(wanted.models <= models for models in held.values())
    ):
        if not wanted.thumbnails or len(named) == len(chosen):
            return None
        all_kept = {point: tuple(sorted(models)) for point, models in held.items()}
        as_stored = {point: stored[point].payload for point in held}
        return Job(position, replace(decode, only_thumbnails=True), kept=all_kept, payloads=as_stored)
    kept = {point: tuple(sorted(models - wanted.models)) for point, models in held.items()}
    return Job(position, decode, kept=kept, stale=stale, payloads=earlier, thumbnails=named)


def _is_described(payload: Payload, earlier: Payload | None, decode: DecodeJob) -> bool:
    """Whether a payload says already what the manifest, or without one the options, say of the file."""
    if earlier is not None:
        return payload == earlier
    return bool(payload.get("described") == decode.identified.described)


def _as_said_earlier(decode: DecodeJob, chosen: Mapping[str, int], stored: Mapping[str, Stored]) -> dict[str, Payload]:
    """The payloads with what the options say: a run without a manifest takes no labels away.

    A frame that was not there before gets what was said of the others.
    """
    said = decode.source.said
    stated = {name: value for name, value in (("dataset", said.dataset), ("split", said.split)) if value}
    other = next(iter(stored.values())).payload
    if any(other.get(name) != value for name, value in stated.items()):
        stated["described"] = decode.identified.described  # so that the manifest, taken again, has its say again
    return {
        point: {**(stored[point].payload if point in stored else {**other, "frame": frame}), **stated}
        for point, frame in chosen.items()
    }


def by_size(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Batches of a few files each; large files go alone."""
    batch: list[Job] = []
    size = 0
    for job in jobs:
        bytes_of = _size(job)
        if batch and (len(batch) >= _DECODE_FILES or size + bytes_of > _DECODE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += bytes_of
    if batch:
        yield batch


def _size(job: Job) -> int:
    try:
        return job.decode.source.path.stat().st_size
    except OSError:
        return 0  # gone since: decoding will say so
