"""Marks: words, dates and numbers that nothing else holds, and finding them again in whatever was written."""

import base64
import binascii
import contextlib
import errno
import gzip
import hashlib
import io
import os
import re
import sqlite3
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

CONTENT, NAME = "zqxjvkwz", "qjzxwvkq"  # how every mark in a file's content begins, and in its name
LATIN, JAPANESE = "\u00c6\u00d0\u00de\u00d8\u00e5\u00f0\u00fe\u00f8", "\u30be\u30f0\u30f1\u30f2"  # stand in names
GREEK = "\u039e\u03a8\u03a9\u03a6\u03be\u03c8\u03c9\u03c6"  # stands in names of folders
STUDY_YEAR, BIRTH_YEAR, OTHER_YEAR = 1913, 1817, 1753  # of dates; only the first one may leave
AGE = "873Y"
UID_ROOT = "1.3.6.1.4.1.98731.4829"
_STEMS = (("content", CONTENT), ("content", LATIN), ("content", JAPANESE), ("name", NAME), ("name", GREEK))
_MOST_INFLATED = 1 << 22
_DEEPEST = 3
_LARGE = 1 << 26
_HOLE = bytes(256)  # of which a snapshot of an index in a folder has hundreds of megabytes

_DATE = re.compile(
    rb"(?<![0-9])(?:(?P<y>1753|1817|1913)([-./]?)(?P<m>[0-9]{2})\2(?P<d>[0-9]{2})"
    rb"|(?P<a>[0-9]{2})([-./])(?P<b>[0-9]{2})\6(?P<z>1753|1817|1913))(?=0731|[^0-9]|$)"
)
_YEARS = (b"1753", b"1817", b"1913")
_NUMBERS = {  # with how each begins, or what is in it
    "date": (b"17530", re.compile(rb"(?<![0-9])17530[0-9]{3}07")),
    "time": (b".48", re.compile(rb"07:?31:?[0-9]{2}\.48[0-9]{4}")),
    "whole number": (b"19873", re.compile(rb"(?<![0-9])19873[0-9]{5}(?![0-9])")),
    "number": (b"9873.1", re.compile(rb"(?<![0-9])9873\.1[0-9]{7}")),
    "age": (b"873Y", re.compile(rb"(?<![0-9A-Za-z])873Y(?![0-9A-Za-z])")),
    "UID": (b"98731.4829", re.compile(rb"(?:1\.3\.6\.1\.4\.1\.)?98731\.4829(?:\.[0-9]+)?")),
}
_LOWERED = frozenset(("hex", "JSON", "Python", "an address"))  # forms of which case says nothing
_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32,128}(?![0-9a-f])")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_ADDRESS = re.compile(rb"base64,([A-Za-z0-9+/]{16,}={0,2})")


@dataclass(frozen=True, slots=True, order=True)
class Find:
    """A mark that was found. kind: content, name or secret. words: what was found, and where it had been planted."""

    kind: str
    words: str


@dataclass(slots=True)
class Marks:
    """Gives every place a mark of its own, legal in the value representation, and finds them again."""

    origins: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    _made: dict[tuple[str, str], str] = field(default_factory=dict)
    _numbers_given: Counter[str] = field(default_factory=Counter)
    _digests: dict[str, str] = field(default_factory=dict)

    def of(self, vr: str, where: str) -> str:
        """The mark of one place (PS3.5 6.2 has the forms of the value representations)."""
        if (vr, where) not in self._made:
            self._numbers_given[vr] += 1
            mark = self._new(vr, where, self._numbers_given[vr])
            self._made[vr, where] = mark
            for word in (mark.lower(), *re.findall(rf"{CONTENT}[0-9]{{5}}", mark.lower())):
                self.origins[word] = where
            for hashed in (hashlib.md5, hashlib.sha1, hashlib.sha256):
                self._digests[hashed(mark.encode()).hexdigest()[:32]] = where
        return self._made[vr, where]

    def text(self, where: str) -> str:
        return self.of("LO", where)

    def name(self, where: str) -> str:
        """For the name of a file or a folder."""
        mark = f"{NAME.title()}{len(self.origins):05}"
        self.origins[mark.lower()] = where
        return mark

    def secret(self, where: str) -> str:
        """Of 42 characters."""
        self.secrets[where] = f"wkvq{len(self.secrets):02}-{hashlib.sha256(where.encode()).hexdigest()[:35]}"
        return self.secrets[where]

    def _new(self, vr: str, where: str, number: int) -> str:
        word = f"{CONTENT.upper()}{len(self.origins):05}"
        day = date(OTHER_YEAR, 1, 1) + timedelta(days=number)
        if where in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
            day = day.replace(year=STUDY_YEAR)
        elif where == "PatientBirthDate":
            day = day.replace(year=BIRTH_YEAR)
        time_of_day = f"0731{number % 60:02}.48{number:04}"
        return {
            "PN": f"{word}^{LATIN}=\u592a\u90ce^{JAPANESE}={JAPANESE}" if where.endswith("Name") else f"{word}^{word}",
            "DA": f"{day:%Y%m%d}",
            "TM": time_of_day,
            "DT": f"{day:%Y%m%d}{time_of_day}",
            "IS": str(1987300000 + number),
            "DS": f"9873.1{number:06}7",
            "AS": AGE,
            "UI": f"{UID_ROOT}.{number}",
            "UR": f"http://{word}.invalid/",
        }.get(vr, word)

    def found_in(self, content: bytes, depth: int = 0) -> set[Find]:
        """All marks, secrets and plain hashes of them in some bytes, and in what is packed inside of these."""
        content = content.replace(_HOLE, b"\0\0")
        bare = re.sub(rb"\0\0+", b" ", content).replace(b"\0", b"")  # UTF-16 becomes ASCII, and holes shrink
        found = set(self._words(content, bare)) | set(self._numbers(bare)) | set(self._hashes(bare))
        if depth < _DEEPEST:
            for inner in _unpacked(content):
                found |= self.found_in(inner, depth + 1)
        return found

    def found_in_file(self, path: Path) -> set[Find]:
        """As `found_in`; of an SQLite database also all rows."""
        content = _stored(path)
        found = self.found_in(content)
        if content.startswith(b"SQLite format 3\0"):
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as base:
                base.text_factory = lambda text: text.decode("utf-8", "replace")
                found |= self.found_in("\n".join(base.iterdump()).encode("utf-8", "replace"))
        return found

    def found_below(self, folder: Path) -> dict[str, set[Find]]:
        """By file below a folder: marks in its content and in its name; files without any are left out."""
        by_file = {}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            found = self.found_in(name.encode("utf-8", "surrogateescape"))
            if path.is_file() and not path.is_symlink():
                found |= self.found_in_file(path)
            if found:
                by_file[name] = found
        return by_file

    def _words(self, content: bytes, bare: bytes) -> Iterator[Find]:
        lowered = bare.lower()
        for kind, stem in (("content", CONTENT), ("name", NAME)):
            for place in re.finditer(stem.encode() + rb"([0-9]{5})?", lowered):
                yield Find(kind, f"{place[0].decode()} ({self.origins.get(place[0].decode(), 'a part of one')})")
        for kind, stem in _STEMS:
            yield from (Find(kind, f"{stem} as {form}") for form in _forms_in(stem, content, lowered))
        for where, secret in self.secrets.items():
            plain = ["text"] * (secret.encode() in lowered)
            yield from (Find("secret", f"{where} as {form}") for form in (*plain, *_forms_in(secret, content, lowered)))

    def _numbers(self, bare: bytes) -> Iterator[Find]:
        for place in _DATE.finditer(bare) if any(year in bare for year in _YEARS) else ():
            parts = {name: text.decode() for name, text in place.groupdict().items() if text}
            orders = (("y", "m", "d"), ("z", "b", "a"), ("z", "a", "b"))
            for day in ("".join(parts[one] for one in order) for order in orders if order[0] in parts):
                if day in self.origins:
                    yield Find("content", f"the date {day} ({self.origins[day]})")
        for what, (beginning, form) in _NUMBERS.items():
            for place in form.finditer(bare) if beginning in bare else ():
                number = place[0].decode()
                where = self.origins.get(number.replace(":", "").lower())
                if where or what in ("age", "UID", "date"):
                    yield Find("content", f"the {what} {number} ({where or 'a part of it'})")

    def _hashes(self, bare: bytes) -> Iterator[Find]:
        for place in _HEX.finditer(bare.lower()):
            where = self._digests.get(place[0][:32].decode())
            if where:
                yield Find("content", f"a hash without a key ({where})")


def _stored(path: Path) -> bytes:
    """A file without its holes: an index in a folder reserves hundreds of megabytes that it never writes.

    Raises:
        OSError: it cannot be read; that is not to have no mark.
    """
    pieces, end = [], 0
    with path.open("rb", buffering=0) as stream:
        while (start := _next_data(stream.fileno(), end)) is not None:
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            pieces.append(os.pread(stream.fileno(), end - start, start))
    return b"\0\0".join(pieces)


def _next_data(descriptor: int, place: int) -> int | None:
    try:
        return os.lseek(descriptor, place, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # which says: no more data
            raise
        return None


def _forms_in(word: str, content: bytes, lowered: bytes) -> Iterator[str]:
    for written, form in _forms(word).items():
        if written in (lowered if form in _LOWERED else content):
            yield form


@lru_cache
def _forms(word: str) -> dict[bytes, str]:
    """How a word may be written so that a search for its letters would miss it."""
    forms: dict[bytes, str] = {}
    for one in (word, word.upper()) if word.isascii() else (word,):
        for charset in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "iso2022_jp"):
            with contextlib.suppress(UnicodeEncodeError):
                written = re.sub(rb"^\x1b..|\x1b..$", b"", one.encode(charset))
                if not one.isascii():
                    forms.setdefault(written, charset)
                forms.setdefault(written.hex().encode(), "hex")
                for shift in range(3):
                    coded = base64.b64encode(b"\0" * shift + written)
                    inner = coded[-(-shift * 8 // 6) : (shift + len(written)) * 8 // 6]
                    forms.setdefault(inner, "base64")
                    forms.setdefault(inner.replace(b"+", b"-").replace(b"/", b"_"), "base64")
    if not word.isascii():
        forms["".join(f"\\u{ord(letter):04x}" for letter in word).encode()] = "JSON"
        forms[word.encode("ascii", "backslashreplace")] = "Python"
        forms[word.encode("ascii", "xmlcharrefreplace")] = "HTML"
        forms[quote(word).lower().encode()] = "an address"
    return forms


def _unpacked(content: bytes) -> Iterator[bytes]:
    if content.startswith(b"PK\3\4") and zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in packed.namelist():
                yield name.encode() + b"\n" + packed.read(name)
        return
    if content.startswith(b"\x1f\x8b"):
        with contextlib.suppress(OSError, EOFError, zlib.error):
            yield gzip.decompress(content)
    for place in _ADDRESS.finditer(content):
        with contextlib.suppress(binascii.Error):
            yield base64.b64decode(place[1])
    yield from _inflated(content)


def _inflated(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    for place in _ZLIB.finditer(content) if len(content) < _LARGE else ():
        with contextlib.suppress(zlib.error):
            inner = zlib.decompressobj().decompress(view[place.start() :], _MOST_INFLATED)
            if len(inner) > len(CONTENT):
                yield inner


def of_kind(found: Iterable[Find], *kinds: str) -> set[str]:
    """The words of those finds."""
    return {one.words for one in found if one.kind in kinds}
