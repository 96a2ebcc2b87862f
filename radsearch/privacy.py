"""Pseudonyms: keyed hashes that stand for identifiers, and the secret behind them."""

import hashlib
import hmac
import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from radsearch.errors import SettingsError

_SECRET_BYTES = 32
_PSEUDONYM_HEX = 32  # 128 bits: no collision is to be expected below 2**64 identifiers
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Pseudonymizer:
    """Turns identifiers into HMAC-SHA-256 pseudonyms; the same secret always gives the same ones."""

    secret: bytes

    def pseudonym(self, kind: str, *parts: str) -> str:
        """Hex pseudonym of the identifier `parts`, of its own for each `kind` (patient, study, ...)."""
        return self._digest(kind, *parts)[:_PSEUDONYM_HEX]

    def point_id(self, instance: str, frame: int) -> str:
        """UUID of one frame in the index, derived from the instance's pseudonym and the frame's number."""
        return str(uuid.UUID(hex=self._digest("point", instance, str(frame))[:32]))

    def content(self, path: Path, *, each_chunk: Callable[[], None] | None = None) -> str:
        """Keyed hash of the file's bytes; `each_chunk` is called for every mebibyte."""
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                if each_chunk is not None:
                    each_chunk()
        return self.pseudonym("content", digest.hexdigest())

    @property
    def check(self) -> str:
        """Tells one secret from another without saying anything of either."""
        return self.pseudonym("check", "radsearch")

    def _digest(self, *parts: str) -> str:
        message = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


def load_pseudonymizer(*, secret: str | None, secret_file: Path) -> Pseudonymizer:
    """Take the secret from the setting, or from its file, which is made (mode 0600) where it is missing.

    Raises:
        SettingsError: the secret is too short, or its file cannot be read, cannot be made, or is open to others.
    """
    if secret is not None:
        return Pseudonymizer(_checked(secret, "RADSEARCH_SECRET"))
    try:
        if not secret_file.exists():
            _make_secret(secret_file)
        if secret_file.stat().st_mode & 0o077:
            raise SettingsError(f"the secret {secret_file} can be read by others; run: chmod 600 {secret_file}")
        return Pseudonymizer(_checked(secret_file.read_text(encoding="ascii").strip(), str(secret_file)))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the secret {secret_file} cannot be used ({type(error).__name__})") from error


def _checked(secret: str, origin: str) -> bytes:
    if len(secret) < _SECRET_BYTES:
        raise SettingsError(f"{origin} holds a secret of fewer than {_SECRET_BYTES} characters")
    return secret.encode("utf-8")


def _make_secret(secret_file: Path) -> None:
    secret_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    half_made = secret_file.with_name(f".{secret_file.name}.{os.getpid()}")
    descriptor = os.open(half_made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(_SECRET_BYTES) + "\n")
    try:
        os.link(half_made, secret_file)  # fails where another process was faster: its secret is the one
    except FileExistsError:
        pass
    finally:
        half_made.unlink()
