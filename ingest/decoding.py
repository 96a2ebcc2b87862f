"""What runs in the worker processes: files -> identities, and files -> pictures resized for the models."""

import errno
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from ingest.sources import SourceFile
from radsearch.index.schema import Payload, payload_of
from radsearch.models import Preprocessing
from radsearch.models.preprocessing import prepare
from radsearch.privacy import Pseudonymizer
from radsearch.reading import ALL_FRAMES, FrameChoice, identify, read
from radsearch.reading.isolation import Refusal, renew_time_limit
from radsearch.rendering import SHOW_ALL, TextPolicy, render
from radsearch.study import FileIdentity, Picture
from radsearch.thumbnails import thumbnail_of

_READ_TRIES = 3
# Larger pictures are resized in the worker: on their way they would take more time and memory than that.
_TRAVELLING_BYTES = 1 << 20
_TRAVELLING_SIDE = 1 << 11
_TRAVELLING_FILE = 1 << 25  # bytes of all its frames
_READ_PAUSE_SECONDS = 0.5
_Result = TypeVar("_Result")
_FINAL_FAULTS = {errno.ENOENT: "file is missing", errno.EACCES: "no permission to read the file"}


@dataclass(frozen=True, slots=True)
class Identified:
    """A file's identity, and the hash of what the manifest and the options say of it."""

    identity: FileIdentity
    described: str


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """One frame, ready for the models, and its payload but for `models` and `thumbnail`.

    squares: by preprocessing, what the models look at. picture: the frame as rendered, where the models' device is to
    resize it; there are no squares then. thumbnail: WebP, where there is a folder for it.
    """

    id: str
    payload: Payload
    squares: dict[Preprocessing, Picture]
    picture: Picture | None = None
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """A file to decode, after `identify_file`; `only_thumbnails` where the index has all of its vectors."""

    source: SourceFile
    identified: Identified
    only_thumbnails: bool = False


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """What every worker needs to know.

    pictures_travel: to the models' device, to be resized there. thumbnails: whether they are to be made. policy: what
    is done about burned-in text.
    """

    pseudonymizer: Pseudonymizer
    preprocessings: tuple[Preprocessing, ...]
    choice: FrameChoice = ALL_FRAMES
    pictures_travel: bool = False
    thumbnails: bool = False
    policy: TextPolicy = SHOW_ALL


def identify_file(order: WorkOrder, file: SourceFile) -> Identified | Refusal:
    """Identity of a file, or why it has none."""
    return _with_patience(lambda: _identify(order, file))


def decode_file(order: WorkOrder, job: DecodeJob) -> list[DecodedImage] | Refusal:
    """The chosen frames of a file, or why it has none: a file with one damaged frame is refused as a whole."""
    return _with_patience(lambda: _decode(order, job))


def _identify(order: WorkOrder, file: SourceFile) -> Identified:
    identity = identify(file.path, order.pseudonymizer, name=file.identity, choice=order.choice)
    said = json.dumps(asdict(file.said), sort_keys=True)
    return Identified(identity, order.pseudonymizer.pseudonym("described", said))


def _decode(order: WorkOrder, job: DecodeJob) -> list[DecodedImage]:
    decoded = []
    travelled = 0
    identity = job.identified.identity
    for read_image in read(job.source.path, order.pseudonymizer, identity.chosen):
        renew_time_limit()
        facts = replace(read_image.facts.completed_by(job.source.said), instance=identity.instance)
        image = replace(read_image, facts=facts)
        picture = render(image, order.policy)
        payload = payload_of(image, content=identity.content, described=job.identified.described, models=())
        point = order.pseudonymizer.point_id(identity.instance, image.frame)
        thumbnail = thumbnail_of(picture) if order.thumbnails else None
        small = picture.nbytes <= _TRAVELLING_BYTES and max(picture.shape) <= _TRAVELLING_SIDE
        if job.only_thumbnails:
            decoded.append(DecodedImage(point, payload, {}, thumbnail=thumbnail))
        elif order.pictures_travel and small and travelled + picture.nbytes <= _TRAVELLING_FILE:
            travelled += picture.nbytes
            decoded.append(DecodedImage(point, payload, {}, picture, thumbnail))
        else:
            squares = {how: prepare(picture, how) for how in order.preprocessings}
            decoded.append(DecodedImage(point, payload, squares, thumbnail=thumbnail))
    return decoded


def _with_patience(work: Callable[[], _Result]) -> _Result | Refusal:
    """Try again where the disk or the network failed; refuse the file where it stays so."""
    for attempt in range(1, _READ_TRIES + 1):
        try:
            return work()
        except OSError as error:
            if error.errno in _FINAL_FAULTS:
                return Refusal(_FINAL_FAULTS[error.errno])
            if attempt == _READ_TRIES:
                return Refusal(f"file cannot be read ({errno.errorcode.get(error.errno or 0, 'input/output error')})")
            time.sleep(_READ_PAUSE_SECONDS * attempt)
    raise AssertionError  # the loop returns
