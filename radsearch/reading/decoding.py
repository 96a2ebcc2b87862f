"""The pixel data of a DICOM data set -> frames, one at a time, each by a decoder that cannot take the process down."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
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
from radsearch.reading.facts import text_of
from radsearch.reading.greyscale import is_little_endian
from radsearch.study import Pixels

_LARGEST_FRAME = 200_000_000  # pixels; the largest detectors have 30 million
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "YBR_PARTIAL_420")

# One decoder a syntax, so that a picture is the same wherever it is decoded. GDCM aborts the whole process on some
# damaged files (an uncaught C++ exception): it has only what no other permissive library decodes, behind a guard.
_PLUGINS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}
_START_OF_LOSSLESS_FRAME = b"\xff\xc3"
_CUT_OFF_WORDS = ("less than expected", "length of the pixel data", "no such frame", "not enough", "end of", "fewer")


def decode(dataset: FileDataset, frames: int) -> Iterator[Pixels]:
    """(rows, columns) stored values, or (rows, columns, 3) RGB, of each frame.

    Raises:
        UnreadableImageError: the frames are cut off, damaged or too large, or no decoder is installed for them.
    """
    decoded = _quiet(_decode(dataset, frames))
    while True:
        try:
            frame = next(decoded, None)
        except UnreadableImageError:
            raise
        except MemoryError as error:
            raise UnreadableImageError("picture too large") from error
        except Exception as error:  # decoders raise whatever the bytes lead them to
            raise UnreadableImageError(_reason(error, _transfer_syntax(dataset))) from error
        if frame is None:
            return
        yield frame


def without_unused_bits(pixels: Pixels, stored_bits: int) -> Pixels:
    """Clear what stands above the stored bits (old overlays), keeping the sign; floats stay as they are."""
    unused = pixels.dtype.itemsize * 8 - stored_bits
    if not np.issubdtype(pixels.dtype, np.integer) or stored_bits == 0 or unused <= 0:
        return pixels
    return np.right_shift(np.left_shift(pixels, unused), unused)


def _quiet(frames: Iterator[Pixels]) -> Iterator[Pixels]:
    """The same, without warnings: they may quote values."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _decode(dataset: FileDataset, frames: int) -> Iterator[Pixels]:
    rows, columns = (int(dataset.get(name) or 0) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise UnreadableImageError("damaged header")
    if rows * columns > _LARGEST_FRAME:
        raise UnreadableImageError("picture too large")
    photometric = text_of(dataset, "PhotometricInterpretation").upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", *_COLOUR):
        raise UnreadableImageError("unsupported photometric interpretation")
    palette = _little_endian_palette(dataset) if photometric == "PALETTE COLOR" else None
    for pixels in _decoded_frames(dataset, frames):
        frame = pixels if palette is None else apply_color_lut(pixels, palette)
        if frame.shape not in ((rows, columns), (rows, columns, 3)):
            raise UnreadableImageError("damaged pixel data")
        yield frame


def _decoded_frames(dataset: FileDataset, frames: int) -> Iterator[Pixels]:
    syntax = _transfer_syntax(dataset)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnreadableImageError(_no_decoder(syntax)) from error
    if not decoder.is_available:
        raise UnreadableImageError(_no_decoder(syntax))
    plugin = _PLUGINS.get(syntax, "")
    options: dict[str, Any] = _lossless_jpeg_options(dataset, frames) if plugin == "gdcm" else {}
    for pixels, _ in decoder.iter_array(dataset, indices=range(frames), decoding_plugin=plugin, **options):
        yield pixels


def _lossless_jpeg_options(dataset: FileDataset, frames: int) -> dict[str, Any]:
    """Hold each frame's own header (ITU-T T.81 B.2.2, SOF3) against the data set's before GDCM sees it.

    Returns the options for the decoder: the bits that the frames say they hold.
    """
    precisions = set()
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        start = frame.find(_START_OF_LOSSLESS_FRAME)
        header = frame[start + 4 : start + 10]  # after the marker and the length
        if start < 0 or len(header) < len("PRRCCN"):
            raise UnreadableImageError("damaged pixel data")
        precision, samples = header[0], header[5]
        size = int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big")
        allocated = -(-precision // 8) * 8
        said = (int(dataset.Rows), int(dataset.Columns)), int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
        if (size, samples, allocated) != said:
            raise UnreadableImageError("damaged pixel data")
        precisions.add(precision)
    if len(precisions) != 1 or min(precisions) < int(dataset.BitsStored):
        raise UnreadableImageError("damaged pixel data")
    return {"bits_stored": precisions.pop()}


def _little_endian_palette(dataset: FileDataset) -> Dataset:
    """The colour tables in the byte order that pydicom's look-up takes for granted (it forgets big endian files)."""
    palette = Dataset()
    palette.update({element.tag: element for element in dataset.group_dataset(0x0028)})
    palette.file_meta = getattr(dataset, "file_meta", FileMetaDataset())
    if is_little_endian(dataset):
        return palette
    for keyword in (f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")):
        if keyword in palette:
            swapped = np.frombuffer(palette[keyword].value, dtype=np.uint16).byteswap().tobytes()
            palette.add_new(keyword, "OW", swapped)
    return palette


def _transfer_syntax(dataset: FileDataset) -> UID:
    stated = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    return UID(stated) if stated else ImplicitVRLittleEndian  # a bare data set (PS3.5 10.1)


def _no_decoder(syntax: UID) -> str:
    return f"no decoder for {syntax.name}" if syntax.name != syntax else "no decoder for a private transfer syntax"


def _reason(error: Exception, syntax: UID) -> str:
    """A fixed phrase for what went wrong; the library's own words may quote the file."""
    words = str(error).lower()
    if any(phrase in words for phrase in _CUT_OFF_WORDS):
        return "truncated file"
    if "does not support" in words or "are missing dependencies" in words:
        return _no_decoder(syntax)
    return "damaged pixel data"
