"""A server's snapshots, and a folder made of its shard.

No server can be run here: a stand-in answers as the documentation of Qdrant's REST interface says, and the shard that
it gives was written by the same engine, in the layout that a server streams (SNAPSHOT_FILES_PATH in its source).
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from local_server import listening
from qdrant_client import QdrantClient
from test_index_embedded import MODEL, image

from radsearch.errors import IndexMissingError, IndexUnreachableError, RadSearchError, SettingsError
from radsearch.index import Index, open_index, patience, server_files, transfer
from radsearch.index.server import open_collection
from radsearch.index.snapshots import restore, snapshot
from radsearch.settings import Settings
from radsearch.study import SearchFilter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # said by the local mode, of itself
]
IMAGES = 30
ARCHIVE = "/collections/an%20archive"
Answer = tuple[int, bytes]


def result(value: object, status: int = 200) -> Answer:
    return status, json.dumps({"result": value, "status": "ok"}).encode()


@dataclass
class StandIn:
    """Answers by method and path; all that it is asked, with what was sent."""

    answers: dict[str, "Answer | Callable[[bytes], Answer]"] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    address: str = ""


class _Handler(BaseHTTPRequestHandler):
    server_of: StandIn

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        asked = f"{self.command} {path}"
        self.server_of.asked.append(f"{self.command} {self.path}")
        self.server_of.keys.add(self.headers.get("api-key"))
        content = self._content()
        answer = self.server_of.answers.get(asked, (404, b"{}"))
        status, body = answer(content) if callable(answer) else answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 -- the library's names for them


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(patience, "_pause", lambda _seconds: None)
    server = StandIn({"GET /cluster": result({"status": "disabled"})})
    handler = type("Handler", (_Handler,), {"server_of": server})
    with listening(handler) as server.address:
        yield server


@pytest.fixture
def at_server(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an index on the stand-in; what qdrant-client asks is answered by its own local mode."""
    client = QdrantClient(":memory:")
    with open_collection(client, "an archive", "memory", create_for=[MODEL]) as index:
        index.admit([MODEL], "check")
        index.write([image(number) for number in range(IMAGES)])
        monkeypatch.setattr(type(index), "close", lambda _self: None)

    def opened(settings: Settings, **_: Any) -> Index:
        return open_collection(client, settings.collection, settings.index)

    monkeypatch.setattr(server_files, "open_server_index", opened)
    return Settings(index=stand_in.address, collection="an archive", qdrant_api_key="the-key")


def native_snapshot() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("0/segments/1.tar", "config.json"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    return content.getvalue()


def giving_a_snapshot(server: StandIn, content: bytes, checksum: str | None = None) -> None:
    made = {"name": "an archive-1.snapshot", "size": len(content), "checksum": checksum}
    server.answers |= {
        f"POST {ARCHIVE}/snapshots": result(made),
        f"GET {ARCHIVE}/snapshots/an%20archive-1.snapshot": (200, content),
        f"DELETE {ARCHIVE}/snapshots/an%20archive-1.snapshot": result(True),
    }


def test_a_servers_snapshot_is_made_fetched_and_removed_there(
    stand_in: StandIn, at_server: Settings, tmp_path: Path
) -> None:
    content = native_snapshot()
    giving_a_snapshot(stand_in, content, hashlib.sha256(content).hexdigest())
    assert snapshot(at_server, tmp_path / "saved.snapshot") == IMAGES
    assert (tmp_path / "saved.snapshot").read_bytes() == content
    assert [one.split("?")[0] for one in stand_in.asked] == [
        "GET /cluster",
        f"POST {ARCHIVE}/snapshots",
        f"GET {ARCHIVE}/snapshots/an%20archive-1.snapshot",
        f"DELETE {ARCHIVE}/snapshots/an%20archive-1.snapshot",
    ]
    assert stand_in.keys == {"the-key"}


@pytest.mark.parametrize("failure", ["checksum", "lost", "cluster", "refused"])
def test_a_snapshot_that_does_not_arrive_whole_leaves_nothing(
    stand_in: StandIn, at_server: Settings, tmp_path: Path, failure: str
) -> None:
    giving_a_snapshot(stand_in, native_snapshot(), "0" * 64)
    if failure == "lost":
        stand_in.answers[f"GET {ARCHIVE}/snapshots/an%20archive-1.snapshot"] = (500, b"Marker^Patient")
    elif failure == "cluster":
        stand_in.answers["GET /cluster"] = result({"status": "enabled", "peers": {"1": {}, "2": {}}})
    elif failure == "refused":
        stand_in.answers[f"POST {ARCHIVE}/snapshots"] = (503, b"Marker^Patient")
    with pytest.raises(IndexUnreachableError) as caught:
        snapshot(at_server, tmp_path / "saved.snapshot")
    assert "Marker" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    made = [one for one in stand_in.asked if one.startswith("POST")]
    removed = [one for one in stand_in.asked if one.startswith("DELETE")]
    assert len(made) == (failure != "cluster")  # also where the failure would pass: else two would lie there
    assert len(removed) == (failure in ("checksum", "lost"))


def test_a_servers_snapshot_becomes_a_collection(stand_in: StandIn, at_server: Settings, tmp_path: Path) -> None:
    file = tmp_path / "saved.snapshot"
    file.write_bytes(native_snapshot())
    sent: list[bytes] = []

    def take(content: bytes) -> Answer:
        sent.append(content)
        return result(True)

    stand_in.answers |= {
        f"GET {ARCHIVE}/exists": result({"exists": False}),
        f"POST {ARCHIVE}/snapshots/upload": take,
    }
    assert restore(file, at_server) == IMAGES
    assert file.read_bytes() in sent[0]
    assert b'name="snapshot"' in sent[0]
    assert f"POST {ARCHIVE}/snapshots/upload?priority=snapshot&wait=true" in stand_in.asked


def test_a_collection_that_is_there_is_not_overwritten(stand_in: StandIn, at_server: Settings, tmp_path: Path) -> None:
    file = tmp_path / "saved.snapshot"
    file.write_bytes(native_snapshot())
    stand_in.answers[f"GET {ARCHIVE}/exists"] = result({"exists": True})
    with pytest.raises(IndexMissingError, match="is there already"):
        restore(file, at_server)
    assert stand_in.asked == [f"GET {ARCHIVE}/exists"]


def test_a_snapshot_goes_back_to_where_such_are_made(at_server: Settings, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.snapshot"
    folder = replace(at_server, index=str(tmp_path / "index"))
    open_index(folder, create_for=[MODEL]).close()
    snapshot(folder, ours)
    theirs.write_bytes(native_snapshot())
    with pytest.raises(IndexMissingError, match=r"of an index in a folder: .* `index copy`"):
        restore(ours, at_server)
    with pytest.raises(IndexMissingError, match=r"of a Qdrant server's: .* `index copy`"):
        restore(theirs, replace(folder, index=str(tmp_path / "other")))
    assert not (tmp_path / "other").exists()


def streamed_shard(folder: Path) -> bytes:
    """What a server streams of a shard: each segment's files in `segments/ID/files`."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        shard = folder / "shard"
        for path in sorted(path for path in shard.rglob("*") if path.is_file()):
            parts = path.relative_to(shard).parts
            name = "/".join((*parts[:2], "files", *parts[2:])) if parts[0] == "segments" else "/".join(parts)
            if name != "edge_config.json":
                archive.add(path, arcname=name)
    return content.getvalue()


@pytest.fixture
def shard(tmp_path: Path) -> bytes:
    settings = Settings(index=str(tmp_path / "engine"))
    with open_index(settings, create_for=[MODEL]) as index:
        index.write([image(number) for number in range(IMAGES)])
        index.finish()
    return streamed_shard(Path(settings.index))


def offering(server: StandIn, shard: bytes, shards: int = 1) -> None:
    server.answers |= {
        f"GET {ARCHIVE}": result({"config": {"params": {"shard_number": shards}}}),
        f"GET {ARCHIVE}/shards/0/snapshot": (200, shard),
    }


def test_a_new_folder_is_made_of_a_servers_shard_and_then_compared(
    stand_in: StandIn, at_server: Settings, tmp_path: Path, shard: bytes
) -> None:
    offering(stand_in, shard)
    target = replace(at_server, index=str(tmp_path / "seeded"))
    with server_files.open_server_index(at_server, create_for=()) as source:
        assert transfer.seed(source, at_server, target) is None
        assert sorted(path.name for path in (tmp_path / "seeded").iterdir()) == ["radsearch.json", "shard"]
        with open_index(target, sole_writer=True) as index:
            copied = transfer.copy(source, index)
            assert (copied.written, copied.there) == (0, IMAGES)
            assert index.card == source.card
            assert index.facets("models", SearchFilter()) == {"first": IMAGES}
            (hit,) = index.nearest({"first": np.eye(4, dtype=np.float32)[1]}, SearchFilter(), 1)
            assert hit.score == pytest.approx(1)
            index.write([image(IMAGES)])
            assert index.count() == IMAGES + 1


def test_what_a_stale_shard_lacks_is_copied(
    stand_in: StandIn, at_server: Settings, tmp_path: Path, shard: bytes
) -> None:
    offering(stand_in, shard)
    target = replace(at_server, index=str(tmp_path / "seeded"))
    with server_files.open_server_index(at_server, create_for=()) as source:
        source.write([image(IMAGES), image(IMAGES + 1)])
        transfer.seed(source, at_server, target)
        with open_index(target, sole_writer=True) as index:
            assert transfer.copy(source, index).written == 2


@pytest.mark.parametrize("case", ["several shards", "old server", "no archive", "cut"])
def test_where_there_is_no_such_shard_points_are_copied(
    stand_in: StandIn, at_server: Settings, tmp_path: Path, shard: bytes, case: str
) -> None:
    content = {"no archive": b"x" * 2000, "cut": shard[: len(shard) // 2]}.get(case, shard)
    offering(stand_in, content, 2 if case == "several shards" else 1)
    if case == "old server":
        del stand_in.answers[f"GET {ARCHIVE}/shards/0/snapshot"]
    target = replace(at_server, index=str(tmp_path / "seeded"))
    with server_files.open_server_index(at_server, create_for=()) as source:
        reason = transfer.seed(source, at_server, target)
        assert reason
        assert "\n" not in reason
        assert not [path for path in tmp_path.iterdir() if "seeded" in path.name]
        with open_index(target, create_for=list(source.card.models.values()), sole_writer=True) as index:
            assert transfer.copy(source, index).written == IMAGES


def test_a_folder_that_is_there_is_left_to_the_copy(stand_in: StandIn, at_server: Settings, tmp_path: Path) -> None:
    target = replace(at_server, index=str(tmp_path / "there"))
    open_index(target, create_for=[MODEL]).close()
    with server_files.open_server_index(at_server, create_for=()) as source:
        assert transfer.seed(source, at_server, target) is None
    assert stand_in.asked == []


def test_no_key_goes_over_plain_http_to_another_machine(tmp_path: Path) -> None:
    settings = Settings(index="http://archive.example:6333", qdrant_api_key="the-key")
    with pytest.raises(SettingsError, match="is not sent over http"):
        server_files.fetch_shard(settings, tmp_path / "shard")
    with pytest.raises(RadSearchError) as caught:
        snapshot(settings, tmp_path / "saved.snapshot")
    assert "the-key" not in str(caught.value)
