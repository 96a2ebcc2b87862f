"""The pixel data of an open DICOM file -> frames, one at a time, straight from the disk."""

import errno
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from radsearch.errors import TOO_MUCH_MEMORY, UnreadableImageError
from radsearch.reading.codecs import LOSSY, Decoded, FrameFormat, decode_frame, has_decoder
from radsearch.reading.elements import text_of, whole_number_of
from radsearch.reading.opening import UNDEFINED_LENGTH, OpenedDicom, PixelElement
from radsearch.reading.palette import PALETTE_TAGS, read_palette
from radsearch.reading.plain import read_plain
from radsearch.reading.worker import memory_left
from radsearch.study import Pixels

PIXEL_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", *PALETTE_TAGS,
)  # fmt: skip

_LARGEST_FRAME = 200_000_000  # pixels; the largest detectors have 30 million
_GREY = ("MONOCHROME1", "MONOCHROME2")
_YBR = ("YBR_FULL", "YBR_FULL_422")
_COLOUR = ("RGB", *_YBR, "YBR_ICT", "YBR_RCT")
_FLOAT_BITS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_BYTE = 8
_MOST_BYTES_A_SAMPLE = 32  # that a codec takes; one that gets no memory gives an error like that of a damaged frame
_CUT_OFF_WORDS = ("less than expected", "length of the pixel data", "no such frame", "not enough", "end of", "fewer")


def frame_format(header: Dataset, keyword: str = "PixelData") -> FrameFormat:
    """The Image Pixel module of a header.

    Raises:
        UnreadableImageError: it cannot be that of a picture.
    """
    rows, columns = (whole_number_of(header, name) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise UnreadableImageError("damaged header")
    if rows * columns > _LARGEST_FRAME:
        raise UnreadableImageError("picture too large")
    photometric = text_of(header, "PhotometricInterpretation").upper()
    if photometric not in (*_GREY, "PALETTE COLOR", *_COLOUR):
        raise UnreadableImageError("unsupported photometric interpretation")
    samples = whole_number_of(header, "SamplesPerPixel", default=1)
    allocated = _FLOAT_BITS.get(keyword) or whole_number_of(header, "BitsAllocated")
    if samples != (3 if photometric in _COLOUR else 1) or allocated not in (1, 8, 16, 32, 64):
        raise UnreadableImageError("damaged header")
    stored = min(whole_number_of(header, "BitsStored") or allocated, allocated)
    high = whole_number_of(header, "HighBit", default=stored - 1)
    return FrameFormat(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high if stored - 1 <= high < allocated else stored - 1,
        signed=whole_number_of(header, "PixelRepresentation") == 1,
        planar=whole_number_of(header, "PlanarConfiguration"),
    )


def is_compressed(syntax: UID) -> bool:
    """Whether a transfer syntax stands for compressed frames; one that nobody knows is taken for such."""
    return not syntax.is_transfer_syntax or syntax.is_encapsulated


def decode(
    opened: OpenedDicom, pixels: PixelElement, like: FrameFormat, frames: int, numbers: Sequence[int]
) -> Iterator[Pixels]:
    """(rows, columns) stored values, or (rows, columns, 3) RGB, of the frames with these numbers (from 1, ascending).

    Raises:
        UnreadableImageError: the frames are cut off, damaged or too large, or no decoder is installed for them.
    """
    decoded = _quiet(_decode(opened, pixels, like, frames, numbers))
    while True:
        try:
            frame = next(decoded, None)
        except UnreadableImageError:
            raise
        except MemoryError as error:
            raise UnreadableImageError(TOO_MUCH_MEMORY) from error
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # the latter says that an offset lies at no place of a disk
                raise  # the disk's fault, not the file's
            raise UnreadableImageError("damaged pixel data") from error
        except Exception as error:  # decoders raise whatever the bytes lead them to
            short = memory_left() < _MOST_BYTES_A_SAMPLE * like.rows * like.columns * like.samples
            raise UnreadableImageError(TOO_MUCH_MEMORY if short else _reason(error)) from error
        if frame is None:
            return
        yield frame


def stored_values(decoded: Decoded, like: FrameFormat, *, lossy: bool = False) -> Pixels:
    """Integers as the header describes them: signed or not, with nothing above the stored bits; floats as they are.

    What stands above the stored bits is cleared (old overlays, PS3.5 8.1.1); of a lossy frame it is overshoot, and
    cut to the range.
    """
    pixels = decoded.pixels
    if pixels.dtype.kind == "f":
        return pixels
    width = pixels.dtype.itemsize * 8
    bits = min(like.bits_stored, width)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if like.signed else (0, (1 << bits) - 1)
    if lossy and (pixels.dtype.kind == "i") == like.signed:
        return np.clip(pixels, low, high)
    if like.signed and pixels.dtype.kind == "u" and decoded.precision < like.bits_stored:
        return pixels.astype(np.int16)  # coded without a sign, in fewer bits than a sign would need
    values = pixels.view(f"{'i' if like.signed else 'u'}{pixels.dtype.itemsize}")
    top = like.high_bit if like.high_bit < width else bits - 1
    if top == bits - 1 and (bits == width or (low <= values.min() and values.max() <= high)):
        return values
    aligned: Pixels = np.left_shift(values, width - 1 - top)
    return np.right_shift(aligned, width - bits)


def _quiet(frames: Iterator[Pixels]) -> Iterator[Pixels]:
    """The same, without warnings: they may quote values."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _decode(
    opened: OpenedDicom, pixels: PixelElement, like: FrameFormat, frames: int, numbers: Sequence[int]
) -> Iterator[Pixels]:
    header, syntax = opened.header, opened.syntax
    palette = read_palette(header) if like.photometric == "PALETTE COLOR" else None
    compressed = is_compressed(syntax)
    if compressed and not has_decoder(syntax):
        raise UnreadableImageError(_no_decoder(syntax))
    if compressed != (pixels.length == UNDEFINED_LENGTH):
        raise UnreadableImageError("damaged pixel data")  # compressed by name and plain in fact, or the reverse
    if compressed and syntax != RLELossless:
        like = replace(like, high_bit=like.bits_stored - 1)  # a code has no place for bits below the stored ones
    raw = _compressed(opened, like, frames, numbers) if compressed else _plain(opened, pixels, like, frames, numbers)
    for frame in raw:
        values = stored_values(frame, like, lossy=syntax in LOSSY)
        if palette is not None:
            yield palette.look_up(values)
        elif like.photometric in _YBR and not frame.rgb:
            yield _ybr_to_rgb(values, like.bits_stored)
        else:
            yield values


def _compressed(opened: OpenedDicom, like: FrameFormat, frames: int, numbers: Sequence[int]) -> Iterator[Decoded]:
    header = opened.header
    offsets = None
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    encoded = generate_frames(opened.stream, number_of_frames=frames, extended_offsets=offsets)
    wanted = set(numbers)
    for number, frame in enumerate(itertools.islice(encoded, max(numbers)), start=1):
        if number in wanted:
            yield decode_frame(frame, opened.syntax, like)


def _plain(
    opened: OpenedDicom, pixels: PixelElement, like: FrameFormat, frames: int, numbers: Sequence[int]
) -> Iterator[Decoded]:
    return (Decoded(frame, like.bits_allocated) for frame in read_plain(opened, pixels, like, frames, numbers))


def _ybr_to_rgb(ybr: Pixels, bits: int) -> Pixels:
    """PS3.3 C.7.6.3.1.2, the inverse of YBR_FULL."""
    if ybr.dtype == np.uint8 and bits == _BYTE:
        height, width = ybr.shape[:2]
        image = Image.frombuffer("YCbCr", (width, height), np.ascontiguousarray(ybr).tobytes(), "raw", "YCbCr", 0, 1)
        return np.asarray(image.convert("RGB"))
    values = ybr.astype(np.float32)
    luminance, blue, red = values[..., 0], values[..., 1] - 2.0 ** (bits - 1), values[..., 2] - 2.0 ** (bits - 1)
    rgb = np.stack(
        [luminance + 1.402 * red, luminance - 0.344136 * blue - 0.714136 * red, luminance + 1.772 * blue], axis=-1
    )
    return np.clip(np.floor(rgb + 0.5), 0, 2.0**bits - 1).astype(ybr.dtype)


def _no_decoder(syntax: UID) -> str:
    return f"no decoder for {syntax.name}" if syntax.name != syntax else "no decoder for a private transfer syntax"


def _reason(error: Exception) -> str:
    """A fixed phrase for what went wrong; the library's own words may quote the file."""
    words = str(error).lower()
    return "truncated file" if any(phrase in words for phrase in _CUT_OFF_WORDS) else "damaged pixel data"
