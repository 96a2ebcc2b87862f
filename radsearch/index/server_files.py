"""What a Qdrant server gives and takes as files: a collection's snapshot, and the one of a shard."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from radsearch.errors import IndexMissingError, IndexUnreachableError, RadSearchError
from radsearch.index.connection import connect_for_files
from radsearch.index.patience import patiently
from radsearch.index.server import open_server_index
from radsearch.settings import Settings, without_credentials

_SNAPSHOT_SECONDS = 6 * 3600.0  # how long a server may take to write one, or to make a collection of one
_BLOCK = 1 << 20


def take_snapshot(settings: Settings, file: Path) -> int:
    """Have the server make a snapshot of the collection, fetch it, and have it removed there.

    Args:
        settings: where the collection is.
        file: to be written; what it holds is overwritten.

    Returns:
        The number of images in it.

    Raises:
        IndexMissingError: there is no such collection, or it is no index of ours.
        IndexUnreachableError: the server has several nodes, of which each has a part; or as `patiently`.
    """
    with open_server_index(settings, create_for=()) as index:
        count = index.count()
    with _Files(settings) as server:
        if server.nodes() > 1:
            raise IndexUnreachableError(
                "the server is a cluster, and each node's snapshot has that node's part only: copy the index (index "
                "copy), or take the nodes' snapshots one by one"
            )
        made = server.ask("POST", f"{server.collection}/snapshots", params={"wait": "true"}, once=True)
        place = f"{server.collection}/snapshots/{quote(str(made['name']), safe='')}"
        try:
            digest = server.fetch(place, file)
        finally:
            with contextlib.suppress(RadSearchError):  # it stays there, and the first failure is the one to be said
                server.ask("DELETE", place)
    if made.get("checksum") not in (None, digest):
        raise IndexUnreachableError("the snapshot did not arrive as the server had sent it: try again")
    return count


def restore_snapshot(file: Path, settings: Settings) -> int:
    """Have the server make a collection of a snapshot.

    Returns:
        The number of images in it.

    Raises:
        IndexMissingError: there is a collection of that name, or the snapshot was of no index of ours.
        IndexUnreachableError: as `patiently`.
        OSError: the file cannot be read.
    """
    with _Files(settings) as server:
        if server.ask("GET", f"{server.collection}/exists")["exists"]:
            raise IndexMissingError(
                f"the collection {settings.collection!r} is there already; name a new one (RADSEARCH_COLLECTION)"
            )
        with file.open("rb") as stream:
            server.ask(
                "POST",
                f"{server.collection}/snapshots/upload",
                once=True,
                params={"priority": "snapshot", "wait": "true"},
                files={"snapshot": ("radsearch.snapshot", stream, "application/x-tar")},
            )
    with open_server_index(settings, create_for=()) as index:
        return index.count()


def fetch_shard(settings: Settings, file: Path) -> None:
    """The only shard of a collection, as the server streams it.

    Raises:
        IndexUnreachableError: as `patiently`; the server has not exactly one such shard.
    """
    with _Files(settings) as server:
        shards = server.ask("GET", server.collection)["config"]["params"].get("shard_number", 1)
        if shards != 1 or server.nodes() > 1:
            raise IndexUnreachableError("the collection has several shards")
        server.fetch(f"{server.collection}/shards/0/snapshot", file)


class _Files:
    """The requests about files. Use it as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._location = without_credentials(settings.index)
        self._client = connect_for_files(
            settings.index,
            api_key=settings.qdrant_api_key,
            timeout_seconds=settings.qdrant_seconds,
            ca_certificate=settings.qdrant_ca,
        )
        self._patient = httpx.Timeout(settings.qdrant_seconds, read=_SNAPSHOT_SECONDS, write=_SNAPSHOT_SECONDS)
        self.collection = f"collections/{quote(settings.collection, safe='')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, *, once: bool = False, **more: Any) -> Any:
        """The `result` of an answer; `once`: of a request that must not be made twice, and that may last."""
        if once:
            more["timeout"] = self._patient

        def call() -> Any:
            response = _checked(lambda: self._client.request(method, path, **more))
            try:
                return response.json()["result"]
            except (ValueError, LookupError, TypeError):
                raise ResponseHandlingException(httpx.DecodingError("no result")) from None

        return patiently(self._location, call, tries=1 if once else None)

    def nodes(self) -> int:
        """How many there are; 1 where the key may not ask for it."""
        try:
            return len(self.ask("GET", "cluster").get("peers") or ()) or 1
        except (IndexUnreachableError, IndexMissingError):
            return 1

    def fetch(self, path: str, file: Path) -> str:
        """Write what is there into a file. Gives its SHA-256."""

        def call() -> str:
            digest = hashlib.sha256()
            try:
                with self._client.stream("GET", path, timeout=self._patient) as response, file.open("wb") as stream:
                    if not response.is_success:
                        response.read()
                        raise UnexpectedResponse.for_response(response)
                    for block in response.iter_bytes(_BLOCK):
                        stream.write(block)
                        digest.update(block)
            except httpx.HTTPError as error:
                raise ResponseHandlingException(error) from error
            return digest.hexdigest()

        return patiently(self._location, call)


def _checked(call: Callable[[], httpx.Response]) -> httpx.Response:
    try:
        response = call()
    except httpx.HTTPError as error:
        raise ResponseHandlingException(error) from error
    if not response.is_success:
        raise UnexpectedResponse.for_response(response)
    return response
