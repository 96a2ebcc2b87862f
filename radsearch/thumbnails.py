"""Thumbnails: small pictures for pages, made of the rendered ones at ingest, kept under the hash of their bytes."""

import contextlib
import errno
import hashlib
import io
import os
import re
import time
import uuid
from collections.abc import Container, Iterable
from pathlib import Path

from PIL import Image

from radsearch.errors import DiskFullError, RadSearchError
from radsearch.plain_files import open_plain
from radsearch.settings import Settings
from radsearch.study import Picture

FOLDER = "thumbnails"  # within the folder of an index
LONGEST_SIDE = 192  # pixels
SETTLED_SECONDS = 86400.0  # a younger file may be of an ingest that has not written its point yet

_QUALITY, _METHOD = 80, 2  # of WebP: 3 kB and 1.7 ms a picture of 256 x 256; method 4: 2.9 kB, 3.7 ms
_LARGEST_BYTES = 1 << 20  # more than 192 x 192 pixels take in any form
_REDUCING_GAP = 2.0  # large pictures are first averaged down to twice the size
_NAME = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[0-9a-f]{64}\.webp|\.half-[0-9a-f]{32}")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def thumbnail_of(picture: Picture) -> bytes:
    """A picture as WebP without metadata, its longest side 192 pixels at most; the same picture gives the same bytes.

    Args:
        picture: (rows, columns) grey or (rows, columns, 3) RGB, uint8, as rendered.
    """
    image = Image.fromarray(picture)
    scale = LONGEST_SIDE / max(image.size)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY, method=_METHOD)
    return stream.getvalue()


class Thumbnails:
    """A folder of thumbnails, `ab/ab...webp`; any number of threads and processes may write into it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, thumbnail: bytes) -> str:
        """Keep it, unless it is there; a kill leaves all of it or nothing.

        Returns:
            Its name: the SHA-256 of its bytes in hexadecimal digits.

        Raises:
            DiskFullError: there is no room for it.
            RadSearchError: it cannot be written for another reason.
        """
        name = hashlib.sha256(thumbnail).hexdigest()
        file = self._file(name)
        try:
            if not _is_of(file, len(thumbnail)):
                self._put(file, thumbnail)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise DiskFullError(
                    f"the disk of {self.folder} is full: make room and start again; what was stored stays stored"
                ) from error
            raise RadSearchError(f"no thumbnail can be written to {self.folder} ({error.strerror})") from error
        return name

    def read(self, name: str) -> bytes | None:
        """The thumbnail of that name; None where there is none, or a damaged one."""
        name = str(name)  # of a foreign index's payload it may be anything
        if not _NAME.fullmatch(name):
            return None
        try:
            with open_plain(self._file(name)) as stream:
                thumbnail = stream.read(_LARGEST_BYTES + 1)
        except OSError:
            return None
        return thumbnail if hashlib.sha256(thumbnail).hexdigest() == name else None

    def bring(self, names: Iterable[str], source: "Thumbnails") -> None:
        """Copy those of another folder that are not here; one that is missing or damaged there stays missing.

        Raises:
            RadSearchError: as `write`.
        """
        for name in names:
            if _NAME.fullmatch(str(name)) and not self._file(name).is_file():
                thumbnail = source.read(name)
                if thumbnail is not None:
                    self.write(thumbnail)

    def sweep(self, used: Container[str], *, settled_seconds: float = SETTLED_SECONDS) -> int:
        """Remove the thumbnails that nobody uses and what kills left half written; other files are left alone.

        Args:
            used: names that stay.
            settled_seconds: what was written or asked for within that time stays, too.

        Returns:
            How many files were removed.

        Raises:
            RadSearchError: a file cannot be removed.
        """
        oldest = time.time() - settled_seconds
        removed = 0
        try:
            for file in self.folder.glob("[0-9a-f][0-9a-f]/*"):
                if _FILE.fullmatch(file.name) and file.stem not in used:
                    with contextlib.suppress(FileNotFoundError):  # a half written one that has its name now
                        if file.stat().st_mtime <= oldest:
                            file.unlink()
                            removed += 1
        except OSError as error:
            raise RadSearchError(f"a thumbnail in {self.folder} cannot be removed ({error.strerror})") from error
        return removed

    def _file(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.webp"

    def _put(self, file: Path, thumbnail: bytes) -> None:
        """Write aside and rename: of two who do so at once either one's file is the same."""
        half_written = file.with_name(f".half-{uuid.uuid4().hex}")
        if not file.parent.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # pictures of patients
            file.parent.mkdir(exist_ok=True)
        try:
            half_written.write_bytes(thumbnail)
            half_written.replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                half_written.unlink(missing_ok=True)
            raise


def thumbnails_of(settings: Settings) -> Thumbnails | None:
    """Those of the index that the settings name: in its folder, or where RADSEARCH_THUMBNAILS says.

    None where the index is on a server and nothing says where its thumbnails are.

    Raises:
        SettingsError: the index is neither a folder nor an address.
    """
    if settings.thumbnails_folder is not None:
        return Thumbnails(settings.thumbnails_folder)
    return None if settings.on_server else Thumbnails(settings.index_folder / FOLDER)


def _is_of(file: Path, size: int) -> bool:
    """Whether it is there, not cut off by a power failure; it counts as new from now on, so that no sweep takes it."""
    try:
        there = file.stat().st_size == size
    except FileNotFoundError:
        return False
    if there:
        with contextlib.suppress(OSError):  # another user's
            os.utime(file)
    return there
