"""A file is opened at the right place and takes no more memory than it has bytes; its faults are not the disk's."""

import errno
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from radsearch.errors import UnreadableImageError
from radsearch.reading import identify, opening, read
from radsearch.reading.elements import items_of, number_of, text_of, whole_number_of
from radsearch.reading.opening import PixelElement, is_little_endian, open_dicom, transfer_syntax

MEGABYTE = 1 << 20
KEYWORDS = ("Rows", "Columns", "BitsAllocated", "Modality", "NumberOfFrames", "RedPaletteColorLookupTableData")
PIXELS = np.array([[0x0102, 0x0304, 0x0506], [0x0708, 0x090A, 0x0B0C]], dtype=np.uint16)


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """Fails where Python, numpy or a bytes object held more at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE, f"{peak / MEGABYTE:.0f} MiB"


def rewritten(path: Path, syntax: str) -> Path:
    """The same data set of 16-bit pixels in another transfer syntax."""
    read_one = pydicom.dcmread(path)
    dataset = Dataset()
    dataset.update(read_one)
    dataset.file_meta = read_one.file_meta
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
    target = path.with_name("rewritten.dcm")
    pydicom.dcmwrite(target, dataset, enforce_file_format=True)
    return target


def refusal(path: Path, keywords: tuple[str, ...] = KEYWORDS) -> str:
    with pytest.raises(UnreadableImageError) as error, open_dicom(path, keywords):
        pass
    return error.value.reason


# Where the pixel data stand


@pytest.mark.parametrize(
    ("syntax", "vr", "header_bytes"),
    [(ExplicitVRLittleEndian, "OW", 12), (ImplicitVRLittleEndian, None, 8), (ExplicitVRBigEndian, "OW", 12)],
    ids=["explicit", "implicit", "big endian"],
)
def test_the_pixel_data_are_found_where_they_stand(write_dicom, syntax, vr, header_bytes):
    path = rewritten(write_dicom(pixels=PIXELS), syntax)
    whole = path.read_bytes()
    stored = PIXELS.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    assert whole.count(stored) == 1
    with open_dicom(path, KEYWORDS) as opened:
        assert opened.pixels == PixelElement("PixelData", vr, whole.index(stored), 12)
        assert opened.size == len(whole)
        assert opened.syntax == syntax
        assert opened.stream.tell() == opened.pixels.start
        assert opened.stream.read(12) == stored
        assert opened.header.Rows == 2
    tag = struct.pack(">HH" if syntax == ExplicitVRBigEndian else "<HH", 0x7FE0, 0x0010)
    assert whole[opened.pixels.start - header_bytes :].startswith(tag)


def test_the_pixel_data_of_a_deflated_file_are_found_in_what_it_inflates_to(write_dicom):
    path = rewritten(write_dicom(pixels=PIXELS), DeflatedExplicitVRLittleEndian)
    with open_dicom(path, KEYWORDS) as opened:
        assert opened.pixels is not None
        assert (opened.pixels.keyword, opened.pixels.length) == ("PixelData", 12)
        assert opened.stream.read(12) == PIXELS.tobytes()
        assert opened.size == opened.pixels.start + 12


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_picture_of_a_single_word_is_read(write_dicom, pseudonymizer, syntax):
    """In implicit VR the element is ten bytes long, less than an explicit one's header."""
    path = rewritten(write_dicom(pixels=np.array([[0xABCD]], np.uint16)), syntax)
    assert [image.pixels.tolist() for image in read(path, pseudonymizer)] == [[[0xABCD]]]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_elements_behind_the_pixel_data_are_no_part_of_them(write_dicom, pseudonymizer, syntax):
    path = rewritten(write_dicom(pixels=PIXELS, DataSetTrailingPadding=bytes(50)), syntax)
    with open_dicom(path, KEYWORDS) as opened:
        assert opened.pixels is not None
        assert opened.pixels.length == 12
        assert opened.size > opened.pixels.start + 12
    assert next(read(path, pseudonymizer)).pixels.tolist() == PIXELS.tolist()


@pytest.mark.parametrize(
    ("keyword", "vr", "stored"),
    [("FloatPixelData", "OF", bytes(24)), ("DoubleFloatPixelData", "OD", bytes(48))],
)
def test_pixels_of_floats_are_told_by_their_keyword(write_dicom, keyword, vr, stored):
    path = write_dicom(pixels=PIXELS, PixelData=None, **{keyword: stored})
    with open_dicom(path, KEYWORDS) as opened:
        assert opened.pixels == PixelElement(keyword, vr, len(path.read_bytes()) - len(stored), len(stored))


def test_compressed_pixel_data_have_an_undefined_length(write_dicom):
    dataset = pydicom.dcmread(write_dicom(pixels=PIXELS))
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"code"])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    path = Path(dataset.filename)
    dataset.save_as(path)
    with open_dicom(path, KEYWORDS) as opened:
        assert opened.pixels is not None
        assert (opened.pixels.vr, opened.pixels.length) == ("OB", opening.UNDEFINED_LENGTH)


@pytest.mark.parametrize("trailing", [{}, {"DataSetTrailingPadding": bytes(50)}], ids=["the end", "padding"])
def test_a_file_without_pixel_data_has_no_pixel_element(write_dicom, trailing):
    path = write_dicom(PixelData=None, **trailing)
    with open_dicom(path, KEYWORDS) as opened:
        assert opened.pixels is None


def test_only_the_elements_asked_for_are_kept(write_dicom):
    with open_dicom(write_dicom(), ("Rows", "Modality")) as opened:
        assert {element.keyword for element in opened.header} == {"Rows", "Modality"}


def test_the_file_is_closed_behind_the_reader(write_dicom):
    with open_dicom(write_dicom(), KEYWORDS) as opened:
        stream = opened.stream
        assert not stream.closed
    assert stream.closed


# Transfer syntaxes


def test_a_bare_data_set_is_implicit_little_endian():
    assert transfer_syntax(Dataset()) == ImplicitVRLittleEndian
    assert is_little_endian(Dataset())


def test_a_bare_data_set_in_explicit_vr_is_read_all_the_same(write_dicom, pseudonymizer, tmp_path):
    dataset = pydicom.dcmread(write_dicom(pixels=PIXELS))
    path = tmp_path / "bare"
    with path.open("wb") as file:
        pydicom.filewriter.write_dataset(_explicit(file), dataset)
    assert path.read_bytes()[4:6] == b"UI"
    assert next(read(path, pseudonymizer)).pixels.tolist() == PIXELS.tolist()


def _explicit(file: io.BufferedWriter) -> pydicom.filebase.DicomFileLike:
    stream = pydicom.filebase.DicomFileLike(file)
    stream.is_implicit_VR, stream.is_little_endian = False, True
    return stream


# Claims


def with_element(path: Path, tag: int, vr: bytes, length: int, value: bytes) -> Path:
    """The file cut off before its pixel data, with one element at its end that claims to be so long."""
    whole = path.read_bytes()
    place = whole.index(struct.pack("<HH", 0x7FE0, 0x0010))
    element = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)
    path.write_bytes(whole[:place] + element + value)
    return path


@pytest.mark.parametrize("length", [0x7FFFFFFE, 0xC0000000, 0xFFFFFFFE])
@pytest.mark.parametrize(
    ("tag", "vr"),
    [(0x00281201, b"OW"), (0x00283006, b"OW"), (0x52009229, b"SQ"), (0x00091010, b"UN"), (0x7FE00010, b"OW")],
    ids=["wanted", "wanted, in no item", "a sequence", "not wanted", "the pixel data"],
)
def test_a_length_beyond_the_file_takes_no_memory(write_dicom, pseudonymizer, tag, vr, length):
    path = with_element(write_dicom(), tag, vr, length, bytes(100))
    with at_most(8), pytest.raises(UnreadableImageError):
        list(read(path, pseudonymizer))
    with at_most(8), suppress(UnreadableImageError):
        identify(path, pseudonymizer, name="x")


def test_a_fragment_longer_than_the_file_takes_no_memory(write_dicom, pseudonymizer):
    dataset = pydicom.dcmread(write_dicom(pixels=PIXELS))
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(range(100))])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    path = Path(dataset.filename)
    dataset.save_as(path)
    whole = path.read_bytes()
    claimed = whole.replace(b"\xfe\xff\x00\xe0" + struct.pack("<I", 100), b"\xfe\xff\x00\xe0" + b"\xf0\xff\xff\x7f")
    assert claimed != whole
    path.write_bytes(claimed)
    with at_most(8), pytest.raises(UnreadableImageError):
        list(read(path, pseudonymizer))


def test_a_large_read_ends_with_the_file(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(100))
    with opening._File(io.FileIO(path)) as file, at_most(1):
        file.seek(40)
        assert len(file.read(1 << 40)) == 60
        assert file.read(1 << 40) == b""
        file.seek(500)
        assert file.read(1 << 40) == b""
        file.seek(0)
        assert (len(file.read(10)), len(file.read(None)), len(file.read())) == (10, 90, 0)


@pytest.mark.parametrize("claim", [{"NumberOfFrames": "2147483647"}, {"Rows": 20000, "Columns": 9999}], ids=str)
def test_claims_of_many_pixels_take_no_memory(write_dicom, pseudonymizer, claim):
    path = write_dicom(**claim)
    with at_most(8), pytest.raises(UnreadableImageError, match="truncated file"):
        list(read(path, pseudonymizer))


def test_a_whole_file_is_read_frame_by_frame(write_dicom, pseudonymizer):
    """Forty frames of 512 KiB, of which no more than a few are in memory at once."""
    path = write_dicom(pixels=np.zeros((40, 512, 512), np.uint16))
    with at_most(8):
        assert sum(1 for _ in read(path, pseudonymizer)) == 40


# Deflated files


@pytest.fixture
def deflated(write_dicom) -> Path:
    noise = np.random.default_rng(0).integers(0, 4096, (60, 70)).astype(np.uint16)
    return rewritten(write_dicom(pixels=noise), DeflatedExplicitVRLittleEndian)


def meta_end(path: Path) -> int:
    """Where the deflated stream begins: behind the group length and as many bytes."""
    return 144 + struct.unpack_from("<I", path.read_bytes(), 140)[0]


def test_a_deflated_stream_inflates_to_the_data_set(deflated):
    assert zlib.decompress(deflated.read_bytes()[meta_end(deflated) :], -15)[:4] == b"\x08\0\x16\0"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_deflated_stream_that_ends_early_is_truncated(deflated, share):
    begin, whole = meta_end(deflated), deflated.read_bytes()
    deflated.write_bytes(whole[: begin + int((len(whole) - begin) * share)])
    assert refusal(deflated) == "truncated file"


def test_a_deflated_file_without_its_stream_is_truncated(deflated):
    deflated.write_bytes(deflated.read_bytes()[: meta_end(deflated)])
    assert refusal(deflated) == "truncated file"


def test_a_damaged_deflated_stream_is_refused(deflated):
    begin, whole = meta_end(deflated), bytearray(deflated.read_bytes())
    whole[begin : begin + 40] = b"\xff" * 40
    deflated.write_bytes(whole)
    assert refusal(deflated) == "damaged deflated data"


def test_whatever_byte_of_a_deflated_file_is_hit_it_ends_in_a_header_or_a_refusal(deflated):
    begin, whole = meta_end(deflated), deflated.read_bytes()
    for place in range(begin, begin + 200):
        deflated.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            with open_dicom(deflated, KEYWORDS) as opened:
                assert opened.size > 0
        except UnreadableImageError:
            continue


def test_what_stands_behind_a_deflated_stream_does_not_matter(deflated, pseudonymizer):
    before = next(read(deflated, pseudonymizer)).pixels
    deflated.write_bytes(deflated.read_bytes() + bytes(30))
    assert np.array_equal(next(read(deflated, pseudonymizer)).pixels, before)


def test_a_stream_that_inflates_to_too_much_is_given_up_soon(deflated, monkeypatch):
    """400 MiB of zeros in 400 kB: one piece of 16 MiB passes the limit."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(deflater.compress(bytes(MEGABYTE)) for _ in range(400)) + deflater.flush()
    assert len(bomb) < MEGABYTE
    deflated.write_bytes(deflated.read_bytes()[: meta_end(deflated)] + bomb)
    monkeypatch.setattr(opening, "_LARGEST_INFLATED", MEGABYTE)
    with at_most(60):
        assert refusal(deflated) == "picture too large"


def test_the_largest_that_is_allowed_is_inflated(deflated, monkeypatch):
    size = len(zlib.decompress(deflated.read_bytes()[meta_end(deflated) :], -15))
    monkeypatch.setattr(opening, "_INFLATE_PIECE", 1000)
    monkeypatch.setattr(opening, "_LARGEST_INFLATED", size)
    with open_dicom(deflated, KEYWORDS) as opened:
        assert opened.size == size
    monkeypatch.setattr(opening, "_LARGEST_INFLATED", size - 1)
    assert refusal(deflated) == "picture too large"


# Whose fault


@pytest.mark.parametrize(
    ("content", "reason", "skipped"),
    [
        (b"", "not an image", True),
        (b"no DICOM at all, only some words that go on for a while", "not an image", True),
        (bytes(128) + b"DICM", "truncated file", False),
    ],
    ids=["empty", "words", "preamble only"],
)
def test_a_file_without_any_wanted_element_is_no_image_or_cut_off(tmp_path, content, reason, skipped):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError) as error, open_dicom(path, KEYWORDS):
        pass
    assert error.value.reason in (reason, "damaged header", "truncated file")
    if error.value.reason == reason:
        assert error.value.skipped is skipped


def test_a_failing_disk_is_not_the_files_fault(write_dicom, monkeypatch):
    path = write_dicom()

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(opening._File, "read", fail)
    with pytest.raises(OSError, match="input/output error"), open_dicom(path, KEYWORDS):
        pass


def test_a_disk_that_fails_among_the_pixels_is_not_the_files_fault(write_dicom, pseudonymizer, monkeypatch):
    path = write_dicom(pixels=np.zeros((3, 64, 64), np.uint16))
    frames = read(path, pseudonymizer)
    next(frames)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(opening._File, "read", fail)
    with pytest.raises(OSError, match="input/output error"):
        list(frames)


# Elements


def raw(keyword: str, vr: str, value: bytes) -> Dataset:
    """A header with one element as its bytes stand on the disk, still undecoded; lengths in two bytes or four."""
    tag = Tag(keyword)
    length = (
        struct.pack("<HI", 0, len(value)) if vr in ("SQ", "UN", "OW", "OB", "UT") else struct.pack("<H", len(value))
    )
    content = struct.pack("<HH", tag.group, tag.element) + vr.encode() + length + value
    return read_dataset(DicomBytesIO(content), is_implicit_VR=False, is_little_endian=True)


def stated(**elements) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (Dataset(), ""),
        (stated(Modality=""), ""),
        (stated(Modality=None), ""),
        (stated(Modality=" CT "), "CT"),
        (raw("Modality", "CS", b"MR\\CT "), "MR"),
        (raw("Modality", "CS", b"\\CT "), ""),
        (raw("Modality", "US", b"\x05\0"), "5"),
        (raw("Modality", "US", b"\x05\0\x06\0"), "5"),
        (raw("Modality", "US", b"\x05\0\x06"), ""),
        (raw("Modality", "SQ", b""), ""),
        (raw("Modality", "FD", bytes(3)), ""),
    ],
)
def test_text_is_the_first_value_or_nothing(header, text):
    assert text_of(header, "Modality") == text


def test_a_sequence_of_items_is_no_text():
    assert text_of(stated(VOILUTSequence=[stated(Modality="CT")]), "VOILUTSequence") == ""


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"1.5 ", 1.5),
        (b"-2e3", -2000.0),
        (b"+7", 7.0),
        (b" 4\\5 ", 4.0),
        (b"", None),
        (b"\\5", None),
        (b"nan ", None),
        (b"inf ", None),
        (b"1e999 ", None),
        (b"wide", None),
        (b"1,5 ", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_number_is_finite_or_none(value, number):
    assert number_of(raw("RescaleSlope", "DS", value), "RescaleSlope") == number
    assert number_of(raw("RescaleSlope", "LO", value), "RescaleSlope") == number


@pytest.mark.parametrize(
    ("header", "number"),
    [
        (stated(Rows=512), 512),
        (raw("Rows", "US", b"\x07\0\x08\0"), 7),
        (raw("Rows", "IS", b"12"), 12),
        (raw("Rows", "IS", b"012 "), 12),
        (raw("Rows", "SS", b"\xff\xff"), 99),
        (raw("Rows", "IS", b"-3"), 99),
        (raw("Rows", "DS", b"3.5 "), 99),
        (raw("Rows", "LO", b"many"), 99),
        (raw("Rows", "US", b"\x01"), 99),
        (raw("Rows", "US", b""), 99),
        (raw("Rows", "SQ", b""), 99),
        (Dataset(), 99),
    ],
)
def test_a_whole_number_is_none_below_zero(header, number):
    assert whole_number_of(header, "Rows", default=99) == number


def test_a_whole_number_is_zero_where_nothing_else_is_said():
    assert whole_number_of(Dataset(), "Rows") == 0


ITEM = b"\xfe\xff\x00\xe0"


@pytest.mark.parametrize(
    ("header", "count"),
    [
        (Dataset(), 0),
        (stated(VOILUTSequence=[]), 0),
        (stated(VOILUTSequence=[Dataset(), Dataset()]), 2),
        (raw("VOILUTSequence", "SQ", b""), 0),
        (raw("VOILUTSequence", "SQ", ITEM + bytes(4)), 1),
        (raw("VOILUTSequence", "LO", b"text"), 0),
        (raw("VOILUTSequence", "UN", b"text"), 0),
        (raw("VOILUTSequence", "US", b"\x01\0"), 0),
        (raw("VOILUTSequence", "SQ", ITEM[:3]), 0),
    ],
)
def test_items_are_those_of_a_sequence_or_none(header, count):
    items = items_of(header, "VOILUTSequence")
    assert len(items) == count
    assert all(isinstance(item, Dataset) for item in items)
