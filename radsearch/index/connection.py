"""The way to a Qdrant server: how a client is made, and what of its settings would be no good."""

import errno
import re
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx
from qdrant_client import QdrantClient

from radsearch.errors import SettingsError

REST_PORT, GRPC_PORT = 6333, 6334

_OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# gRPC itself waits longer and longer, up to two minutes, before it tries to reach a lost server again.
_SOON_AGAIN = {"grpc.initial_reconnect_backoff_ms": 250, "grpc.max_reconnect_backoff_ms": 2000}


def connect(  # noqa: PLR0913 -- the six facts about a server that a user can set, each by its name
    address: str,
    *,
    api_key: str | None,
    timeout_seconds: int,
    grpc: bool = False,
    ca_certificate: Path | None = None,
    grpc_port: int = GRPC_PORT,
) -> QdrantClient:
    """A client for the server at an address; nothing is sent yet.

    Args:
        address: http(s)://HOST:PORT, over REST also with a path; port 6333 where none is stated, also for https.
        api_key: sent with every request; over plain http to this machine only.
        timeout_seconds: for one try of one request.
        grpc: ask over gRPC where the client can, at `grpc_port` of the same host, with TLS where `address` is https.
        ca_certificate: a PEM file; only servers whose certificates stem from it are trusted then.
        grpc_port: stands in no address.

    Raises:
        SettingsError: the address is of another form; the key would be readable on its way or fits in no header; the
            certificate cannot be used.
    """
    way = _way_to(address, api_key, ca_certificate)
    if grpc and way.url.path.strip("/"):
        raise SettingsError("the index's address has a path, which is not possible over gRPC")
    grpc_options: dict[str, Any] = dict(_SOON_AGAIN)
    if way.trusted:
        grpc_options["root_certificates"] = way.trusted.pem
    if way.direct:
        grpc_options["grpc.enable_http_proxy"] = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")  # to this machine
        return QdrantClient(
            url=way.url.geturl(),
            api_key=api_key or None,
            timeout=timeout_seconds,
            prefer_grpc=grpc,
            grpc_port=grpc_port,
            grpc_options=grpc_options,
            check_compatibility=False,  # it asks in a thread of its own and prints what it finds
            verify=way.verify,
            trust_env=not way.direct,
        )


def connect_for_files(
    address: str, *, api_key: str | None, timeout_seconds: int, ca_certificate: Path | None = None
) -> httpx.Client:
    """A client for the requests that carry files, which qdrant-client leaves to others; as `connect`, over REST."""
    way = _way_to(address, api_key, ca_certificate)
    port = way.url.port or REST_PORT
    return httpx.Client(
        base_url=httpx.URL(way.url.geturl()).copy_with(port=port),
        headers={"api-key": api_key} if api_key else {},
        timeout=timeout_seconds,
        verify=way.verify,
        trust_env=not way.direct,
    )


@dataclass(frozen=True, slots=True)
class _Authority:
    """A certificate to trust, for REST and for gRPC."""

    context: ssl.SSLContext
    pem: bytes


@dataclass(frozen=True, slots=True)
class _Way:
    """How a server is reached.

    direct: past any proxy, who could read the key, and would look for the server on its own machine.
    """

    url: SplitResult
    trusted: _Authority | None
    direct: bool

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """Over http there is nothing to verify (redirects are not followed), and reading all authorities is slow."""
        return self.trusted.context if self.trusted else self.url.scheme == "https"


def _way_to(address: str, api_key: str | None, ca_certificate: Path | None) -> _Way:
    url = _url_of(address)
    encrypted, own = url.scheme == "https", url.hostname in _OWN_HOSTS
    if api_key:
        _check_key(api_key, private=encrypted or own)
    trusted = _read_authority(ca_certificate, encrypted=encrypted) if ca_certificate else None
    return _Way(url, trusted, direct=own and not encrypted)


def _url_of(address: str) -> SplitResult:
    """The parts of a usable address; what the client would drop without a word is refused."""
    try:
        parts = urlsplit(address)
        usable = httpx.URL(address).scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable or re.search(r"[\s@?#\\]", address):
        raise SettingsError(
            "the index's address is not of the form https://HOST:PORT"
            " (no name and password, no query: a key goes into RADSEARCH_QDRANT_API_KEY)"
        )
    return parts


def _check_key(api_key: str, *, private: bool) -> None:
    if not re.fullmatch(r"[!-~]+", api_key):  # else httpx and gRPC refuse it in messages that quote it
        raise SettingsError("RADSEARCH_QDRANT_API_KEY has a blank, a line's end or a letter that no header can carry")
    if not private:
        raise SettingsError(
            "RADSEARCH_QDRANT_API_KEY is not sent over http, where everybody on the way can read it:"
            " use the server's https address, or reach it through a tunnel that ends on localhost"
        )


def _read_authority(file: Path, *, encrypted: bool) -> _Authority:
    if not encrypted:
        raise SettingsError("a CA certificate is set, but the index's address begins with http://, where it has no use")
    try:
        return _Authority(ssl.create_default_context(cafile=file), file.read_bytes())
    except OSError as error:  # also ssl.SSLError
        why = errno.errorcode.get(error.errno or 0) if not isinstance(error, ssl.SSLError) else None
        raise SettingsError(f"the CA certificate {file} cannot be used ({why or 'it is no PEM file'})") from error
