"""DICOM -> `StudyImage`s: every frame of a file. With its neighbours the one user of pydicom."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading.decoding import decode, without_unused_bits
from radsearch.reading.facts import read_facts, text_of
from radsearch.reading.greyscale import read_greyscale
from radsearch.reading.vocabulary import no_picture_reason
from radsearch.study import Facts, Pixels, StudyImage

_PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GREY_DIMENSIONS = 2


def read_identity(path: Path) -> tuple[str | None, int]:
    """SOP Instance UID (None where there is none) and declared number of frames, from the header alone.

    Raises:
        UnreadableImageError: the file is no DICOM, holds no picture, or its header is damaged.
    """
    wanted = ["SOPInstanceUID", "SOPClassUID", "NumberOfFrames"]
    header = _parse(path, stop_before_pixels=True, specific_tags=wanted)
    _skip_what_is_no_picture(header)
    frames = _frames(header)
    if frames > path.stat().st_size:  # each takes a byte at least; no list of a billion ids is made for a lie
        raise UnreadableImageError("truncated file")
    return text_of(header, "SOPInstanceUID") or None, frames


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
    for number, pixels in enumerate(decode(dataset, frames), start=1):
        try:
            yield _study_image(dataset, pixels, facts, number, frames)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise UnreadableImageError("damaged header") from error  # an element that holds what it must not
    if number != frames:
        raise UnreadableImageError("truncated file")


def _study_image(dataset: Dataset, pixels: Pixels, facts: Facts, number: int, frames: int) -> StudyImage:
    bits = pixels.dtype.itemsize * 8
    if text_of(dataset, "PhotometricInterpretation").upper() != "PALETTE COLOR":
        bits = min(bits, int(dataset.get("BitsStored") or bits))
        pixels = without_unused_bits(pixels, bits)
    greyscale = read_greyscale(dataset, number - 1) if pixels.ndim == _GREY_DIMENSIONS else None
    return StudyImage(pixels, greyscale, facts, bits=bits, frame=number, frames=frames)


def _parse(path: Path, **options: Any) -> FileDataset:
    """Read a data set without a word: pydicom's warnings quote values, which may be a patient's."""
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, force=True, **options)
    except (InvalidDicomError, EOFError) as error:
        raise UnreadableImageError("truncated file") from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's fault, not the file's
        raise UnreadableImageError("damaged header") from error
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UnreadableImageError("damaged header") from error
    if len(dataset) == 0:
        bare = not dataset.preamble
        raise UnreadableImageError("not an image" if bare else "truncated file", skipped=bare)
    return dataset


def _skip_what_is_no_picture(dataset: FileDataset) -> None:
    file_meta = getattr(dataset, "file_meta", Dataset())
    sop_class = text_of(dataset, "SOPClassUID") or text_of(file_meta, "MediaStorageSOPClassUID")
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
