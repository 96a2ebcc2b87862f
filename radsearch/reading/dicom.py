"""DICOM -> `StudyImage`s: every frame of a file, decoded one at a time. With its neighbours the one user of pydicom."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID, ImplicitVRLittleEndian

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading.facts import read_facts, text_of
from radsearch.reading.greyscale import is_little_endian, read_greyscale
from radsearch.reading.vocabulary import no_picture_reason
from radsearch.study import Pixels, StudyImage

_PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LARGEST_FRAME = 200_000_000  # pixels; the largest detectors have 30 million
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "YBR_PARTIAL_420")


def read_identity(path: Path) -> tuple[str | None, int]:
    """SOP Instance UID (None where there is none) and declared number of frames, from the header alone.

    Raises:
        UnreadableImageError: the file is no DICOM, holds no picture, or its header is damaged.
    """
    wanted = ["SOPInstanceUID", "SOPClassUID", "NumberOfFrames"]
    header = _parse(path, stop_before_pixels=True, specific_tags=wanted)
    _skip_what_is_no_picture(header)
    return text_of(header, "SOPInstanceUID") or None, _frames(header)


def read(path: Path, pseudonymizer: Pseudonymizer) -> Iterator[StudyImage]:
    """Decode a file frame by frame.

    Raises:
        UnreadableImageError: no DICOM, no picture, truncated, damaged, or no decoder for its transfer syntax.
    """
    dataset = _parse(path)
    _skip_what_is_no_picture(dataset)
    _refuse_without_pixels(dataset)
    frames = _frames(dataset)
    facts = read_facts(dataset, pseudonymizer)
    number = 0
    for number, pixels in enumerate(_decode(dataset), start=1):
        grey = pixels.ndim == 2  # noqa: PLR2004 -- rows and columns
        yield StudyImage(
            pixels=_without_unused_bits(pixels, dataset) if grey else pixels,
            greyscale=read_greyscale(dataset, number - 1) if grey else None,
            facts=facts,
            bits=pixels.dtype.itemsize * 8,
            frame=number,
            frames=frames,
        )
    if number != frames:
        raise UnreadableImageError("truncated file")


def _parse(path: Path, **options: Any) -> FileDataset:
    """Read a data set without a word: pydicom's warnings quote values, which may be a patient's."""
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, force=True, **options)
            empty = len(dataset) == 0
    except (InvalidDicomError, EOFError) as error:
        raise UnreadableImageError("truncated file") from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's fault, not the file's
        raise UnreadableImageError("damaged header") from error
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UnreadableImageError("damaged header") from error
    if empty:
        raise UnreadableImageError(
            "truncated file" if dataset.preamble else "not an image", skipped=not dataset.preamble
        )
    return dataset


def _skip_what_is_no_picture(dataset: Dataset) -> None:
    sop_class = text_of(dataset, "SOPClassUID") or text_of(
        getattr(dataset, "file_meta", Dataset()), "MediaStorageSOPClassUID"
    )
    reason = no_picture_reason(sop_class)
    if reason is not None:
        raise UnreadableImageError(f"no picture: {reason}", skipped=True)


def _refuse_without_pixels(dataset: Dataset) -> None:
    if any(name in dataset for name in _PIXEL_ELEMENTS):
        return
    if "Rows" in dataset or "SOPClassUID" in dataset:
        raise UnreadableImageError("no pixel data")
    raise UnreadableImageError("truncated file")


def _frames(dataset: Dataset) -> int:
    text = text_of(dataset, "NumberOfFrames")
    return int(text) if text.isdecimal() and int(text) > 0 else 1


def _decode(dataset: FileDataset) -> Iterator[Pixels]:
    """(rows, columns) or (rows, columns, 3) RGB of each frame."""
    rows, columns = (int(text_of(dataset, name) or 0) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise UnreadableImageError("damaged header")
    if rows * columns > _LARGEST_FRAME:
        raise UnreadableImageError("picture too large")
    photometric = text_of(dataset, "PhotometricInterpretation").upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", *_COLOUR):
        raise UnreadableImageError("unsupported photometric interpretation")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            palette = _little_endian_palette(dataset)
            for pixels in _decoded_frames(dataset):
                frame = apply_color_lut(pixels, palette) if photometric == "PALETTE COLOR" else pixels
                yield _checked_shape(frame, rows, columns)
    except UnreadableImageError:
        raise
    except MemoryError as error:
        raise UnreadableImageError("picture too large") from error
    except Exception as error:  # decoders raise whatever the bytes lead them to
        raise UnreadableImageError(_decoding_reason(error)) from error


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


def _decoded_frames(dataset: FileDataset) -> Iterator[Pixels]:
    syntax = _transfer_syntax(dataset)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnreadableImageError(_no_decoder(syntax)) from error
    if not decoder.is_available:
        raise UnreadableImageError(_no_decoder(syntax))
    for pixels, _ in decoder.iter_array(dataset):
        yield pixels


def _transfer_syntax(dataset: FileDataset) -> UID:
    stated = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    return UID(stated) if stated else ImplicitVRLittleEndian  # a bare data set (PS3.5 10.1)


def _no_decoder(syntax: UID) -> str:
    return f"no decoder for {syntax.name}" if syntax.name != syntax else "no decoder for a private transfer syntax"


def _decoding_reason(error: Exception) -> str:
    """A fixed phrase for what went wrong; the library's own words may quote the file."""
    words = str(error).lower()
    cut_off = ("less than expected", "length of the pixel data", "no such frame", "not enough", "end of", "fewer")
    if any(phrase in words for phrase in cut_off):
        return "truncated file"
    return "damaged pixel data"


def _checked_shape(frame: Pixels, rows: int, columns: int) -> Pixels:
    if frame.shape not in ((rows, columns), (rows, columns, 3)):
        raise UnreadableImageError("damaged pixel data")
    return frame


def _without_unused_bits(pixels: Pixels, dataset: Dataset) -> Pixels:
    """Clear what stands above the stored bits (old overlays), keeping the sign; floats stay as they are."""
    stored = int(dataset.get("BitsStored") or 0)
    unused = pixels.dtype.itemsize * 8 - stored
    if not np.issubdtype(pixels.dtype, np.integer) or stored == 0 or unused <= 0:
        return pixels
    return np.right_shift(np.left_shift(pixels, unused), unused)
