"""Frames that are not compressed, read from the disk one at a time (PS3.5 8.1 and 8.2)."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from radsearch.errors import UnreadableImageError
from radsearch.reading.codecs import FrameFormat
from radsearch.reading.opening import OpenedDicom, PixelElement, is_little_endian
from radsearch.study import Pixels

_BYTE = 8
_SUBSAMPLED = "YBR_FULL_422"


def is_subsampled(like: FrameFormat, length: int, frames: int) -> bool:
    """Whether the frames are 4:2:2 as they say; software that unpacks them may leave the old name behind."""
    whole = like.rows * like.columns * like.samples * frames
    return like.photometric == _SUBSAMPLED and like.bits_allocated == _BYTE and length < whole


def read_plain(
    opened: OpenedDicom, pixels: PixelElement, like: FrameFormat, frames: int, numbers: Sequence[int]
) -> Iterator[Pixels]:
    """(rows, columns) or (rows, columns, samples) of the frames with these numbers (from 1), in native byte order.

    Raises:
        UnreadableImageError: the element, or the file, ends before the last of all frames does.
    """
    subsampled = is_subsampled(like, pixels.length, frames)
    samples = 2 if subsampled else like.samples  # of two pixels: two luminances and two colour differences
    bits = like.rows * like.columns * samples * like.bits_allocated
    if min(pixels.length, opened.size - pixels.start) < -(-bits * frames // _BYTE):
        raise UnreadableImageError("truncated file")
    big_endian = not is_little_endian(opened.header)
    swapped = big_endian and like.bits_allocated == _BYTE and pixels.vr == "OW"
    for number in numbers:
        first = bits * (number - 1)
        if like.bits_allocated == 1:
            packed = _read(opened.stream, pixels.start, first // _BYTE, -(-(first + bits) // _BYTE))
            values = np.unpackbits(packed, bitorder="little")[first % _BYTE :][:bits]
        else:
            kind = "u" if pixels.keyword == "PixelData" else "f"
            stored = np.dtype(f"{'>' if big_endian else '<'}{kind}{like.bits_allocated // _BYTE}")
            read = _read_swapped if swapped else _read
            content = read(opened.stream, pixels.start, first // _BYTE, (first + bits) // _BYTE)
            values = content.view(stored).astype(stored.newbyteorder("="), copy=False)
        yield _unpacked(values, like) if subsampled else _shaped(values, like)


def _read(stream: BinaryIO, start: int, begin: int, end: int) -> Pixels:
    """Bytes `begin` to `end` of the pixel data, which start at `start`."""
    stream.seek(start + begin)
    content = np.frombuffer(stream.read(end - begin), dtype=np.uint8)
    if content.size < end - begin:
        raise UnreadableImageError("truncated file")
    return content


def _read_swapped(stream: BinaryIO, start: int, begin: int, end: int) -> Pixels:
    """Bytes of words that were written with their high byte first (PS3.5 8.1.2)."""
    words = _read(stream, start, begin - begin % 2, end + end % 2)
    return words.reshape(-1, 2)[:, ::-1].reshape(-1)[begin % 2 :][: end - begin]


def _shaped(values: Pixels, like: FrameFormat) -> Pixels:
    if like.samples == 1:
        return values.reshape(like.rows, like.columns)
    if like.planar == 1:
        return np.ascontiguousarray(values.reshape(like.samples, like.rows, like.columns).transpose(1, 2, 0))
    return values.reshape(like.rows, like.columns, like.samples)


def _unpacked(values: Pixels, like: FrameFormat) -> Pixels:
    """Y1 Y2 Cb Cr for two pixels beside each other -> Y Cb Cr for each (PS3.3 C.7.6.3.1.2)."""
    if like.columns % 2:
        raise UnreadableImageError("damaged header")
    pairs = values.reshape(-1, 4)
    both = np.stack([pairs[:, [0, 2, 3]], pairs[:, [1, 2, 3]]], axis=1)
    return both.reshape(like.rows, like.columns, 3)
