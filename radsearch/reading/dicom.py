"""DICOM -> `StudyImage`s: the chosen frames of a file. With its neighbours the one user of pydicom."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading.burned_in import TEXT_TAGS, read_text_risk
from radsearch.reading.choice import FrameChoice
from radsearch.reading.codecs import FrameFormat
from radsearch.reading.decoding import PIXEL_TAGS, decode, frame_format, is_compressed
from radsearch.reading.elements import text_of, whole_number_of
from radsearch.reading.facts import FACT_TAGS, read_facts
from radsearch.reading.functional_groups import GROUP_TAGS
from radsearch.reading.geometry import GEOMETRY_TAGS, ULTRASOUND_REGIONS, read_geometry
from radsearch.reading.greyscale import GREYSCALE_TAGS, read_greyscale
from radsearch.reading.opening import OpenedDicom, PixelElement, open_dicom
from radsearch.reading.vocabulary import no_picture_reason
from radsearch.study import Facts, Geometry, Pixels, StudyImage, TextRisk

_IDENTITY_TAGS = ("SOPInstanceUID", "SOPClassUID", "Modality", "NumberOfFrames", "FrameTime", "CineRate")
_SIZE_TAGS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation")
_ALL_TAGS = tuple(
    dict.fromkeys((*_IDENTITY_TAGS, *PIXEL_TAGS, *FACT_TAGS, *GREYSCALE_TAGS, *GEOMETRY_TAGS, *GROUP_TAGS, *TEXT_TAGS))
)
_GREY_DIMENSIONS = 2
_AS_THEY_ARE = ("MONOCHROME1", "MONOCHROME2", "RGB")
_MOST_FRAMES = 100_000
_LEAST_STRIP = 0.02  # of the picture's side: regions that leave less at every edge are the whole picture, text and all
_UID = re.compile(r"[0-9.]{1,64}")
_CINE_MODALITIES = frozenset(("US", "IVUS", "XA", "RF", "ES"))
_VOLUME_CLASSES = frozenset((
    "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
    "1.2.840.10008.5.1.4.1.1.13.1.1",  # X-Ray 3D Angiographic
))  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """The frames that an open file holds: where, in what format, how many."""

    pixels: PixelElement
    like: FrameFormat
    count: int


@dataclass(frozen=True, slots=True)
class HeaderIdentity:
    """What a header tells of its file: SOP Instance UID (None where there is none), how many frames, which are chosen.

    text_risk: why text may be burned into them.
    """

    uid: str | None
    frames: int
    chosen: tuple[int, ...]
    text_risk: TextRisk | None


def read_identity(path: Path, choice: FrameChoice) -> HeaderIdentity:
    """From the header alone.

    Raises:
        UnreadableImageError: the file is no DICOM, holds no picture, or its header is damaged or belied by its size.
    """
    with open_dicom(path, (*_IDENTITY_TAGS, *_SIZE_TAGS, *TEXT_TAGS, *GEOMETRY_TAGS)) as opened:
        header = opened.header
        frames = _frames_of(opened)
        chosen = choice.of(frames.count, is_cine=_is_cine(header))
        size = frames.like.rows, frames.like.columns
        risk = _text_risk(header, read_geometry(header, 0, *size), *size)
        uid = text_of(header, "SOPInstanceUID") or None
        return HeaderIdentity(uid, frames.count, chosen, risk)


def read_study_uid(path: Path) -> str | None:
    """The Study Instance UID; None where there is none that is a UID (PS3.5 9.1). Raises UnreadableImageError."""
    with open_dicom(path, ("StudyInstanceUID",)) as opened:
        uid = text_of(opened.header, "StudyInstanceUID")
    return uid if _UID.fullmatch(uid) else None


def read(path: Path, pseudonymizer: Pseudonymizer, numbers: Sequence[int] | None) -> Iterator[StudyImage]:
    """Decode the frames with these numbers (from 1, ascending), or all, one at a time.

    Raises:
        UnreadableImageError: no DICOM, no picture, truncated, damaged, or no decoder for its transfer syntax.
    """
    with open_dicom(path, _ALL_TAGS) as opened:
        frames = _frames_of(opened)
        wanted = range(1, frames.count + 1) if numbers is None else numbers
        if not wanted:
            return
        if wanted[-1] > frames.count:
            raise UnreadableImageError("truncated file")
        facts = read_facts(opened.header, pseudonymizer)
        done = 0
        decoded = decode(opened, frames.pixels, frames.like, frames.count, wanted)
        for number, pixels in zip(wanted, decoded, strict=False):
            try:
                image = _study_image(opened, frames, pixels, facts, number)
            except Exception as error:  # pydicom decodes late: any element may hold anything
                raise UnreadableImageError("damaged header") from error
            yield image
            done += 1
        if done != len(wanted):
            raise UnreadableImageError("truncated file")


def _study_image(opened: OpenedDicom, frames: _Frames, pixels: Pixels, facts: Facts, number: int) -> StudyImage:
    header, like = opened.header, frames.like
    bits = pixels.dtype.itemsize * 8
    if like.photometric != "PALETTE COLOR":
        bits = min(bits, like.bits_stored)
    greyscale = read_greyscale(header, number - 1) if pixels.ndim == _GREY_DIMENSIONS else None
    geometry = read_geometry(header, number - 1, *pixels.shape[:2])
    turned = {"PALETTE COLOR": " looked up in its palette"}.get(like.photometric, " turned into RGB")
    encoding = f"DICOM, {opened.syntax.name}, {like.photometric}{'' if like.photometric in _AS_THEY_ARE else turned}"
    risk = _text_risk(header, geometry, *pixels.shape[:2])
    return StudyImage(pixels, greyscale, facts, bits, number, frames.count, geometry, encoding, risk)


def _text_risk(header: Dataset, geometry: Geometry, rows: int, columns: int) -> TextRisk | None:
    return read_text_risk(header, _sop_class(header), cut_to_regions=_cuts_text_off(geometry, rows, columns))


def _cuts_text_off(geometry: Geometry, rows: int, columns: int) -> bool:
    """Whether what is shown is cut to ultrasound regions, with the room for a line of text outside of them."""
    if geometry.crop is None or geometry.crop_reason != ULTRASOUND_REGIONS:
        return False
    top, left, bottom, right = geometry.crop
    return max(top, rows - bottom) >= _LEAST_STRIP * rows or max(left, columns - right) >= _LEAST_STRIP * columns


def _sop_class(header: Dataset) -> str:
    return text_of(header, "SOPClassUID") or text_of(header.file_meta, "MediaStorageSOPClassUID")


def _frames_of(opened: OpenedDicom) -> _Frames:
    """Skip what is no picture, and refuse what cannot be one: no pixels, or fewer bytes than its frames need."""
    header = opened.header
    sop_class = _sop_class(header)
    reason = no_picture_reason(sop_class)
    if reason is not None:
        raise UnreadableImageError(f"no picture: {reason}", skipped=True)
    if opened.pixels is None:
        told = "Rows" in header or sop_class != ""
        raise UnreadableImageError("no pixel data" if told else "truncated file")
    like, count = frame_format(header, opened.pixels.keyword), max(1, whole_number_of(header, "NumberOfFrames"))
    if _least_bytes(opened, like) * count > opened.size:
        raise UnreadableImageError("truncated file")
    if count > _MOST_FRAMES:
        raise UnreadableImageError("too many frames")
    return _Frames(opened.pixels, like, count)


def _least_bytes(opened: OpenedDicom, like: FrameFormat) -> int:
    """Bytes that a frame takes at least: no list of a billion frames is made for a lie."""
    if is_compressed(opened.syntax):
        return len("item")  # the tag of its fragment alone
    whole = like.rows * like.columns * like.samples * like.bits_allocated // 8
    return whole * 2 // 3 if like.photometric == "YBR_FULL_422" else whole


def _is_cine(header: Dataset) -> bool:
    """Whether the frames are those of a film; else they are slices of a volume, or stand for themselves."""
    if text_of(header, "SOPClassUID") in _VOLUME_CLASSES:
        return False
    timed = any(text_of(header, keyword) for keyword in ("FrameTime", "CineRate"))
    return timed or text_of(header, "Modality").upper() in _CINE_MODALITIES
