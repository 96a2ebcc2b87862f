"""Bring a model's weights here: from the hub at the pinned commit, or from an address whose hash is known."""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import socket
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from radsearch.errors import ModelUnavailableError, RadSearchError
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import (
    TEXT_TOWER,
    WEIGHT_FILES,
    being_fetched,
    find_weights,
    folder_in_cache,
    text_repository,
    weights_are_here,
)

_USUAL_NAMES = ("pytorch_model*.bin", "*pytorch_model*.bin")  # not those of an optimiser beside them
_DESCRIPTIONS = ("*.json", "*.txt", "*.model")
_BLOCK = 1 << 20
_HALF = ".half-fetched-"
_DISK_FAULTS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)
_TIMEOUT_SECONDS = 60
_KNOCK_SECONDS = 10


def fetch_weights(spec: ModelSpec, models_folder: Path | None) -> Path:
    """Download a model, into `models_folder` or the hub's own cache; what is here already is not fetched again.

    Raises:
        ModelUnavailableError: the place cannot be reached or refuses (gated models ask for a login), or what it gives
            is not what the row says.
    """
    for part in spec.joins:
        fetch_weights(part, models_folder)
    if spec.joins or spec.scheme in ("package", "path"):
        return find_weights(spec, models_folder).place
    target = models_folder / spec.folder_name if models_folder else None
    if spec.scheme == "url" and target is None:
        raise ModelUnavailableError(
            f"the weights of {spec.name} are not here and need a folder; run: "
            f"python -m radsearch models fetch {spec.name} --to DIR, and set RADSEARCH_MODELS to DIR"
        )
    if _whole(spec, models_folder, target, heed_marker=True):
        return find_weights(spec, models_folder).place
    marker = being_fetched(target or folder_in_cache(spec.repository, spec.revision))
    try:
        with _alone(marker) as fresh:
            if not (fresh and _whole(spec, models_folder, target)):  # else somebody else has just been done with it
                _fetch_marked(spec, models_folder, target, marker)
            marker.unlink(missing_ok=True)
    except OSError as error:
        raise ModelUnavailableError(_unreachable(spec, error)) from error
    return find_weights(spec, models_folder).place


@contextmanager
def _alone(marker: Path) -> Iterator[bool]:
    """Wait for whoever else fetches the same. Gives whether the marker is new: an old one was left by a kill."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            stream, fresh = marker.open("x"), True
        except FileExistsError:
            stream, fresh = marker.open("a"), False
        with stream:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                ours = os.path.samestat(os.fstat(stream.fileno()), marker.stat())
            except FileNotFoundError:  # whoever had it is done, and has taken it away
                ours = False
            if ours:
                yield fresh
                return


def _whole(spec: ModelSpec, models_folder: Path | None, target: Path | None, *, heed_marker: bool = False) -> bool:
    """Whether all is where it is to be fetched to; the hub's own cache may have it, too, and does not count."""
    there = target is None or target.is_dir()
    return there and weights_are_here(spec, models_folder, heed_marker=heed_marker)


def _fetch_marked(spec: ModelSpec, models_folder: Path | None, target: Path | None, marker: Path) -> None:
    try:
        _fetch(spec, target)
        if not _whole(spec, models_folder, target):
            raise ModelUnavailableError(_unreachable(spec, FileNotFoundError()))
    except RadSearchError as error:
        if not _whole(spec, models_folder, target):
            marker.unlink(missing_ok=True)
            raise
        raise ModelUnavailableError(f"{error}; where they were copied here as a whole, remove {marker}") from error


def _fetch(spec: ModelSpec, target: Path | None) -> None:
    """Weights and text tower; without network the hub's client takes what was begun for success."""
    try:
        with _quiet_hub():
            if spec.scheme == "hub":
                _from_hub(spec, target)
            else:
                _from_address(spec, target or Path())
    except RadSearchError:
        raise
    except Exception as error:  # the hub's client raises its own, its transport's and the system's errors
        raise ModelUnavailableError(_unreachable(spec, error)) from error
    try:
        with _quiet_hub():
            _text_tower(spec, target)
    except Exception as error:
        raise ModelUnavailableError(_unreachable(spec, error, text_tower=True)) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """What the client says while it tries again and again is said once, in our error."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _knock() -> None:
    """Find a hub that is out of reach in a second: its client tries for half a minute. A proxy is left to the client.

    Raises:
        OSError: nobody answers.
    """
    from huggingface_hub import constants

    hub = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies() or hub.hostname is None:
        return
    port = hub.port or (80 if hub.scheme == "http" else 443)
    socket.create_connection((hub.hostname, port), timeout=_KNOCK_SECONDS).close()


def _from_hub(spec: ModelSpec, target: Path | None) -> None:
    from huggingface_hub import snapshot_download

    _knock()
    wanted = [*(spec.files or [_kind_of_weights(spec)]), *_DESCRIPTIONS]
    snapshot_download(spec.repository, revision=spec.revision, local_dir=target, allow_patterns=wanted)


def _kind_of_weights(spec: ModelSpec) -> str:
    """Of weights that come in both formats only the safer one is read."""
    from huggingface_hub import HfApi

    names = HfApi().list_repo_files(spec.repository, revision=spec.revision)
    for pattern in (WEIGHT_FILES[0], *_USUAL_NAMES, *WEIGHT_FILES):
        if any(fnmatch(name, pattern) for name in names):
            return pattern
    raise ModelUnavailableError(f"the hub's {spec.repository} holds no weights at commit {spec.revision}")


def _text_tower(spec: ModelSpec, target: Path | None) -> None:
    if not spec.text_tower:
        return
    from huggingface_hub import snapshot_download

    _knock()
    repository, revision = text_repository(spec)
    into = target / TEXT_TOWER if target else None
    snapshot_download(repository, revision=revision, local_dir=into, allow_patterns=list(_DESCRIPTIONS))


def _from_address(spec: ModelSpec, target: Path) -> None:
    """A file of a known hash, unpacked where it is a ZIP archive (only the files that the row names)."""
    if all((target / name).is_file() for name in spec.files):
        return
    if not spec.repository.startswith("https://"):
        raise ModelUnavailableError(f"the address of {spec.name} is not https: {spec.repository}")
    target.mkdir(parents=True, exist_ok=True)
    for left in target.glob(f"{_HALF}*"):  # by a kill: nobody else is at work here
        left.unlink()
    half = target / f"{_HALF}download"
    try:
        _download(spec, half)
        if spec.is_archive:
            _unpack(spec, half, target)
        else:
            _into_place(half, target / spec.files[0])
    finally:
        half.unlink(missing_ok=True)


def _download(spec: ModelSpec, file: Path) -> None:
    from tqdm import tqdm

    algorithm, _, wanted = spec.revision.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with urllib.request.urlopen(spec.repository, timeout=_TIMEOUT_SECONDS) as answer, file.open("wb") as stream:  # noqa: S310 -- https, checked above  # nosec B310
        size = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=spec.name) as bar:
            while block := answer.read(_BLOCK):
                stream.write(block)
                digest.update(block)
                bar.update(len(block))
    if digest.hexdigest() != wanted:
        raise ModelUnavailableError(
            f"what {spec.repository} gave is not the pinned file of {spec.name}: its {algorithm} is "
            f"{digest.hexdigest()}, not {wanted}; it was thrown away"
        )


def _unpack(spec: ModelSpec, archive: Path, target: Path) -> None:
    """Members are found by how their names end and written under the row's own: no path of the archive is followed."""
    with zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
        for name in spec.files:
            wanted = PurePosixPath(name).parts
            ending = [one for one in members if PurePosixPath(one.filename).parts[-len(wanted) :] == wanted]
            found = [one for one in ending if PurePosixPath(one.filename).parts == wanted] or ending
            if len(found) != 1:
                several = f"{len(found)} of the name {name}; files can say of which folder" if found else f"no {name}"
                raise ModelUnavailableError(f"the archive of {spec.name} holds {several}")
            half = target / f"{_HALF}member"
            try:
                with opened.open(found[0]) as source, half.open("wb") as stream:
                    shutil.copyfileobj(source, stream, _BLOCK)
                _into_place(half, target / name)
            finally:
                half.unlink(missing_ok=True)


def _into_place(half: Path, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    half.replace(file)


def _unreachable(spec: ModelSpec, error: Exception, *, text_tower: bool = False) -> str:
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        return f"{spec.name} cannot be stored ({error.strerror})"
    if kind in ("RevisionNotFoundError", "EntryNotFoundError"):
        return f"the hub has no {spec.repository} at commit {spec.revision}, which the row of {spec.name} names"
    if spec.gated and kind in ("GatedRepoError", "RepositoryNotFoundError", "HfHubHTTPError"):
        page = f"https://huggingface.co/{spec.repository}"
        return (
            f"{spec.name} is gated: accept its terms at {page}, make a token there, and run: "
            f"HF_TOKEN=... python -m radsearch models fetch {spec.name} --to DIR"
        )
    place = "the hub" if spec.scheme == "hub" or text_tower else spec.repository
    what = "files of the text tower" if text_tower else "weights"
    return (
        f"the {what} of {spec.name} are not here and {place} could not be reached ({kind}); "
        f"on a connected host run: python -m radsearch models fetch {spec.name} --to DIR, "
        f"copy DIR here and set RADSEARCH_MODELS to it"
        + (f" (it is gated: accept its terms at https://huggingface.co/{spec.repository} first)" if spec.gated else "")
    )
