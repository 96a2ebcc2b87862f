"""One compressed frame -> its samples, by one decoder a transfer syntax (docs/decisions/0005-decoders.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from radsearch.errors import UnreadableImageError
from radsearch.reading.codestream import JPEG_START, Codestream, is_cut_off, read_codestream
from radsearch.study import Pixels

LOSSY = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K))

# A frame of one value alone is coded in less than this: 1 to 2 bits a sample in lossless JPEG, the greediest.
_BYTES_OF_AN_EMPTY_SAMPLE = 0.3
_BYTES_OF_HEADERS = 4096
_MOST_BITS = 16
_MOST_J2K_BITS = 38
_RLE_HEADER_BYTES = 64
_MOST_RLE_SEGMENTS = 15


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """The Image Pixel module (PS3.3 C.7.6.3) of one frame. `high_bit` is that of the stored bits in the allocated."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded frame: (rows, columns) or (rows, columns, samples) integers, of `precision` bits as coded.

    rgb: whether three samples have become RGB, whatever the photometric interpretation says.
    """

    pixels: Pixels
    precision: int
    rgb: bool = False


def has_decoder(syntax: UID) -> bool:
    """Whether frames of this compressed transfer syntax can be decoded."""
    return syntax in _DECODERS


def decode_frame(encoded: bytes, syntax: UID, like: FrameFormat) -> Decoded:
    """The samples of a compressed frame, as integers as wide as they came.

    Raises:
        UnreadableImageError: the frame is cut off, is not what the data set says, or came out empty.
        Exception: whatever the decoder raises.
    """
    decoded = _DECODERS[syntax](encoded, like)
    pixels = decoded.pixels
    shape = (like.rows, like.columns) if like.samples == 1 else (like.rows, like.columns, like.samples)
    if pixels.shape != shape or pixels.dtype.kind not in "iu":
        raise UnreadableImageError("damaged pixel data")
    long = len(encoded) > _BYTES_OF_HEADERS + _BYTES_OF_AN_EMPTY_SAMPLE * pixels.size
    if long and syntax != RLELossless and not pixels.any():  # RLE may write out what it could have packed
        raise UnreadableImageError("decoder gave an empty picture")
    return decoded


def _checked(encoded: bytes, like: FrameFormat) -> Codestream:
    """The frame's own header, where it agrees with the data set's."""
    stream = read_codestream(encoded)
    if (stream.rows, stream.columns, stream.samples) != (like.rows, like.columns, like.samples):
        raise UnreadableImageError("damaged pixel data")
    if not 1 <= stream.precision <= _MOST_BITS:
        deep_j2k = _MOST_BITS < stream.precision <= _MOST_J2K_BITS and not encoded.startswith(JPEG_START)
        raise UnreadableImageError("no decoder for more than 16 bits" if deep_j2k else "damaged pixel data")
    if is_cut_off(encoded):
        raise UnreadableImageError("truncated file")
    return stream


def _lossy_jpeg(encoded: bytes, like: FrameFormat) -> Decoded:
    """Colour by what the frame says of itself (component ids, Adobe or JFIF marker), else by the data set."""
    from imagecodecs import jpeg8_decode

    stream = _checked(encoded, like)
    if stream.samples == 1:
        return Decoded(jpeg8_decode(encoded), stream.precision)
    colour = stream.colour or ("RGB" if like.photometric == "RGB" else "YCBCR")
    return Decoded(jpeg8_decode(encoded, colorspace=colour, outcolorspace="RGB"), stream.precision, rgb=True)


def _lossless_jpeg(encoded: bytes, like: FrameFormat) -> Decoded:
    from imagecodecs import jpeg8_decode

    stream = _checked(encoded, like)
    as_it_is = None if stream.samples == 1 else "RGB"  # the same space on both sides: no transform
    return Decoded(jpeg8_decode(encoded, colorspace=as_it_is, outcolorspace=as_it_is), stream.precision)


def _jpeg_ls(encoded: bytes, like: FrameFormat) -> Decoded:
    from imagecodecs import jpegls_decode

    stream = _checked(encoded, like)
    return Decoded(jpegls_decode(encoded), stream.precision)


def _jpeg_2000(encoded: bytes, like: FrameFormat) -> Decoded:
    from imagecodecs import jpeg2k_decode

    stream = _checked(encoded, like)
    return Decoded(jpeg2k_decode(encoded, numthreads=1), stream.precision, rgb=stream.colour == "RGB")


def _rle(encoded: bytes, like: FrameFormat) -> Decoded:
    """PS3.5 Annex G: a segment a byte of a sample, the highest byte of the first sample first."""
    from imagecodecs import packbits_decode

    size, width = like.rows * like.columns, like.bits_allocated // 8
    planes = np.empty((like.samples, size, width), dtype=np.uint8)
    for number, (begin, end) in enumerate(_rle_segments(encoded, like.samples * width)):
        content = packbits_decode(encoded[begin:end])
        if not size <= len(content) <= size + 1:  # an odd number of bytes may be padded
            raise UnreadableImageError("truncated file" if len(content) < size else "damaged pixel data")
        planes[number // width, :, width - 1 - number % width] = np.frombuffer(content, np.uint8)[:size]
    values = planes.view(f"<u{width}").reshape(like.samples, like.rows, like.columns)
    pixels = values[0] if like.samples == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))
    return Decoded(pixels, like.bits_allocated)


def _rle_segments(encoded: bytes, segments: int) -> list[tuple[int, int]]:
    """Where each segment begins and ends (PS3.5 G.5)."""
    if len(encoded) < _RLE_HEADER_BYTES or segments > _MOST_RLE_SEGMENTS:
        raise UnreadableImageError("damaged pixel data")
    header = np.frombuffer(encoded[:_RLE_HEADER_BYTES], dtype="<u4")
    begins = [*map(int, header[1 : segments + 1]), len(encoded)]
    if header[0] != segments or begins[0] != _RLE_HEADER_BYTES or any(one >= next_ for one, next_ in pairwise(begins)):
        raise UnreadableImageError("damaged pixel data")
    return list(pairwise(begins))


_DECODERS: Mapping[UID, Callable[[bytes, FrameFormat], Decoded]] = {
    JPEGBaseline8Bit: _lossy_jpeg,
    JPEGExtended12Bit: _lossy_jpeg,
    JPEGLossless: _lossless_jpeg,
    JPEGLosslessSV1: _lossless_jpeg,
    JPEGLSLossless: _jpeg_ls,
    JPEGLSNearLossless: _jpeg_ls,
    JPEG2000Lossless: _jpeg_2000,
    JPEG2000: _jpeg_2000,
    HTJ2KLossless: _jpeg_2000,
    HTJ2KLosslessRPCL: _jpeg_2000,
    HTJ2K: _jpeg_2000,
    RLELossless: _rle,
}
