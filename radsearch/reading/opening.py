"""A DICOM file -> its wanted header elements, and where its pixel data stand; the pixels themselves stay on disk."""

import io
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _at_pixel_data, _read_file_meta_info, read_dataset, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from radsearch.errors import TOO_MUCH_MEMORY, UnreadableImageError
from radsearch.reading.elements import tags_of, text_of

UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_ELEMENTS = {0x7FE00010: "PixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00008: "FloatPixelData"}
_LARGEST_INFLATED = 1 << 31
_LONG_LENGTH_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
_INFLATE_PIECE = 1 << 24
_LARGE_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The pixel data element: keyword, VR (None where it is implicit), place of its value, its length."""

    keyword: str
    vr: str | None
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class OpenedDicom:
    """An open file. `header` holds the wanted elements; `size` is the length of `stream`."""

    header: Dataset
    stream: BinaryIO
    pixels: PixelElement | None
    size: int

    @property
    def syntax(self) -> UID:
        """The transfer syntax of the data set."""
        return transfer_syntax(self.header)


class _File(io.BufferedReader):
    """A file that reserves no more memory than it has bytes, whatever length a damaged element claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_READ:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def transfer_syntax(header: Dataset) -> UID:
    """As the file meta information says; a bare data set has the default one (PS3.5 10.1)."""
    stated = getattr(header, "file_meta", Dataset()).get("TransferSyntaxUID")
    return UID(stated) if isinstance(stated, str) and stated else ImplicitVRLittleEndian


def is_little_endian(header: Dataset) -> bool:
    """Whether words inside byte-valued elements have their low byte first; a bare data set has (PS3.5 10.1)."""
    return transfer_syntax(header) != ExplicitVRBigEndian


@contextmanager
def open_dicom(path: Path, keywords: tuple[str, ...]) -> Iterator[OpenedDicom]:
    """Parse the header up to the pixel data, keeping the elements named by `keywords`.

    Raises:
        UnreadableImageError: the file is no DICOM, or its header is damaged.
        OSError: the disk's fault.
    """
    with _File(io.FileIO(path)) as file:
        stream, header = _parsed(file, keywords)
        if len(header) == 0 and not text_of(header.file_meta, "MediaStorageSOPClassUID"):
            bare = not getattr(header, "preamble", None)
            raise UnreadableImageError("not an image" if bare else "truncated file", skipped=bare)
        begin = stream.tell()
        size = stream.seek(0, io.SEEK_END)
        stream.seek(begin)
        yield OpenedDicom(header, stream, _pixel_element(stream, header), size)


def _parsed(file: _File, keywords: tuple[str, ...]) -> tuple[BinaryIO, Dataset]:
    """Read without a word: pydicom's warnings quote values, which may be a patient's."""
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if DeflatedExplicitVRLittleEndian.encode() in file.peek(1024)[:1024]:
                return _inflated(file, keywords)
            return file, dcmread(file, force=True, stop_before_pixels=True, specific_tags=[*tags_of(keywords)])
    except UnreadableImageError:
        raise
    except (InvalidDicomError, EOFError) as error:
        raise UnreadableImageError("truncated file") from error
    except MemoryError as error:
        raise UnreadableImageError(TOO_MUCH_MEMORY) from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's fault, not the file's
        raise UnreadableImageError("damaged header") from error
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UnreadableImageError("damaged header") from error


def _inflated(file: _File, keywords: tuple[str, ...]) -> tuple[BinaryIO, Dataset]:
    """A deflated data set (PS3.5 A.5), inflated piece by piece up to a limit."""
    preamble = read_preamble(file, force=True)
    file_meta = _read_file_meta_info(file)
    inflated, inflater = io.BytesIO(), zlib.decompressobj(-zlib.MAX_WBITS)
    rest = file.read()
    try:
        while piece := inflater.decompress(rest, _INFLATE_PIECE):
            inflated.write(piece)
            rest = inflater.unconsumed_tail
            if inflated.tell() > _LARGEST_INFLATED:
                raise UnreadableImageError("picture too large")
    except zlib.error as error:
        raise UnreadableImageError("damaged deflated data") from error
    if not inflater.eof:
        raise UnreadableImageError("truncated file")
    inflated.seek(0)
    header = read_dataset(
        inflated,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=_at_pixel_data,
        specific_tags=[*tags_of(keywords)],
    )
    header.file_meta = file_meta
    header.preamble = preamble  # as a FileDataset has it
    return inflated, header


def _pixel_element(stream: BinaryIO, header: Dataset) -> PixelElement | None:
    """Read the element's own header (PS3.5 7.1), at which pydicom has stopped; None at the end of the file."""
    order: Literal["little", "big"] = "little" if is_little_endian(header) else "big"
    begin = stream.tell()
    head = stream.read(12)
    if len(head) < len("ggeellll"):
        return None
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    keyword = _PIXEL_ELEMENTS.get(tag)
    if keyword is None:
        return None
    if head[4:6] in _LONG_LENGTH_VRS:  # explicit, whatever the transfer syntax says
        length = int.from_bytes(head[8:12], order)
        start, vr = begin + 12, head[4:6].decode()
    else:
        length = int.from_bytes(head[4:8], order)
        start, vr = begin + 8, None
    stream.seek(start)
    return PixelElement(keyword, vr, start, length)
