"""DICOM -> `StudyImage`s: the chosen frames of a file. With its neighbours the one user of pydicom."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading.choice import FrameChoice
from radsearch.reading.decoding import PIXEL_TAGS, decode, frame_format, is_compressed
from radsearch.reading.facts import FACT_TAGS, read_facts, text_of
from radsearch.reading.functional_groups import GROUP_TAGS
from radsearch.reading.geometry import GEOMETRY_TAGS, read_geometry
from radsearch.reading.greyscale import GREYSCALE_TAGS, read_greyscale
from radsearch.reading.opening import OpenedDicom, open_dicom
from radsearch.reading.vocabulary import no_picture_reason
from radsearch.study import Facts, Pixels, StudyImage

_IDENTITY_TAGS = ("SOPInstanceUID", "SOPClassUID", "Modality", "NumberOfFrames", "FrameTime", "CineRate")
_SIZE_TAGS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation")
_ALL_TAGS = tuple(
    dict.fromkeys((*_IDENTITY_TAGS, *PIXEL_TAGS, *FACT_TAGS, *GREYSCALE_TAGS, *GEOMETRY_TAGS, *GROUP_TAGS))
)
_GREY_DIMENSIONS = 2
_CINE_MODALITIES = frozenset(("US", "IVUS", "XA", "RF", "ES"))
_VOLUME_CLASSES = frozenset((
    "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
    "1.2.840.10008.5.1.4.1.1.13.1.1",  # X-Ray 3D Angiographic
))  # fmt: skip


def read_identity(path: Path, choice: FrameChoice) -> tuple[str | None, int, tuple[int, ...]]:
    """SOP Instance UID (None where there is none), number of frames, numbers of the chosen ones; from the header alone.

    Raises:
        UnreadableImageError: the file is no DICOM, holds no picture, or its header is damaged or belied by its size.
    """
    with open_dicom(path, (*_IDENTITY_TAGS, *_SIZE_TAGS)) as opened:
        header = opened.header
        _skip_what_is_no_picture(header)
        _refuse_without_pixels(opened)
        frames = _frames(header)
        _refuse_what_cannot_hold(opened, frames)
        return text_of(header, "SOPInstanceUID") or None, frames, choice.of(frames, is_cine=_is_cine(header))


def read(path: Path, pseudonymizer: Pseudonymizer, numbers: Sequence[int] | None) -> Iterator[StudyImage]:
    """Decode the frames with these numbers (from 1, ascending), or all, one at a time.

    Raises:
        UnreadableImageError: no DICOM, no picture, truncated, damaged, or no decoder for its transfer syntax.
    """
    with open_dicom(path, _ALL_TAGS) as opened:
        header = opened.header
        _skip_what_is_no_picture(header)
        _refuse_without_pixels(opened)
        frames = _frames(header)
        _refuse_what_cannot_hold(opened, frames)
        wanted = range(1, frames + 1) if numbers is None else numbers
        if wanted[-1] > frames:
            raise UnreadableImageError("truncated file")
        facts = read_facts(header, pseudonymizer)
        read_numbers = []
        assert opened.pixels is not None  # noqa: S101 -- refused above
        for number, pixels in zip(wanted, decode(opened, opened.pixels, frames, wanted), strict=False):
            try:
                image = _study_image(opened, pixels, facts, number, frames)
            except Exception as error:  # pydicom decodes late: any element may hold anything
                raise UnreadableImageError("damaged header") from error
            yield image
            read_numbers.append(number)
        if len(read_numbers) != len(wanted):
            raise UnreadableImageError("truncated file")


def _study_image(opened: OpenedDicom, pixels: Pixels, facts: Facts, number: int, frames: int) -> StudyImage:
    header = opened.header
    bits = pixels.dtype.itemsize * 8
    like = frame_format(header, opened.pixels.keyword if opened.pixels else "PixelData")
    if like.photometric != "PALETTE COLOR":
        bits = min(bits, like.bits_stored)
    greyscale = read_greyscale(header, number - 1) if pixels.ndim == _GREY_DIMENSIONS else None
    geometry = read_geometry(header, number - 1, *pixels.shape[:2])
    encoding = f"DICOM, {opened.syntax.name}, {like.photometric}"
    return StudyImage(pixels, greyscale, facts, bits, number, frames, geometry, encoding)


def _skip_what_is_no_picture(header: Dataset) -> None:
    file_meta = getattr(header, "file_meta", Dataset())
    sop_class = text_of(header, "SOPClassUID") or text_of(file_meta, "MediaStorageSOPClassUID")
    reason = no_picture_reason(sop_class)
    if reason is not None:
        raise UnreadableImageError(f"no picture: {reason}", skipped=True)


def _refuse_without_pixels(opened: OpenedDicom) -> None:
    if opened.pixels is not None:
        return
    if "Rows" in opened.header or "SOPClassUID" in opened.header:
        raise UnreadableImageError("no pixel data")
    raise UnreadableImageError("truncated file")


def _refuse_what_cannot_hold(opened: OpenedDicom, frames: int) -> None:
    """No list of a billion frames is made for a lie: each takes its bytes, a compressed one those of its item."""
    like = frame_format(opened.header, opened.pixels.keyword if opened.pixels else "PixelData")
    if is_compressed(opened.syntax):
        least = len("item tag") * frames
    else:
        least = like.rows * like.columns * like.samples * like.bits_allocated * frames // 8
        least = least * 2 // 3 if like.photometric == "YBR_FULL_422" else least
    if least > opened.size:
        raise UnreadableImageError("truncated file")


def _is_cine(header: Dataset) -> bool:
    """Whether the frames are those of a film; else they are slices of a volume, or stand for themselves."""
    if text_of(header, "SOPClassUID") in _VOLUME_CLASSES:
        return False
    timed = any(text_of(header, keyword) for keyword in ("FrameTime", "CineRate"))
    return timed or text_of(header, "Modality").upper() in _CINE_MODALITIES


def _frames(header: Dataset) -> int:
    text = text_of(header, "NumberOfFrames")
    return int(text) if text.isdecimal() and int(text) > 0 else 1
