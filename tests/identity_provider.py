"""A small OpenID Connect provider on this machine: two people with their groups, who log in with a click."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = {"client_id": "radsearch", "client_secret": "known-to-both"}
PEOPLE = {"anna": ["our-group"], "bert": ["their-group"]}


class _Provider(ThreadingHTTPServer):
    """What it knows: its key, and the codes that it has given out, each with who it stands for and the nonce."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.codes: dict[str, tuple[str, str]] = {}

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Provider

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        answer = {
            "/.well-known/openid-configuration": self._configuration,
            "/keys": lambda _: self._json({"keys": [self.server.key.as_dict(private=False)]}),
            "/authorize": self._choose,
            "/as": self._send_back,
            "/end": lambda asked: self._redirect(asked["post_logout_redirect_uri"]),
        }.get(address.path)
        if answer is None:
            self.send_error(404)
        else:
            answer(asked)

    def do_POST(self) -> None:
        given = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        who, nonce = self.server.codes.pop(given["code"][0])
        now = int(time.time())
        claims = {
            "iss": self.server.issuer, "aud": CLIENT["client_id"], "sub": who, "nonce": nonce, "iat": now,
            "exp": now + 300, "groups": PEOPLE[who],
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.server.key)
        self._json({"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": token})

    def _configuration(self, _: object) -> None:
        issuer = self.server.issuer
        self._json({
            "issuer": issuer, "authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys", "end_session_endpoint": f"{issuer}/end",
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
        })  # fmt: skip

    def _choose(self, asked: dict[str, str]) -> None:
        links = (f'<p><a href="/as?{urlencode({**asked, "who": who})}">{who}</a></p>' for who in PEOPLE)
        self._answer("text/html", "".join(links).encode())

    def _send_back(self, asked: dict[str, str]) -> None:
        code = secrets.token_hex(8)
        self.server.codes[code] = asked["who"], asked.get("nonce", "")
        self._redirect(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    def _redirect(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def _json(self, told: object) -> None:
        self._answer("application/json", json.dumps(told).encode())

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def provider() -> Iterator[str]:
    """Its address, while it is there."""
    with _Provider() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.issuer
        server.shutdown()


def secrets_file(issuer: str) -> str:
    """Streamlit's secrets for a page whose visitors log in there."""
    lines = {
        "redirect_uri": "http://localhost:{port}/oauth2callback", "cookie_secret": secrets.token_hex(32), **CLIENT,
        "server_metadata_url": f"{issuer}/.well-known/openid-configuration",
    }  # fmt: skip
    return "[auth]\n" + "".join(f'{name} = "{value}"\n' for name, value in lines.items())
