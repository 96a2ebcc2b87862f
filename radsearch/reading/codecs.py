"""One compressed frame -> its samples, by one decoder a transfer syntax (docs/decisions/0005-decoders.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

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
from radsearch.reading.codestream import Codestream, is_cut_off, read_codestream
from radsearch.study import Pixels

LOSSY = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K))

# A frame of one value alone is coded in less than this: 1 to 2 bits a sample in lossless JPEG, the greediest.
_BYTES_OF_AN_EMPTY_SAMPLE = 0.3
_BYTES_OF_HEADERS = 4096
_RLE_HEADER_BYTES = 64


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


def has_decoder(syntax: UID) -> bool:
    """Whether frames of this compressed transfer syntax can be decoded."""
    return syntax in _DECODERS


def decode_frame(encoded: bytes, syntax: UID, like: FrameFormat) -> Pixels:
    """(rows, columns) or (rows, columns, samples) of a compressed frame, as unsigned integers as wide as they came.

    Three samples come in the colour space that the photometric interpretation names, but for lossy JPEG and for
    JPEG 2000's own transforms (YBR_ICT, YBR_RCT), which come as RGB.

    Raises:
        UnreadableImageError: the frame is cut off, is not what the data set says, or came out empty.
        Exception: whatever the decoder raises.
    """
    pixels = _DECODERS[syntax](encoded, like)
    shape = (like.rows, like.columns) if like.samples == 1 else (like.rows, like.columns, like.samples)
    if pixels.shape != shape or pixels.dtype.kind not in "iu":
        raise UnreadableImageError("damaged pixel data")
    if len(encoded) > _BYTES_OF_HEADERS + _BYTES_OF_AN_EMPTY_SAMPLE * pixels.size and not pixels.any():
        raise UnreadableImageError("decoder gave an empty picture")
    return pixels


def _checked(encoded: bytes, like: FrameFormat) -> Codestream:
    """The frame's own header, where it agrees with the data set's."""
    stream = read_codestream(encoded)
    if (stream.rows, stream.columns, stream.samples) != (like.rows, like.columns, like.samples):
        raise UnreadableImageError("damaged pixel data")
    if not 1 <= stream.precision <= np.dtype(np.uint16).itemsize * 8:
        raise UnreadableImageError("damaged pixel data")
    if is_cut_off(encoded):
        raise UnreadableImageError("truncated file")
    return stream


def _lossy_jpeg(encoded: bytes, like: FrameFormat) -> Pixels:
    """Colour by what the frame says of itself (component ids, Adobe or JFIF marker), else by the data set."""
    from imagecodecs import jpeg8_decode

    stream = _checked(encoded, like)
    if stream.samples == 1:
        return _array(jpeg8_decode(encoded))
    colour = stream.colour or ("RGB" if like.photometric == "RGB" else "YCBCR")
    return _array(jpeg8_decode(encoded, colorspace=colour, outcolorspace="RGB"))


def _lossless_jpeg(encoded: bytes, like: FrameFormat) -> Pixels:
    from imagecodecs import jpeg8_decode

    if _checked(encoded, like).samples == 1:
        return _array(jpeg8_decode(encoded))
    return _array(jpeg8_decode(encoded, colorspace="RGB", outcolorspace="RGB"))  # as it is: no transform


def _jpeg_ls(encoded: bytes, like: FrameFormat) -> Pixels:
    from imagecodecs import jpegls_decode

    _checked(encoded, like)
    return _array(jpegls_decode(encoded))


def _jpeg_2000(encoded: bytes, like: FrameFormat) -> Pixels:
    from imagecodecs import jpeg2k_decode

    _checked(encoded, like)
    return _array(jpeg2k_decode(encoded, numthreads=1))


def _rle(encoded: bytes, like: FrameFormat) -> Pixels:
    """PS3.5 Annex G: the samples come plane by plane."""
    from imagecodecs import dicomrle_decode

    _check_rle_header(encoded, like)
    planes: Any = dicomrle_decode(encoded, np.dtype(f"<u{like.bits_allocated // 8}"))
    values = np.frombuffer(planes, dtype=f"<u{like.bits_allocated // 8}")
    size = like.rows * like.columns * like.samples
    if not size <= values.size <= size + 1:  # an odd number of bytes is padded
        raise UnreadableImageError("truncated file" if values.size < size else "damaged pixel data")
    if like.samples == 1:
        return values[:size].reshape(like.rows, like.columns)
    return np.ascontiguousarray(values[:size].reshape(like.samples, like.rows, like.columns).transpose(1, 2, 0))


def _check_rle_header(encoded: bytes, like: FrameFormat) -> None:
    """PS3.5 G.5: the number of segments (a byte of a sample each), and where they begin; the decoder trusts it."""
    header = np.frombuffer(encoded[:_RLE_HEADER_BYTES], dtype="<u4")
    segments = like.samples * like.bits_allocated // 8
    if header.size * 4 != _RLE_HEADER_BYTES or header[0] != segments:
        raise UnreadableImageError("damaged pixel data")
    begins = [*map(int, header[1 : segments + 1]), len(encoded)]
    if begins[0] != _RLE_HEADER_BYTES or any(begin >= end for begin, end in pairwise(begins)):
        raise UnreadableImageError("damaged pixel data")


def _array(decoded: Any) -> Pixels:
    array: Pixels = decoded
    return array


_DECODERS: Mapping[UID, Callable[[bytes, FrameFormat], Pixels]] = {
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
