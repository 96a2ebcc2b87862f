"""The way to a Qdrant server: how a client is made, and how patiently and in what words each request is made."""

import errno
import json
import random
import re
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import httpx
from grpc import RpcError, StatusCode  # type: ignore[import-untyped]
from pydantic import ValidationError
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from radsearch.errors import IndexMissingError, IndexRefusedError, IndexUnreachableError, RadSearchError, SettingsError

TRIES = 6
FIRST_PAUSE_SECONDS = 0.5  # doubled after every try, so that five pauses take 15.5 s at most
PATIENCE_SECONDS = 30.0  # after its first failure a request is not tried again later than this
GRPC_PORT = 6334

_OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# gRPC itself waits longer and longer, up to two minutes, before it tries to reach a lost server again.
_SOON_AGAIN = {"grpc.initial_reconnect_backoff_ms": 250, "grpc.max_reconnect_backoff_ms": 2000}

_KEY_REFUSED = "refused the API key: set RADSEARCH_QDRANT_API_KEY to one that may do this"
_MISSING = "has no such collection, or there is no Qdrant server under this address"
_NO_SPACE = "has no space left: make room on its disk"
_TOO_LATE = "did not answer in time"
_TOO_OFTEN = "is asked too often"
_UNTRUSTED = "has a certificate that is not trusted here: name the certificate of its authority"
_NOT_QDRANT = "gave an answer that is none of Qdrant's"

_SAID_BY_STATUS = {
    401: _KEY_REFUSED,
    403: _KEY_REFUSED,
    404: _MISSING,
    408: _TOO_LATE,
    413: "takes no request of this size",
    429: "takes no request of this cost",  # without Retry-After: it costs more than the whole limit, also later
    507: _NO_SPACE,
}
_PASSING_STATUSES = frozenset({408, 502, 503, 504})
_SAID_BY_CODE = {
    StatusCode.UNAUTHENTICATED: _KEY_REFUSED,
    StatusCode.PERMISSION_DENIED: _KEY_REFUSED,
    StatusCode.NOT_FOUND: _MISSING,
    StatusCode.UNIMPLEMENTED: "does not know this request: it is too old, or its gRPC port is another one",
    StatusCode.UNAVAILABLE: "cannot be reached",
    StatusCode.DEADLINE_EXCEEDED: _TOO_LATE,
    StatusCode.RESOURCE_EXHAUSTED: _TOO_OFTEN,
}
_PASSING_CODES = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.RESOURCE_EXHAUSTED})
_SERVERS_FAULT_CODES = frozenset({StatusCode.INTERNAL, StatusCode.UNKNOWN, *_PASSING_CODES})
_SERVERS_FAULT = 500
# A full disk is a 500 or an INTERNAL of Qdrant's: "No space left on device: WAL buffer size exceeds ...".
_FULL_DISK = re.compile(r"no space left|disk (is )?full|insufficient storage|out of disk", re.IGNORECASE)

# A 200 whose content is no JSON at all leaves qdrant-client as the error of Python's JSON reader.
_FAILURES = (ApiException, QdrantException, RpcError, json.JSONDecodeError, UnicodeDecodeError)

T = TypeVar("T")


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
    url = _url_of(address)
    encrypted, own = url.scheme == "https", url.hostname in _OWN_HOSTS
    if grpc and url.path.strip("/"):
        raise SettingsError("the index's address has a path, which is not possible over gRPC")
    if api_key:
        _check_key(api_key, private=encrypted or own)
    trusted = _read_authority(ca_certificate, encrypted=encrypted) if ca_certificate else None
    grpc_options: dict[str, Any] = dict(_SOON_AGAIN)
    if trusted:
        grpc_options["root_certificates"] = trusted.pem
    direct = own and not encrypted  # a proxy could read the key, and would look for the server on its own machine
    if direct:
        grpc_options["grpc.enable_http_proxy"] = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")  # to this machine
        return QdrantClient(
            url=url.geturl(),
            api_key=api_key or None,
            timeout=timeout_seconds,
            prefer_grpc=grpc,
            grpc_port=grpc_port,
            grpc_options=grpc_options,
            check_compatibility=False,  # it asks in a thread of its own and prints what it finds
            # Over http there is nothing to verify (redirects are not followed), and reading all authorities is slow.
            verify=trusted.context if trusted else encrypted,
            trust_env=not direct,
        )


def patiently(location: str, call: Callable[[], T]) -> T:
    """Make a request, and make it again where its failure passes by itself.

    Such are: no connection, a broken one, no answer in time, 408, 429 with Retry-After, 502, 503 and 504; over gRPC
    UNAVAILABLE, DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED. A request is tried `TRIES` times at most. A pause is random,
    from a half to the whole of 0.5 s, 1 s, 2 s, ..., and longer by what Retry-After asks for. No try begins later than
    `PATIENCE_SECONDS` after the first failure.

    Args:
        location: the server's address, for messages; a name and a password in it are not repeated.
        call: may happen twice, as an answer can be lost after the server has done its work. All requests of ours may:
            points are written and deleted by id, payloads overwritten whole, and questions change nothing. To make a
            collection is one `call` together with the question whether it is there.

    Raises:
        IndexMissingError: the server has no such collection.
        IndexUnreachableError: all other failures. Neither the message nor the traceback has the server's own words,
            which may quote a payload, or the API key.
    """
    tried, latest = 0, float("inf")
    while True:
        try:
            return call()
        except _FAILURES as error:
            failure = _failure_of(error)
        # From here on the client's error is gone: a chained one would stand in the traceback of a flow's log.
        tried += 1
        latest = min(latest, time.monotonic() + PATIENCE_SECONDS)
        pause_seconds = failure.asked_seconds + _back_off_seconds(tried)
        if not failure.passes or tried == TRIES or time.monotonic() + pause_seconds > latest:
            raise failure.as_error(location, tried)
        _pause(pause_seconds)


def without_credentials(location: str) -> str:
    """An address to show: without a name, a password, a query or a fragment."""
    parts = urlsplit(location)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _back_off_seconds(tried: int) -> float:
    longest: float = FIRST_PAUSE_SECONDS * 2 ** (tried - 1)
    return random.uniform(longest / 2, longest)  # noqa: S311 -- keeps clients apart, guards nothing


@dataclass(frozen=True, slots=True)
class _Failure:
    """What the server did, as the rest of a sentence that begins with it."""

    said: str
    passes: bool = False
    asked_seconds: float = 0.0

    def as_error(self, location: str, tried: int) -> RadSearchError:
        passing = IndexUnreachableError if self.passes else IndexRefusedError
        kind = IndexMissingError if self.said.startswith(_MISSING) else passing
        wait = f"; it asks to wait {self.asked_seconds:.0f} s" if self.asked_seconds else ""
        times = f" (tried {tried} times)" if tried > 1 else ""
        return kind(f"the Qdrant server at {without_credentials(location)} {self.said}{wait}{times}")


_BROKEN = _Failure("broke the connection", passes=True)
# The first that is found among an error's causes counts: a ConnectError of httpx can come of each of TLS's.
_BY_CAUSE: dict[type[Exception], _Failure] = {
    ssl.SSLEOFError: _BROKEN,
    ssl.SSLZeroReturnError: _BROKEN,
    ssl.SSLCertVerificationError: _Failure(_UNTRUSTED),
    ssl.SSLError: _Failure("does not speak TLS: is its address one with http://?"),
    httpx.TimeoutException: _Failure(_TOO_LATE, passes=True),
    httpx.ConnectError: _Failure("cannot be reached: is it running?", passes=True),
    httpx.NetworkError: _BROKEN,
    httpx.RemoteProtocolError: _BROKEN,
    httpx.DecodingError: _Failure(_NOT_QDRANT),
    ValidationError: _Failure(_NOT_QDRANT),
}


def _failure_of(error: Exception) -> _Failure:
    match error:
        case ResourceExhaustedResponse():
            return _Failure(_TOO_OFTEN, passes=True, asked_seconds=max(0.0, float(error.retry_after_s)))
        case QdrantException():  # Retry-After is a date, as RFC 9110 10.2.3 allows
            return _Failure(_TOO_OFTEN, passes=True)
        case UnexpectedResponse():
            return _failure_of_status(error.status_code or 0, error.content.decode(errors="replace"))
        case ResponseHandlingException():
            return _failure_of_transport(error.source)
        case RpcError():
            return _failure_of_code(error)
    return _Failure(_NOT_QDRANT)


def _failure_of_status(status: int, content: str) -> _Failure:
    if status >= _SERVERS_FAULT and _FULL_DISK.search(content):
        return _Failure(f"{_NO_SPACE} ({status})")
    said = _SAID_BY_STATUS.get(status)
    return _Failure(f"{said} ({status})" if said else f"answered {status}", passes=status in _PASSING_STATUSES)


def _failure_of_code(error: Any) -> _Failure:
    code, details = error.code(), error.details() or ""
    if code in _SERVERS_FAULT_CODES and _FULL_DISK.search(details):
        return _Failure(f"{_NO_SPACE} ({code.name})")
    if code is StatusCode.UNAVAILABLE and "CERTIFICATE_VERIFY_FAILED" in details:
        return _Failure(_UNTRUSTED)
    said = _SAID_BY_CODE.get(code)
    return _Failure(f"{said} ({code.name})" if said else f"answered {code.name}", passes=code in _PASSING_CODES)


def _failure_of_transport(source: Exception) -> _Failure:
    causes = list(_causes(source))
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return _Failure("is not found: no such host", passes=cause.errno == socket.EAI_AGAIN)
    for kind, failure in _BY_CAUSE.items():
        if any(isinstance(cause, kind) for cause in causes):
            return failure
    return _Failure(f"could not be asked ({type(source).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it came of, and so on down to the one of the operating system or of TLS."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = None if isinstance(cause, OSError) else cause.__cause__ or cause.__context__  # httpcore drops its cause


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


@dataclass(frozen=True, slots=True)
class _Authority:
    """A certificate to trust, for REST and for gRPC."""

    context: ssl.SSLContext
    pem: bytes


def _read_authority(file: Path, *, encrypted: bool) -> _Authority:
    if not encrypted:
        raise SettingsError("a CA certificate is set, but the index's address begins with http://, where it has no use")
    try:
        return _Authority(ssl.create_default_context(cafile=file), file.read_bytes())
    except OSError as error:  # also ssl.SSLError
        why = errno.errorcode.get(error.errno or 0) if not isinstance(error, ssl.SSLError) else None
        raise SettingsError(f"the CA certificate {file} cannot be used ({why or 'it is no PEM file'})") from error
