"""NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`) -> `StudyImage`s, one an axial slice, as a radiologist looks at it.

Only the first volume of a file is taken: the first in time, diffusion direction or contrast where there are several.
Pairs of `.hdr` and `.img` are not taken. Source: nifti1.h and nifti2.h of the NIfTI data format working group.
"""

import gzip
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radsearch.errors import TOO_MUCH_MEMORY, UnreadableImageError
from radsearch.reading.nifti_values import Volume, describe_values, interpret_header, own_pixels
from radsearch.study import Facts, Geometry, Pixels, StudyImage

_ByteOrder: TypeAlias = Literal["<", ">"]

_GZIP = b"\x1f\x8b"
_GZIP_HEAD_BYTES = 1 << 17  # the longest extra field of a gzip header (64 KiB), and a NIfTI header behind it
_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = {1: 348, 2: 540}
_MAGIC_1 = b"n+1\0"
_MAGIC_2 = b"n+2\0\r\n\x1a\n"


def is_nifti(head: bytes, path: Path) -> bool:
    """Whether a file is NIfTI in one file, by its content.

    Args:
        head: the first 348 bytes of the file, or more.
        path: the file; of a gzip file the NIfTI header is inflated and no more. Damaged gzip is not NIfTI.

    Raises:
        OSError: the file cannot be opened.
    """
    return _version(_read_head(path)[0] if head.startswith(_GZIP) else head) is not None


def count_frames(path: Path) -> int:
    """How many axial slices the first volume has, from the header alone.

    Raises:
        UnreadableImageError: the header is nonsense, or of a segmentation, of a mere series of numbers or of a data
            type that is neither grey nor colour; an uncompressed file is shorter than the voxels that it declares; a
            volume is larger than 4 GiB in its stored type, or a slice than 200 million pixels.
        OSError: the file cannot be opened.
    """
    return _read_header(path).slices


def read(path: Path, frames: Sequence[int]) -> Iterator[StudyImage]:
    """Read slices of the first volume as radiologists look at them: patient's right on the left, anterior on top.

    No voxel is interpolated: an oblique volume is cut across the stored axis that is nearest to superior-inferior. A
    volume that is one voxel thick is one slice whatever its plane, with superior on top of a coronal or sagittal one
    and the patient's right or anterior on the left. A file with neither sform nor qform is taken as nibabel takes it:
    i runs to the patient's left, j to anterior, k to superior.

    Pixels keep their stored type, in the machine's byte order (uint64 becomes float64), with the scale told beside
    them. RGB and RGBA voxels give colour, without alpha. No text of the header gets out.

    An uncompressed file is memory mapped; a compressed one is inflated as far as the first volume goes, so that damage
    behind it is not seen.

    Args:
        path: the file.
        frames: numbers of the slices, counted from 1, from feet to head.

    Raises:
        UnreadableImageError: as `count_frames`; also when the voxels are cut off or damaged.
        OSError: the file cannot be opened.
    """
    volume = _read_header(path)
    try:
        stored = _inflate_voxels(path, volume) if volume.compressed else _map_voxels(path, volume)
        yield from _cut(stored, volume, frames)
    except MemoryError as error:
        raise UnreadableImageError(TOO_MUCH_MEMORY) from error


def _cut(stored: Pixels, volume: Volume, frames: Sequence[int]) -> Iterator[StudyImage]:
    slices = _arrange(stored, volume)
    greyscale = describe_values(stored, volume)
    bits = 8 if greyscale is None else greyscale.bits_stored
    geometry = Geometry(pixel_aspect=volume.pixel_aspect)
    for number in frames:
        if not 1 <= number <= len(slices):
            raise UnreadableImageError("truncated file")  # it had this slice when its slices were counted
        pixels = own_pixels(slices[number - 1])
        yield StudyImage(pixels, greyscale, Facts(), bits, number, len(slices), geometry, "NIfTI")


def _read_head(path: Path) -> tuple[bytes, bool]:
    """The first 540 bytes of what the file holds, as far as there are any, and whether it is compressed."""
    with path.open("rb") as stream:
        raw = stream.read(_GZIP_HEAD_BYTES)
    if not raw.startswith(_GZIP):
        return raw[: _HEADER_BYTES[2]], False
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, _HEADER_BYTES[2]), True
    except zlib.error:
        return b"", True


def _version(head: bytes) -> tuple[int, _ByteOrder] | None:
    """1 or 2, and the byte order; None for what is no NIfTI in one file."""
    orders: tuple[tuple[_ByteOrder, Literal["little", "big"]], ...] = (("<", "little"), (">", "big"))
    for order, name in orders:
        header_bytes = int.from_bytes(head[:4], name)
        if header_bytes == _HEADER_BYTES[1] and head[344:348] == _MAGIC_1:
            return 1, order
        if header_bytes == _HEADER_BYTES[2] and head[4:12] == _MAGIC_2:
            return 2, order
    return None


def _read_header(path: Path) -> Volume:
    """The header alone: extensions are never looked at, and nibabel's warnings, which may quote it, say nothing."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    head, compressed = _read_head(path)
    version = _version(head)
    if version is None:
        raise UnreadableImageError("damaged header")
    number, order = version
    if len(head) < _HEADER_BYTES[number]:
        raise UnreadableImageError("truncated file")
    kind = Nifti1Header if number == 1 else Nifti2Header
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            header = kind(head[: _HEADER_BYTES[number]], order, check=False)
            volume = interpret_header(header, compressed=compressed)
    except (HeaderDataError, ValueError, ArithmeticError) as error:
        raise UnreadableImageError("damaged header") from error
    if not compressed and path.stat().st_size < volume.offset + volume.volumes * volume.size:
        raise UnreadableImageError("truncated file")
    return volume


def _map_voxels(path: Path, volume: Volume) -> Pixels:
    try:
        return np.memmap(path, volume.dtype, "r", volume.offset, volume.shape, "F")
    except ValueError as error:
        raise UnreadableImageError("truncated file") from error  # since it was measured


def _inflate_voxels(path: Path, volume: Volume) -> Pixels:
    """Inflate no more than is declared; memory fills with what comes, not with what the header promises."""
    inflated = np.empty(volume.size, np.uint8)
    try:
        with gzip.open(path) as stream:
            stream.seek(volume.offset)
            _fill(inflated, stream)
            if volume.volumes == 1:
                stream.read(1)  # the checksum stands behind the last byte
    except EOFError as error:
        raise UnreadableImageError("truncated file") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableImageError("damaged picture") from error
    return inflated.view(volume.dtype).reshape(volume.shape, order="F")


def _fill(inflated: NDArray[np.uint8], stream: gzip.GzipFile) -> None:
    for start in range(0, inflated.size, _CHUNK_BYTES):
        wanted = min(_CHUNK_BYTES, inflated.size - start)
        chunk = stream.read(wanted)
        if len(chunk) < wanted:
            raise EOFError
        inflated[start : start + wanted] = np.frombuffer(chunk, np.uint8)


def _arrange(stored: Pixels, volume: Volume) -> Pixels:
    """A view (slices, rows, columns): what runs right, anterior or superior runs left or up on the picture."""
    from nibabel.orientations import apply_orientation

    towards_right_anterior_superior: Pixels = apply_orientation(stored, volume.orientation)
    slices = np.moveaxis(towards_right_anterior_superior, volume.across, 0)
    return slices.swapaxes(1, 2)[:, ::-1, ::-1]
