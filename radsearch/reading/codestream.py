"""What a compressed frame says of itself, read before any decoder sees it: size, samples, depth, colour space.

A decoder that believes a damaged header allocates gigabytes or writes where it must not, so the frame's own header is
held against the data set's first (ITU-T T.81 B.2 for JPEG, T.87 C.2 for JPEG-LS, T.800 A.5.1 for JPEG 2000).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from radsearch.errors import UnreadableImageError

ColourSpace: TypeAlias = Literal["RGB", "YCBCR"]

JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ; behind the boxes where a frame is a whole JP2 file
_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
_SOF_MARKERS = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)  # baseline, extended, progressive, lossless, JPEG-LS
_SOS, _SOT, _APP0, _APP14, _COD = 0xDA, 0x90, 0xE0, 0xEE, 0x52
_COD_TRANSFORM = 4  # behind Scod, progression order and number of layers
_ADOBE_LENGTH = 12
_END_IS_WITHIN = 64  # bytes of padding behind the end that are put up with
_J2K_SIZE_BYTES = 41


@dataclass(frozen=True, slots=True)
class Codestream:
    """A frame's own header. `colour` where the frame itself says in which space its three samples are."""

    rows: int
    columns: int
    samples: int
    precision: int
    colour: ColourSpace | None = None


def read_codestream(encoded: bytes) -> Codestream:
    """The header of a JPEG, JPEG-LS or JPEG 2000 frame.

    Raises:
        UnreadableImageError: there is no such header.
    """
    if encoded.startswith(JPEG_START):
        return _read_jpeg(encoded)
    start = encoded.find(_J2K_START)
    siz = encoded[start + 4 : start + 4 + _J2K_SIZE_BYTES]
    if start < 0 or len(siz) < _J2K_SIZE_BYTES:
        raise UnreadableImageError("damaged pixel data")
    right, bottom, left, top = (int.from_bytes(siz[place : place + 4], "big") for place in (4, 8, 12, 16))
    samples = int.from_bytes(siz[36:38], "big")
    colour: ColourSpace | None = "RGB" if _has_colour_transform(encoded, start) else None
    return Codestream(bottom - top, right - left, samples, (siz[38] & 0x7F) + 1, colour)


def is_cut_off(encoded: bytes) -> bool:
    """Whether the mark that ends every frame is missing: decoders fill what is not there without a word."""
    return _END not in encoded[-_END_IS_WITHIN:]


def _has_colour_transform(encoded: bytes, start: int) -> bool:
    """Whether the decoder turns the samples into RGB: the multiple component transform of COD (T.800 A.6.1)."""
    for marker, segment in _segments(encoded, start + 2):  # behind SOC
        if marker == _COD:
            return len(segment) > _COD_TRANSFORM and segment[_COD_TRANSFORM] == 1
    return False


def _read_jpeg(encoded: bytes) -> Codestream:
    colour: ColourSpace | None = None
    for marker, segment in _segments(encoded, len(JPEG_START)):
        if marker == _APP0 and segment.startswith(b"JFIF"):
            colour = "YCBCR"
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= _ADOBE_LENGTH:
            colour = "YCBCR" if segment[11] else "RGB"
        elif marker in _SOF_MARKERS:
            if len(segment) < len("PYYXXN"):
                break
            samples = segment[5]
            if segment[6 : 6 + 3 * samples : 3] in (b"RGB", b"rgb"):
                colour = "RGB"
            rows, columns = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            return Codestream(rows, columns, samples, segment[0], colour)
    raise UnreadableImageError("damaged pixel data")


def _segments(encoded: bytes, place: int) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment from a place on, before the scan or the first tile."""
    while place + 4 <= len(encoded) and encoded[place] == 0xFF:  # noqa: PLR2004 -- how every marker begins
        marker = encoded[place + 1]
        if marker == 0xFF:  # noqa: PLR2004 -- a fill byte
            place += 1
            continue
        length = int.from_bytes(encoded[place + 2 : place + 4], "big")
        if marker in (_SOS, _SOT) or length < len("LL"):
            return
        yield marker, encoded[place + 4 : place + 2 + length]
        place += 2 + length
