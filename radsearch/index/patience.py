"""How patiently a Qdrant server is asked, and in what words its failures are said."""

import json
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from grpc import RpcError, StatusCode  # type: ignore[import-untyped]
from pydantic import ValidationError
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from radsearch.errors import IndexMissingError, IndexRefusedError, IndexUnreachableError, RadSearchError
from radsearch.settings import without_credentials

TRIES = 6
FIRST_PAUSE_SECONDS = 0.5  # doubled after every try, so that five pauses take 15.5 s at most
PATIENCE_SECONDS = 30.0  # after its first failure a request is not tried again later than this

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
    StatusCode.RESOURCE_EXHAUSTED: "takes no request of this size or cost",  # with retry-after it is another error
}
_PASSING_CODES = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
_SERVERS_FAULT_CODES = frozenset(
    {StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.RESOURCE_EXHAUSTED, *_PASSING_CODES}
)
_CONFLICT, _SERVERS_FAULT = 409, 500
# A full disk is a 500 or an INTERNAL of Qdrant's: "No space left on device: WAL buffer size exceeds ...".
_FULL_DISK = re.compile(r"no space left|disk (is )?full|insufficient storage|out of disk", re.IGNORECASE)

# A node of a cluster has just gone, or another one is just taking over.
_ASKS_TO_RETRY = re.compile(r"please,? retry|try again", re.IGNORECASE)

# A 200 that is no JSON at all leaves qdrant-client as the error of Python's JSON reader; one without `result`, or of
# countless brackets, as the other two.
_FAILURES = (
    ApiException,
    QdrantException,
    RpcError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    AssertionError,
    RecursionError,
)

T = TypeVar("T")


def patiently(location: str, call: Callable[[], T], *, tries: int | None = None) -> T:
    """Make a request, and make it again where its failure passes by itself.

    Such are: no connection, a broken one, no answer in time, 408, 429 with Retry-After, 502, 503 and 504; over gRPC
    UNAVAILABLE, DEADLINE_EXCEEDED, and RESOURCE_EXHAUSTED with retry-after; and where a server asks to retry. A request
    is tried `TRIES` times at most. A pause is random, from a half to the whole of 0.5 s, 1 s, 2 s, ..., and longer by
    what Retry-After asks for. No try begins later than `PATIENCE_SECONDS` after the first failure.

    Args:
        location: the server's address, for messages; a name and a password in it are not repeated.
        tries: other than `TRIES`.
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
        if not failure.passes or tried >= (tries or TRIES) or time.monotonic() + pause_seconds > latest:
            raise failure.as_error(location, tried)
        _pause(pause_seconds)


def is_there_already(error: Exception) -> bool:
    """Whether something was to be made that somebody else has just made."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code == _CONFLICT
    return isinstance(error, RpcError) and error.code() is StatusCode.ALREADY_EXISTS


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _back_off_seconds(tried: int) -> float:
    longest: float = FIRST_PAUSE_SECONDS * 2 ** (tried - 1)
    return random.uniform(longest / 2, longest)  # noqa: S311 -- keeps clients apart, guards nothing  # nosec B311


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
    if status >= _SERVERS_FAULT and _ASKS_TO_RETRY.search(content):
        return _Failure(f"answered {status}", passes=True)
    said = _SAID_BY_STATUS.get(status)
    return _Failure(f"{said} ({status})" if said else f"answered {status}", passes=status in _PASSING_STATUSES)


def _failure_of_code(error: Any) -> _Failure:
    code, details = error.code(), error.details() or ""
    if code in _SERVERS_FAULT_CODES and _FULL_DISK.search(details):
        return _Failure(f"{_NO_SPACE} ({code.name})")
    if code in _SERVERS_FAULT_CODES and _ASKS_TO_RETRY.search(details):
        return _Failure(f"answered {code.name}", passes=True)
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
