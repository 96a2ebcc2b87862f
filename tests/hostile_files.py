"""Files that mean harm, made byte by byte: they claim to be large, lie about lengths, or are something else."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, SecondaryCaptureImageStorage

_BOMB = 50_000_000  # bytes that a chunk inflates to


def png(*chunks: tuple[bytes, bytes], columns: int = 1, rows: int = 1) -> bytes:
    """A grey PNG of one pixel that claims a size, with further chunks before its pixels."""
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    all_chunks = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(2))), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in all_chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_with_a_bomb(kind: bytes) -> bytes:
    """A PNG whose colour profile (iCCP) or text (zTXt) inflates to 50 MB."""
    return png((kind, b"name\0\0" + zlib.compress(bytes(_BOMB), 9)))


def jpeg(columns: int = 8, rows: int = 8) -> bytes:
    """A grey JPEG of 8 x 8 pixels that claims a size."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", rows, columns)
    return bytes(content)


def jpeg_2000(columns: int, rows: int) -> bytes:
    """The beginning of a codestream that claims a size (ISO/IEC 15444-1 A.5.1), and its end."""
    size = struct.pack(">HHIIIIIIIIH", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + b"\x07\x01\x01"
    return b"\xff\x4f\xff\x51" + size + b"\xff\xd9"


def zip_of(name: str = "a.dcm") -> bytes:
    """An archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "x")
    return stream.getvalue()


def dicom(
    tail: bytes = b"", *, syntax: UID = ExplicitVRLittleEndian, preamble: bytes = bytes(128), **elements: object
) -> bytes:
    """A grey picture of 8 x 8 pixels; elements of any value, and bytes behind its last one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = bytes(range(64))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return preamble + stream.getvalue()[128:] + tail


def dicom_of_codestream(codestream: bytes, syntax: UID, side: int) -> bytes:
    """A picture of one compressed frame, whose header claims the same size as its codestream."""
    return dicom(syntax=syntax, Rows=side, Columns=side, PixelData=encapsulate([codestream]))


def dicom_bomb_in_jpeg_2000() -> bytes:
    """A frame of a hundred bytes that claims 65,535 x 65,535 pixels, as its header does."""
    return dicom_of_codestream(jpeg_2000(65535, 65535), JPEG2000Lossless, 65535)


def dicom_bomb_in_jpeg() -> bytes:
    """Likewise as a JPEG."""
    return dicom_of_codestream(jpeg(65535, 65535), JPEGBaseline8Bit, 65535)


def nested(depth: int, *, closed: bool = True) -> bytes:
    """A picture whose first sequence holds a sequence that holds a sequence ..., each of undefined length."""
    opened = b"\x08\x00\x12\x21SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    ended = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return _before_pixels(opened * depth + (ended * depth if closed else b""))


def length_lie(length: int) -> bytes:
    """An element before the pixels that claims so many bytes."""
    return _before_pixels(b"\x08\x00\x12\x21OB\0\0" + struct.pack("<I", length))


def _before_pixels(element: bytes) -> bytes:
    """Behind the instance's own number (0008,0018), where (0008,2112) may stand."""
    whole = dicom()
    place = whole.index(b"\x28\x00\x02\x00US")
    return whole[:place] + element + whole[place:]


def write(folder: Path, content: bytes, name: str = "hostile") -> Path:
    """The bytes as a file."""
    path = folder / name
    path.write_bytes(content)
    return path
