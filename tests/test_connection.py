"""The way to a Qdrant server: what is tried again, what is said once, and where the key never goes."""

import datetime as dt
import ipaddress
import socket
import ssl
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import StatusCode
from local_server import listening
from qdrant_client.grpc import collections_pb2 as messages
from qdrant_client.grpc import collections_service_pb2_grpc as collections_service

from radsearch.errors import IndexMissingError, IndexRefusedError, IndexUnreachableError, RadSearchError, SettingsError
from radsearch.index import patience
from radsearch.index.connection import connect
from radsearch.index.patience import FIRST_PAUSE_SECONDS, TRIES, patiently
from radsearch.settings import without_credentials

KEY = "the-key-of-the-server"
PATIENT = "Marker^Patient"  # what a server's words quote of a payload
EXISTS = b'{"result":{"exists":true},"status":"ok","time":0.0}'


@dataclass(frozen=True)
class Answer:
    """One answer over HTTP; `instead` is done to the connection in place of it."""

    status: int = 200
    content: bytes = EXISTS
    retry_after: str | None = None
    instead: Callable[[socket.socket], None] | None = None

    def __str__(self) -> str:
        return (
            self.instead.__name__ if self.instead else f"{self.status} {self.content[:20]!r} {self.retry_after or ''}"
        )


@dataclass
class FakeServer:
    """Gives its answers in turn, then says of every collection that it is there; speaks HTTP or gRPC."""

    answers: list[Answer] = field(default_factory=list)
    codes: list[StatusCode] = field(default_factory=list)
    words: str = PATIENT
    retry_after: str | None = None
    lasting_seconds: float = 0
    address: str = ""
    grpc_port: int = 0
    requests: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def serve_http(server: FakeServer, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    handler = type("Handler", (_Handler,), {"fake": server})
    with listening(handler, tls) as server.address:
        yield server


class _Handler(BaseHTTPRequestHandler):
    """In HTTP 1.0: a connection ends with its answer."""

    fake: FakeServer

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.fake.requests.append(self.path)
        self.fake.keys.append(self.headers.get("api-key"))
        answer = self.fake.answers.pop(0) if self.fake.answers else Answer()
        if answer.instead:
            answer.instead(self.connection)
            return
        self.send_response(answer.status)
        if answer.retry_after is not None:
            self.send_header("Retry-After", answer.retry_after)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)


@contextmanager
def serve_grpc(server: FakeServer, tls: grpc.ServerCredentials | None = None, port: int = 0) -> Iterator[FakeServer]:
    rpc = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    collections_service.add_CollectionsServicer_to_server(_Collections(server), rpc)
    place = f"127.0.0.1:{port}"
    server.grpc_port = rpc.add_secure_port(place, tls) if tls else rpc.add_insecure_port(place)
    server.address = f"{'https' if tls else 'http'}://127.0.0.1:1"  # over REST nobody answers there
    rpc.start()
    try:
        yield server
    finally:
        rpc.stop(grace=None).wait()


class _Collections(collections_service.CollectionsServicer):
    def __init__(self, server: FakeServer) -> None:
        self.fake = server

    def CollectionExists(  # noqa: N802 -- the service's name for it
        self, request: messages.CollectionExistsRequest, context: grpc.ServicerContext
    ) -> messages.CollectionExistsResponse:
        self.fake.requests.append(request.collection_name)
        self.fake.keys.append(dict(context.invocation_metadata()).get("api-key"))
        if self.fake.codes:
            code = self.fake.codes.pop(0)
            time.sleep(self.fake.lasting_seconds)
            if self.fake.retry_after:
                context.set_trailing_metadata((("retry-after", self.fake.retry_after),))
            context.abort(code, self.fake.words)
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=True))


def ask(server: FakeServer, *, over_grpc: bool = False, ca_certificate: Path | None = None) -> bool:
    """One request, as the index makes them."""
    client = connect(
        server.address,
        api_key=KEY,
        timeout_seconds=1,
        grpc=over_grpc,
        ca_certificate=ca_certificate,
        grpc_port=server.grpc_port or 1,
    )
    try:
        return patiently(server.address, lambda: client.collection_exists("library"))
    finally:
        client.close()


def refusal(server: FakeServer, *, over_grpc: bool = False, ca_certificate: Path | None = None) -> RadSearchError:
    """What `ask` raises: one line, and even its traceback has no word of the server's and not the key."""
    with pytest.raises(RadSearchError) as caught:
        ask(server, over_grpc=over_grpc, ca_certificate=ca_certificate)
    error = caught.value
    assert "\n" not in str(error)
    assert server.address in str(error)
    told = "".join(traceback.format_exception(error))
    assert PATIENT not in told
    assert KEY not in told
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, in seconds; nobody waits."""
    asked: list[float] = []
    monkeypatch.setattr(patience, "_pause", asked.append)
    return asked


@pytest.fixture
def http() -> Iterator[FakeServer]:
    with serve_http(FakeServer()) as server:
        yield server


def close(one: socket.socket) -> None:
    one.shutdown(socket.SHUT_RDWR)


def reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def cut_short(one: socket.socket) -> None:
    one.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    close(one)


def sleep_too_long(_one: socket.socket) -> None:
    time.sleep(1.2)


# Over REST


def test_a_request_that_succeeds_is_made_once(http: FakeServer, pauses: list[float]) -> None:
    assert ask(http) is True
    assert http.requests == ["/collections/library/exists"]  # and nobody has asked for the server's version
    assert http.keys == [KEY]
    assert pauses == []


@pytest.mark.parametrize("failures", [1, 3, 5])
def test_transient_failures_are_outlasted(http: FakeServer, pauses: list[float], failures: int) -> None:
    http.answers = [Answer(503)] * failures
    assert ask(http) is True
    assert len(http.requests) == failures + 1
    assert len(pauses) == failures


@pytest.mark.parametrize(
    "passing",
    [
        Answer(408),
        Answer(429, retry_after="1"),
        Answer(429, retry_after="-1"),
        Answer(429, retry_after="Fri, 31 Dec 2027 23:59:59 GMT"),
        Answer(502, b"<html>"),
        Answer(503, b""),
        Answer(504),
        Answer(instead=close),
        Answer(instead=reset),
        Answer(instead=cut_short),
        Answer(instead=sleep_too_long),
    ],
    ids=str,
)
def test_every_transient_kind_is_tried_again(http: FakeServer, passing: Answer) -> None:
    http.answers = [passing]
    assert ask(http) is True
    assert len(http.requests) == 2


def test_pauses_double_and_are_spread_by_a_half(http: FakeServer, pauses: list[float]) -> None:
    http.answers = [Answer(503)] * TRIES
    assert str(refusal(http)).endswith("answered 503 (tried 6 times)")
    assert len(http.requests) == TRIES == 6
    for pause, longest in zip(pauses, [0.5, 1, 2, 4, 8], strict=True):
        assert longest / 2 <= pause <= longest


def test_the_pause_is_as_long_as_the_server_asks_and_some_more(http: FakeServer, pauses: list[float]) -> None:
    http.answers = [Answer(429, retry_after="7")]
    assert ask(http) is True
    assert 7 + FIRST_PAUSE_SECONDS / 2 <= pauses[0] <= 7 + FIRST_PAUSE_SECONDS


def test_a_server_that_asks_for_too_much_patience_is_given_up_at_once(http: FakeServer, pauses: list[float]) -> None:
    http.answers = [Answer(429, retry_after="3600")]
    assert str(refusal(http)).endswith("is asked too often; it asks to wait 3600 s")
    assert pauses == []


def test_no_try_begins_later_than_the_patience_lasts(http: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(patience, "_pause", time.sleep)
    http.answers = [Answer(503)] * TRIES
    begun = time.monotonic()
    refusal(http)
    assert time.monotonic() - begun < 0.6
    assert 2 <= len(http.requests) < TRIES


@pytest.mark.slow
def test_a_server_that_goes_for_good_is_given_up(pauses: list[float]) -> None:
    with serve_http(FakeServer()) as gone:
        assert ask(gone) is True
    error = refusal(gone)
    assert isinstance(error, IndexUnreachableError)
    assert str(error) == f"the Qdrant server at {gone.address} cannot be reached: is it running? (tried 6 times)"
    assert len(gone.requests) == 1
    assert len(pauses) == 5


def test_a_host_that_does_not_exist_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    def unknown(*_asked: object, **_more: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "is not found: no such host" in str(refusal(FakeServer(address="http://127.0.0.1:6333")))
    assert pauses == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(301), "answered 301"),
        (Answer(400), "answered 400"),
        (Answer(401), "refused the API key: set RADSEARCH_QDRANT_API_KEY to one that may do this (401)"),
        (Answer(403), "refused the API key: set RADSEARCH_QDRANT_API_KEY to one that may do this (403)"),
        (Answer(409), "answered 409"),
        (Answer(413), "takes no request of this size (413)"),
        (Answer(422), "answered 422"),
        (Answer(429), "takes no request of this cost (429)"),
        (Answer(500), "answered 500"),
        (Answer(507), "has no space left: make room on its disk (507)"),
        (Answer(500, b"No space left on device: WAL"), "has no space left: make room on its disk (500)"),
        (Answer(503, b"Disk is full"), "has no space left: make room on its disk (503)"),
        (Answer(200, b"<html>"), "gave an answer that is none of Qdrant's"),
        (Answer(200, b"\xff\xfe\xfd"), "gave an answer that is none of Qdrant's"),
        (Answer(200, b"[1]"), "gave an answer that is none of Qdrant's"),
    ],
    ids=str,
)
def test_every_permanent_kind_is_tried_once(http: FakeServer, pauses: list[float], answer: Answer, said: str) -> None:
    quoting = Answer(answer.status, answer.content + f' {{"status":{{"error":"{PATIENT} {KEY}"}}}}'.encode())
    http.answers = [quoting]
    error = refusal(http)
    assert isinstance(error, IndexRefusedError)  # so that a flow does not try it again
    assert str(error) == f"the Qdrant server at {http.address} {said}"
    assert len(http.requests) == 1
    assert pauses == []


def test_a_collection_that_is_not_there_is_a_missing_index(http: FakeServer) -> None:
    http.answers = [Answer(404, PATIENT.encode())]
    error = refusal(http)
    assert isinstance(error, IndexMissingError)
    assert "has no such collection" in str(error)
    assert len(http.requests) == 1


def test_a_payload_that_speaks_of_full_disks_is_no_full_disk(http: FakeServer) -> None:
    http.answers = [Answer(400, b"no space left")]
    assert str(refusal(http)).endswith("answered 400")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_ctrl_c_and_bugs_pass_through_at_once(pauses: list[float], stop: type[BaseException]) -> None:
    def call() -> None:
        raise stop

    with pytest.raises(stop):
        patiently("http://localhost:6333", call)
    assert pauses == []


def test_a_name_and_a_password_are_not_shown() -> None:
    assert without_credentials("https://doctor:pass@host:6333/qdrant?api-key=k#k") == "https://host:6333/qdrant"
    assert without_credentials("https://[::1]:6333") == "https://[::1]:6333"
    assert without_credentials("memory") == "memory"


# Over gRPC


def test_grpc_is_used_where_it_is_asked_for(pauses: list[float]) -> None:
    with serve_grpc(FakeServer()) as server:
        assert ask(server, over_grpc=True) is True
    assert server.requests == ["library"]
    assert server.keys == [KEY]
    assert pauses == []


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED])
def test_every_transient_kind_of_grpc_is_tried_again(code: StatusCode) -> None:
    with serve_grpc(FakeServer(codes=[code, code])) as server:
        assert ask(server, over_grpc=True) is True
    assert len(server.requests) == 3


def test_what_costs_more_than_the_limit_over_grpc_is_refused_at_once(pauses: list[float]) -> None:
    with serve_grpc(FakeServer(codes=[StatusCode.RESOURCE_EXHAUSTED])) as server:
        assert isinstance(refusal(server, over_grpc=True), IndexRefusedError)
    assert pauses == []


_REPLICA = f"Failed to apply operation to at least one `Active` replica. Please retry. {PATIENT}"


def test_a_server_whose_node_has_just_gone_is_asked_again(http: FakeServer) -> None:
    http.answers = [Answer(500, _REPLICA.encode())]
    assert ask(http) is True
    assert len(http.requests) == 2


def test_a_server_whose_node_has_just_gone_is_asked_again_over_grpc() -> None:
    with serve_grpc(FakeServer(codes=[StatusCode.INTERNAL], words=_REPLICA)) as server:
        assert ask(server, over_grpc=True) is True
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "content", [b"{}", b'{"result":null,"status":"ok"}', b'{"status":"green"}', b"[" * 100_000, b"null"]
)
def test_an_answer_without_a_result_is_none_of_qdrants(http: FakeServer, content: bytes) -> None:
    http.answers = [Answer(200, content)]
    assert "gave an answer that is none of Qdrant's" in str(refusal(http))


def test_grpc_tells_how_long_to_wait_too(pauses: list[float]) -> None:
    with serve_grpc(FakeServer(codes=[StatusCode.RESOURCE_EXHAUSTED], retry_after="7")) as server:
        assert ask(server, over_grpc=True) is True
    assert 7 < pauses[0] <= 7.5


def test_a_slow_answer_over_grpc_is_tried_again() -> None:
    with serve_grpc(FakeServer(codes=[StatusCode.INTERNAL], lasting_seconds=1.2)) as server:
        assert ask(server, over_grpc=True) is True
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (StatusCode.UNAUTHENTICATED, "refused the API key: set RADSEARCH_QDRANT_API_KEY"),
        (StatusCode.PERMISSION_DENIED, "refused the API key: set RADSEARCH_QDRANT_API_KEY"),
        (StatusCode.NOT_FOUND, "has no such collection"),
        (StatusCode.INVALID_ARGUMENT, "answered INVALID_ARGUMENT"),
        (StatusCode.ALREADY_EXISTS, "answered ALREADY_EXISTS"),
        (StatusCode.INTERNAL, "answered INTERNAL"),
        (StatusCode.UNIMPLEMENTED, "does not know this request"),
    ],
)
def test_every_permanent_kind_of_grpc_is_tried_once(pauses: list[float], code: StatusCode, said: str) -> None:
    with serve_grpc(FakeServer(codes=[code], words=f"{PATIENT} {KEY}")) as server:
        error = refusal(server, over_grpc=True)
    assert f"the Qdrant server at {server.address} {said}" in str(error)
    assert isinstance(error, IndexMissingError if code is StatusCode.NOT_FOUND else IndexRefusedError)
    assert len(server.requests) == 1
    assert pauses == []


@pytest.mark.parametrize("code", [StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED])
def test_a_full_disk_over_grpc_is_tried_once(code: StatusCode) -> None:
    with serve_grpc(FakeServer(codes=[code], words=f"No space left on device {PATIENT}")) as server:
        assert "has no space left" in str(refusal(server, over_grpc=True))
    assert len(server.requests) == 1


def test_a_grpc_server_that_comes_back_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_grpc(FakeServer()) as server:
        client = connect(server.address, api_key=None, timeout_seconds=1, grpc=True, grpc_port=server.grpc_port)
        client.collection_exists("library")
    waited: list[float] = []
    with ExitStack() as stack:
        stack.callback(client.close)

        def pause(seconds: float) -> None:
            if not waited:
                stack.enter_context(serve_grpc(server, port=server.grpc_port))
            waited.append(seconds)
            time.sleep(0.15)  # five of them are over before gRPC by itself would look again

        monkeypatch.setattr(patience, "_pause", pause)
        assert patiently(server.address, lambda: client.collection_exists("library")) is True
    assert len(server.requests) == 2


def test_a_grpc_server_that_is_not_there_is_given_up(pauses: list[float]) -> None:
    with serve_grpc(FakeServer()) as gone:
        pass
    assert str(refusal(gone, over_grpc=True)).endswith("cannot be reached (UNAVAILABLE) (tried 6 times)")
    assert len(pauses) == 5


# With TLS


@dataclass(frozen=True)
class Certificate:
    """A certificate of 127.0.0.1 that it has signed itself."""

    file: Path
    key_file: Path

    def for_http(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key_file)
        return context

    def for_grpc(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([(self.key_file.read_bytes(), self.file.read_bytes())])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server for tests")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    made.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def test_a_server_is_trusted_by_the_certificate_of_its_authority(certificate: Certificate) -> None:
    with serve_http(FakeServer(), certificate.for_http()) as server:
        assert ask(server, ca_certificate=certificate.file) is True
    assert server.keys == [KEY]


def test_a_server_is_trusted_by_the_certificate_of_its_authority_over_grpc(certificate: Certificate) -> None:
    with serve_grpc(FakeServer(), certificate.for_grpc()) as server:
        assert ask(server, over_grpc=True, ca_certificate=certificate.file) is True
    assert server.keys == [KEY]


def test_an_unknown_certificate_is_refused_at_once(certificate: Certificate, pauses: list[float]) -> None:
    with serve_http(FakeServer(), certificate.for_http()) as server:
        assert "has a certificate that is not trusted here" in str(refusal(server))
    assert server.requests == []
    assert pauses == []


def test_an_unknown_certificate_is_refused_at_once_over_grpc(certificate: Certificate, pauses: list[float]) -> None:
    with serve_grpc(FakeServer(), certificate.for_grpc()) as server:
        assert "has a certificate that is not trusted here" in str(refusal(server, over_grpc=True))
    assert server.requests == []
    assert pauses == []


def test_https_to_a_server_of_plain_http_is_refused_at_once(http: FakeServer, pauses: list[float]) -> None:
    http.address = http.address.replace("http://", "https://")
    assert "does not speak TLS" in str(refusal(http))
    assert pauses == []


def test_a_ca_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.pem"
    for content, why in ((None, "ENOENT"), ("", "it is no PEM file"), ("not a certificate", "it is no PEM file")):
        if content is not None:
            no_certificate.write_text(content)
        with pytest.raises(SettingsError, match=f"ca.pem cannot be used .{why}"):
            connect("https://qdrant.example", api_key=None, timeout_seconds=1, ca_certificate=no_certificate)


def test_a_ca_certificate_without_tls_is_refused(certificate: Certificate) -> None:
    with pytest.raises(SettingsError, match="begins with http://, where it has no use"):
        connect("http://localhost:6333", api_key=None, timeout_seconds=1, ca_certificate=certificate.file)


# What is refused before anything is sent


@pytest.mark.parametrize("over_grpc", [False, True])
@pytest.mark.parametrize("host", ["qdrant.example", "10.0.0.7", "localhost.example", "127.0.0.1.example", "[::2]"])
def test_the_key_is_not_sent_over_http_to_another_machine(host: str, *, over_grpc: bool) -> None:
    with pytest.raises(SettingsError, match="everybody on the way can read it: use the server's https") as caught:
        connect(f"http://{host}:6333", api_key=KEY, timeout_seconds=1, grpc=over_grpc)
    assert KEY not in str(caught.value)


def test_another_machine_is_asked_over_http_without_a_key_and_over_https_with_it() -> None:
    connect("http://qdrant.example:6333", api_key=None, timeout_seconds=1).close()
    connect("https://qdrant.example:6333", api_key=KEY, timeout_seconds=1).close()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
def test_the_key_is_sent_over_http_to_this_machine_without_a_warning(host: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(f"http://{host}:6333", api_key=KEY, timeout_seconds=1).close()


def test_the_key_for_this_machine_goes_through_no_proxy(http: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_http(FakeServer()) as proxy, serve_grpc(FakeServer()) as rpc:
        for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy"):
            monkeypatch.setenv(name, proxy.address)
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert ask(http) is True
        assert ask(rpc, over_grpc=True) is True
    assert proxy.requests == []


@pytest.mark.parametrize("key", ["two words", "key\n", "schlüssel"])
def test_a_key_that_fits_in_no_header_is_refused_unquoted(key: str) -> None:
    with pytest.raises(SettingsError, match="no header can carry") as caught:
        connect("http://localhost:6333", api_key=key, timeout_seconds=1)
    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://doctor:pass@host:6333",
        "https://localhost:6333@host",
        "https://host:6333?api-key=pass",
        "https://host#pass",
        "https://pass\\host",
        "https://pass host",
        "https://host:pass",
        "https://host:0",
        "https://:6333",
        "https://[pass",
        "host:6333",
        "ftp://host",
    ],
)
def test_an_address_of_another_form_is_refused_unquoted(address: str) -> None:
    with pytest.raises(SettingsError, match="not of the form https://HOST:PORT") as caught:
        connect(address, api_key=None, timeout_seconds=1)
    assert "pass@" not in str(caught.value)
    assert "host" not in str(caught.value)


def test_grpc_under_a_path_is_refused() -> None:
    with pytest.raises(SettingsError, match="not possible over gRPC"):
        connect("https://host/qdrant", api_key=None, timeout_seconds=1, grpc=True)


def test_a_path_leads_to_the_server_over_rest(http: FakeServer) -> None:
    http.address += "/qdrant"
    assert ask(http) is True
    assert http.requests == ["/qdrant/collections/library/exists"]
