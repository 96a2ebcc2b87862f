"""A hub for tests: folders served as the Hugging Face hub serves them, as far as its client asks.

Source of the headers and error codes: huggingface_hub, `file_download.py` and `utils/_http.py`.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from local_server import listening

TOKEN = "hf_of_somebody_who_has_agreed"  # noqa: S105 -- opens nothing but this
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories lie in `root/ORG/NAME/REVISION`.

    gated: repositories whose files need `TOKEN`; their listing is open, as on the real hub. cut: paths of files, and
    after how many bytes the connection always breaks. downloads: what was asked for, as `ORG/NAME@REVISION/FILE`.
    """

    root: Path
    address: str = ""
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    requests: int = 0

    def add(self, repository: str, files: dict[str, bytes], revision: str = REVISION) -> None:
        """Put files into a repository."""
        for name, content in files.items():
            file = self.root / repository / revision / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub at an address of its own, until the end of the block."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with listening(handler) as hub.address:
        yield hub


class _Handler(BaseHTTPRequestHandler):
    """In HTTP 1.0: a connection ends with its answer, so that a client notices at once when the hub is gone."""

    hub: FakeHub

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests += 1
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) == 6:
            self._listing(repository="/".join(parts[2:4]), kind=parts[4], revision=parts[5])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file(repository="/".join(parts[:2]), revision=parts[3], name="/".join(parts[4:]))
        else:
            self._answer(404, {})

    def _listing(self, *, repository: str, kind: str, revision: str) -> None:
        folder = self._folder(repository, revision)
        if folder is None:
            return
        files = [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*")) if file.is_file()]
        content: object = [
            {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)} for name, file in files
        ]
        if kind == "revision":  # what older clients ask for
            content = {"id": repository, "sha": revision, "siblings": [{"rfilename": name} for name, _ in files]}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _file(self, *, repository: str, revision: str, name: str) -> None:
        folder = self._folder(repository, revision)
        if folder is None:
            return
        if repository in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."})
            return
        file = folder / name
        if not file.is_file():
            self._answer(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = file.read_bytes()
        if self.command == "GET":
            self.hub.downloads.append(f"{repository}@{revision}/{name}")
        headers = {"X-Repo-Commit": revision, "ETag": f'"{_etag(file)}"', "Accept-Ranges": "bytes"}
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        most = self.hub.cut.get(name, len(content))
        self._answer(206 if begin else 200, headers, content[begin:], most=max(0, most - begin))

    def _folder(self, repository: str, revision: str) -> Path | None:
        for place, code in (
            (self.hub.root / repository, "RepoNotFound"),
            (self.hub.root / repository / revision, "RevisionNotFound"),
        ):
            if not place.is_dir():
                self._answer(404, {"X-Error-Code": code})
                return None
        return self.hub.root / repository / revision

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"", *, most: int | None = None) -> None:
        """All of the content is promised; of more than `most` bytes only those are sent, and the connection breaks."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[:most])


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
