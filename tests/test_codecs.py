"""Compressed frames -> stored values: exact where the code is, refused where it lies, colour as the frame says."""

import itertools
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
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
from radsearch.reading import codecs, decoding, read
from radsearch.reading.codecs import Decoded, FrameFormat, has_decoder
from radsearch.reading.codestream import Codestream, is_cut_off, read_codestream
from radsearch.rendering import render

REFUSED = r"truncated file|damaged pixel data"
COLOUR = (200, 40, 90)


def frame_format(shape: tuple[int, ...], allocated: int = 16, stored: int | None = None, **more) -> FrameFormat:
    """The format of a frame of this shape: (rows, columns) or (rows, columns, samples)."""
    samples = shape[2] if len(shape) == 3 else 1
    stored = stored or allocated
    described = {
        "rows": shape[0],
        "columns": shape[1],
        "samples": samples,
        "photometric": "RGB" if samples == 3 else "MONOCHROME2",
        "bits_allocated": allocated,
        "bits_stored": stored,
        "high_bit": stored - 1,
        "signed": False,
    }
    return FrameFormat(**{**described, **more})


def rle(segments: list[bytes], *, literal: bool = False) -> bytes:
    """PS3.5 Annex G: header and segments, each padded to an even length; runs of one value, or bytes as they are."""
    coded = []
    for segment in segments:
        pieces = []
        if literal:
            for begin in range(0, len(segment), 128):
                piece = segment[begin : begin + 128]
                pieces.append(bytes([len(piece) - 1]) + piece)
        else:
            for value, run in itertools.groupby(segment):
                length = len(list(run))
                for begin in range(0, length, 128):
                    count = min(128, length - begin)
                    pieces.append(bytes([257 - count, value]) if count > 1 else bytes([0, value]))
        joined = b"".join(pieces)
        coded.append(joined + bytes(len(joined) % 2))
    begins = list(itertools.accumulate([64, *map(len, coded[:-1])]))
    return struct.pack("<16I", len(coded), *begins, *[0] * (15 - len(begins))) + b"".join(coded)


def rle_of(frame: np.ndarray) -> bytes:
    """Plane by plane, and of each sample the highest byte first."""
    planes = frame[..., None] if frame.ndim == 2 else frame
    width = frame.dtype.itemsize
    stored = [np.ascontiguousarray(planes[..., sample]).tobytes() for sample in range(planes.shape[2])]
    return rle([plane[byte::width] for plane in stored for byte in reversed(range(width))])


def jpeg_2000(frame: np.ndarray, **more) -> bytes:
    return imagecodecs.jpeg2k_encode(frame, **{"level": 0, "reversible": True, "codecformat": "j2k", **more})


def lossless_jpeg(frame: np.ndarray, **more) -> bytes:
    if frame.ndim == 3:
        more = {"colorspace": "RGB", "outcolorspace": "RGB", **more}
    return imagecodecs.jpeg8_encode(frame, lossless=True, **more)


LOSSLESS = {
    RLELossless: rle_of,
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: jpeg_2000,
    JPEGLossless: lossless_jpeg,
    JPEGLosslessSV1: lossless_jpeg,
}
EVERY_LOSSLESS = pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)


@pytest.fixture
def write_frame(write_dicom):
    """Writes a file of one compressed frame; elements as `write_dicom`."""

    def write(encoded: bytes, syntax: str, pixels: np.ndarray, **elements) -> Path:
        if pixels.ndim == 3:
            described = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
            pixels, elements = pixels[..., 0], {**described, "Modality": "US", **elements}
        path = write_dicom(pixels=pixels, **{"Modality": "MR", **elements})
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([encoded])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.save_as(path)
        return path

    return write


@pytest.fixture
def read_frame(write_frame, pseudonymizer):
    """Writes a file of one compressed frame and reads it again."""

    def read_it(encoded: bytes, syntax: str, pixels: np.ndarray, **elements):
        (image,) = read(write_frame(encoded, syntax, pixels, **elements), pseudonymizer)
        return image

    return read_it


def decode_frame(encoded: bytes, syntax: str, like: FrameFormat) -> np.ndarray:
    return codecs.decode_frame(encoded, syntax, like).pixels


def stored_values(pixels: np.ndarray, like: FrameFormat, *, lossy: bool = False) -> np.ndarray:
    """Of pixels that were coded in all the bits of their type."""
    return decoding.stored_values(Decoded(pixels, pixels.dtype.itemsize * 8), like, lossy=lossy)


# Exact


@EVERY_LOSSLESS
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 3), (17, 31), (3, 3, 3), (17, 31, 3)], ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_lossless_code_gives_every_value_in_every_shape(syntax, shape, bits):
    frame = np.random.default_rng(bits).integers(1, 1 << bits, shape).astype(f"u{bits // 8}")
    decoded = decode_frame(LOSSLESS[syntax](frame), syntax, frame_format(shape, bits))
    assert decoded.dtype == frame.dtype
    assert np.array_equal(decoded, frame)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_is_decoded_by_each_of_its_predictors(predictor):
    frame = np.random.default_rng(predictor).integers(0, 4096, (9, 11)).astype(np.uint16)
    encoded = lossless_jpeg(frame, predictor=predictor, bitspersample=12)
    assert np.array_equal(decode_frame(encoded, JPEGLossless, frame_format((9, 11), stored=12)), frame)


def test_rle_of_32_bits_has_four_segments():
    frame = np.random.default_rng(0).integers(0, 1 << 32, (5, 7)).astype(np.uint32)
    assert np.array_equal(decode_frame(rle_of(frame), RLELossless, frame_format((5, 7), 32)), frame)


def test_rle_runs_and_bytes_as_they_are_give_the_same():
    plane = bytes([7] * 200 + list(range(56)))
    like = frame_format((16, 16), 8)
    decoded = [decode_frame(rle([plane], literal=literal), RLELossless, like) for literal in (True, False)]
    assert [frame.tobytes() for frame in decoded] == [plane, plane]


def test_jpeg_ls_of_one_scan_a_colour_is_joined_by_pixel():
    """Interleave mode none (ITU-T T.87 C.2.3): each sample has a scan of its own."""
    frame = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    scans = b""
    for sample in range(3):
        alone = imagecodecs.jpegls_encode(np.ascontiguousarray(frame[..., sample]))
        scan = alone[alone.index(b"\xff\xda") : -2]
        scans += scan[:5] + bytes([sample + 1]) + scan[6:]
    head = b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 17, 8, 8, 9, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    decoded = decode_frame(head + scans + b"\xff\xd9", JPEGLSLossless, frame_format((8, 9, 3), 8))
    assert np.array_equal(decoded, frame)


def test_near_lossless_jpeg_ls_stays_within_its_bound():
    frame = np.random.default_rng(0).integers(0, 4096, (20, 30)).astype(np.uint16)
    decoded = decode_frame(imagecodecs.jpegls_encode(frame, level=3), JPEGLSNearLossless, frame_format((20, 30)))
    assert 0 < np.abs(decoded.astype(int) - frame).max() <= 3


def test_a_jpeg_2000_frame_in_a_whole_jp2_file_is_read():
    frame = np.arange(60, dtype=np.uint16).reshape(6, 10)
    encoded = jpeg_2000(frame, codecformat="jp2")
    assert encoded[4:8] == b"jP  "
    assert np.array_equal(decode_frame(encoded, JPEG2000Lossless, frame_format((6, 10))), frame)


def test_twelve_bit_jpeg_keeps_its_depth():
    frame = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    encoded = imagecodecs.jpeg8_encode(frame, level=98, bitspersample=12)
    decoded = decode_frame(encoded, JPEGExtended12Bit, frame_format((64, 64), stored=12))
    assert decoded.dtype == np.uint16
    assert np.abs(decoded.astype(int) - frame).max() <= 40


def test_video_has_no_decoder():
    assert has_decoder(RLELossless)
    assert not has_decoder(pydicom.uid.MPEG2MPML)


# RLE headers


def broken_rle(**changed: int) -> bytes:
    """A frame of 4 x 4 and 16 bits whose header words ("w1" is the second) are changed."""
    words = bytearray(rle_of(np.arange(16, dtype=np.uint16).reshape(4, 4) * 301))
    for name, value in changed.items():
        struct.pack_into("<I", words, 4 * int(name[1:]), value)
    return bytes(words)


def test_the_header_that_is_to_be_broken_is_whole():
    assert decode_frame(broken_rle(), RLELossless, frame_format((4, 4))).ravel()[:3].tolist() == [0, 301, 602]


@pytest.mark.parametrize(
    "changed",
    [
        {"w0": 0},
        {"w0": 1},
        {"w0": 3},
        {"w0": 15},
        {"w0": 16},
        {"w0": 0xFFFFFFFF},
        {"w1": 0},
        {"w1": 63},
        {"w1": 66},
        {"w1": 0xFFFFFFFF},
        {"w2": 0},
        {"w2": 64},
        {"w2": 10_000},
        {"w2": 0xFFFFFFFF},
        {"w1": 90, "w2": 64},
    ],
    ids=str,
)
def test_an_rle_header_of_nonsense_is_refused(changed):
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        decode_frame(broken_rle(**changed), RLELossless, frame_format((4, 4)))


@pytest.mark.parametrize("length", range(5, 70, 5))
def test_an_rle_frame_that_ends_within_its_header_is_refused(read_frame, length):
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        read_frame(broken_rle()[:length], RLELossless, np.zeros((4, 4), np.uint16))


def test_an_rle_frame_of_the_wrong_number_of_samples_is_refused():
    grey, colour = rle_of(np.ones((4, 4), np.uint8)), rle_of(np.ones((4, 4, 3), np.uint8))
    for encoded, shape in ((grey, (4, 4, 3)), (colour, (4, 4))):
        with pytest.raises(UnreadableImageError, match="damaged pixel data"):
            decode_frame(encoded, RLELossless, frame_format(shape, 8))


def test_more_segments_than_a_header_holds_are_refused(read_frame):
    """RGB of 64 bits would need 24, and the header has room for 15."""
    frame = struct.pack("<16I", 24, *range(64, 79)) + bytes(200)
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        read_frame(frame + bytes(400), RLELossless, np.zeros((3, 3, 3), np.uint64))


def test_an_rle_frame_whose_last_segment_is_short_is_truncated():
    frame = rle([bytes(range(16)), bytes(range(12))])
    with pytest.raises(UnreadableImageError, match="truncated file"):
        decode_frame(frame, RLELossless, frame_format((4, 4)))


@pytest.mark.parametrize("sizes", [(12, 16), (24, 24), (16, 30), (4, 4)], ids=str)
def test_rle_segments_of_other_lengths_are_refused(read_frame, sizes):
    frame = rle([bytes(range(size)) for size in sizes])
    with pytest.raises(UnreadableImageError, match=REFUSED):
        read_frame(frame, RLELossless, np.zeros((4, 4), np.uint16))


def test_a_short_rle_segment_is_not_filled_from_the_next():
    frame = rle([bytes(range(14)), bytes(range(16)), bytes(range(18))])
    with pytest.raises(UnreadableImageError, match=REFUSED):
        decode_frame(frame, RLELossless, frame_format((4, 4, 3), 8))


@given(st.binary(max_size=200))
def test_no_rle_frame_ends_in_anything_but_values_or_an_error(content):
    head = struct.pack("<16I", 2, 64, 70, *[0] * 13)
    for encoded in (content, head + content):
        try:
            decoded = decode_frame(encoded, RLELossless, frame_format((4, 4)))
        except Exception:  # noqa: BLE001, S112 -- `decode_frame` may raise what the decoder raises
            continue
        assert decoded.shape == (4, 4)


# What a frame says of itself

GREY = np.random.default_rng(5).integers(1, 4096, (24, 40)).astype(np.uint16)
CODES = {
    JPEGBaseline8Bit: imagecodecs.jpeg8_encode((GREY >> 4).astype(np.uint8)),
    JPEGExtended12Bit: imagecodecs.jpeg8_encode(GREY, bitspersample=12),
    JPEGLossless: lossless_jpeg(GREY, bitspersample=12),
    JPEGLSLossless: imagecodecs.jpegls_encode(GREY),
    JPEG2000Lossless: jpeg_2000(GREY),
}
EVERY_CODE = pytest.mark.parametrize("syntax", CODES, ids=lambda uid: uid.keyword)
DECODERS = ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "dicomrle_decode")


@pytest.fixture
def no_decoder_may_run(monkeypatch):
    """Every decoder ends the test that calls it."""

    def called(*_: object, **__: object) -> None:
        pytest.fail("the frame reached a decoder")

    for name in DECODERS:
        monkeypatch.setattr(imagecodecs, name, called)


@pytest.mark.parametrize(
    ("syntax", "precision"),
    [(JPEGBaseline8Bit, 8), (JPEGExtended12Bit, 12), (JPEGLossless, 12), (JPEGLSLossless, 16), (JPEG2000Lossless, 16)],
)
def test_size_and_depth_are_read_from_the_frame(syntax, precision):
    stream = read_codestream(CODES[syntax])
    assert stream == Codestream(24, 40, 1, precision, stream.colour)


def test_an_offset_of_a_jpeg_2000_image_counts():
    """Xsiz - XOsiz by Ysiz - YOsiz (ITU-T T.800 A.5.1)."""
    siz = struct.pack(">HHIIIIIIIIH", 41, 0, 50, 30, 10, 6, 64, 64, 0, 0, 1) + b"\x8b\1\1"
    assert read_codestream(b"\xff\x4f\xff\x51" + siz) == Codestream(24, 40, 1, 12)


def test_fill_bytes_before_a_marker_are_passed_over():
    encoded = CODES[JPEGBaseline8Bit]
    place = encoded.index(b"\xff\xc0")
    filled = encoded[:place] + b"\xff\xff\xff" + encoded[place:]
    assert read_codestream(filled) == read_codestream(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\0\x02\xff\xd9",
        b"\xff\xd8\xff\xc0\0\x05\x08\0\x01\xff\xd9",
        b"\xff\xd8\xff\xe0\0\x00\xff\xd9",
        b"\xff\xd8\xff\xe0\0\x01\xff\xd9",
        b"\xff\xd8\xff\xe0\xff\xff" + bytes(20),
        b"\xff\xd8no marker" + bytes(20),
        b"\xff\xd8" + b"\xff" * 50,
        b"\xff\x4f\xff\x51\0\x29" + bytes(20),
        b"no code at all" * 10,
    ],
    ids=repr,
)
def test_a_frame_without_its_header_is_refused(encoded):
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        read_codestream(encoded)


@given(st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\0\x0b", b"\xff\x4f\xff\x51"]), st.binary(max_size=120))
def test_no_bytes_are_read_as_anything_but_a_header_or_a_refusal(start, content):
    try:
        stream = read_codestream(start + content)
    except UnreadableImageError:
        return
    assert stream.precision >= 0


@pytest.mark.usefixtures("no_decoder_may_run")
@EVERY_CODE
def test_a_frame_without_its_end_is_truncated(syntax):
    encoded = CODES[syntax]
    assert not is_cut_off(encoded)
    for cut in (2, len(encoded) // 2, len(encoded) // 3):
        with pytest.raises(UnreadableImageError, match="truncated file"):
            decode_frame(encoded[:-cut], syntax, frame_format((24, 40)))


@EVERY_CODE
@pytest.mark.parametrize("padding", [0, 1, 10])
def test_padding_behind_the_end_is_put_up_with(syntax, padding):
    assert decode_frame(CODES[syntax] + bytes(padding), syntax, frame_format((24, 40))).shape == (24, 40)


@pytest.mark.usefixtures("no_decoder_may_run")
@EVERY_CODE
@pytest.mark.parametrize("shape", [(25, 40), (24, 41), (40, 24), (4000, 4000), (1, 1), (24, 40, 3)], ids=str)
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(syntax, shape):
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        decode_frame(CODES[syntax], syntax, frame_format(shape))


@pytest.mark.usefixtures("no_decoder_may_run")
@EVERY_CODE
@pytest.mark.parametrize("rows", [0, 25, 65535])
def test_a_frame_that_belies_its_own_size_is_refused_before_it_is_decoded(syntax, rows):
    encoded = bytearray(CODES[syntax])
    if syntax == JPEG2000Lossless:
        struct.pack_into(">I", encoded, encoded.index(b"\xff\x51") + 10, rows)
    else:
        start = min(encoded.find(bytes([0xFF, mark])) % len(encoded) for mark in (0xC0, 0xC1, 0xC3, 0xF7))
        struct.pack_into(">H", encoded, start + 5, rows)
    assert read_codestream(bytes(encoded)).rows == rows
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        decode_frame(bytes(encoded), syntax, frame_format((24, 40)))


@pytest.mark.usefixtures("no_decoder_may_run")
@pytest.mark.parametrize("bits", [0, 17, 38, 255])
def test_a_depth_that_no_picture_has_is_refused_before_it_is_decoded(bits):
    encoded = bytearray(CODES[JPEGLSLossless])
    encoded[encoded.index(b"\xff\xf7") + 4] = bits
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        decode_frame(bytes(encoded), JPEGLSLossless, frame_format((24, 40)))


def test_a_codestream_of_another_kind_is_refused(read_frame):
    for syntax, other in itertools.permutations(CODES, 2):
        try:
            image = read_frame(CODES[other], syntax, GREY, BitsStored=12, HighBit=11)
        except UnreadableImageError as error:
            reason = error.reason
        else:
            assert image.pixels.shape == (24, 40)
            continue
        assert reason in ("truncated file", "damaged pixel data")


# Empty frames

BLACK = {
    JPEGBaseline8Bit: lambda size: imagecodecs.jpeg8_encode(np.zeros((size, size), np.uint8)),
    JPEGExtended12Bit: lambda size: imagecodecs.jpeg8_encode(np.zeros((size, size), np.uint16), bitspersample=12),
    JPEGLossless: lambda size: lossless_jpeg(np.zeros((size, size), np.uint16)),
    JPEGLSLossless: lambda size: imagecodecs.jpegls_encode(np.zeros((size, size), np.uint16)),
    JPEG2000Lossless: lambda size: jpeg_2000(np.zeros((size, size), np.uint16)),
    RLELossless: lambda size: rle_of(np.zeros((size, size), np.uint16)),
}


@pytest.mark.parametrize("syntax", BLACK, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("size", [1, 16, 1000])
def test_a_black_frame_is_a_picture(syntax, size):
    decoded = decode_frame(BLACK[syntax](size), syntax, frame_format((size, size)))
    assert decoded.shape == (size, size)
    assert not decoded.any()


def test_a_black_rle_frame_may_be_written_out_byte_by_byte():
    encoded = rle([bytes(128 * 128)] * 2, literal=True)
    assert len(encoded) == 64 + 2 * (128 * 128 + 128)
    assert not decode_frame(encoded, RLELossless, frame_format((128, 128))).any()


@EVERY_CODE
def test_a_decoder_that_gives_zeros_for_a_long_code_is_not_believed(monkeypatch, syntax):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    frame = noise if syntax == JPEGBaseline8Bit else noise.astype(np.uint16) * 16
    more = {"bitspersample": 12} if syntax in (JPEGExtended12Bit, JPEGLossless) else {}
    encode = LOSSLESS.get(syntax, imagecodecs.jpeg8_encode)
    encoded = encode(frame, **more)
    assert decode_frame(encoded, syntax, frame_format((200, 200))).any()
    for name in DECODERS:
        monkeypatch.setattr(imagecodecs, name, lambda *_, **__: np.zeros((200, 200), np.uint16))
    with pytest.raises(UnreadableImageError, match="decoder gave an empty picture"):
        decode_frame(encoded, syntax, frame_format((200, 200)))


def test_a_decoder_that_gives_another_shape_is_not_believed(monkeypatch):
    monkeypatch.setattr(imagecodecs, "jpegls_decode", lambda _: np.ones((40, 24), np.uint16))
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        decode_frame(CODES[JPEGLSLossless], JPEGLSLossless, frame_format((24, 40)))


# Bits


def test_what_overshoots_a_lossy_code_is_cut_to_the_range():
    pixels = np.array([[0, 4095, 4096, 5000]], dtype=np.uint16)
    like = frame_format((1, 4), stored=12)
    assert stored_values(pixels, like, lossy=True).tolist() == [[0, 4095, 4095, 4095]]
    assert stored_values(pixels, like).tolist() == [[0, 4095, 0, 5000 - 4096]]


def test_signed_overshoot_is_cut_at_both_ends():
    pixels = np.array([[-3000, -2048, 2047, 2500]], dtype=np.int16)
    assert stored_values(pixels, frame_format((1, 4), stored=12, signed=True), lossy=True).tolist() == [
        [-2048, -2048, 2047, 2047]
    ]


def test_two_s_complement_in_an_unsigned_lossy_code_keeps_its_sign():
    pixels = np.array([[0x000, 0x7FF, 0x800, 0xFFF]], dtype=np.uint16)
    shown = stored_values(pixels, frame_format((1, 4), stored=12, signed=True), lossy=True)
    assert shown.tolist() == [[0, 2047, -2048, -1]]


def test_the_ringing_of_a_lossy_file_is_cut_and_does_not_wrap(read_frame):
    """Ten bits in a code of twelve: sharp edges at 0 and 1023 overshoot."""
    edges = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((5, 5))).astype(np.uint16) * 1023
    encoded = imagecodecs.jpeg8_encode(edges, level=30, bitspersample=12)
    raw = imagecodecs.jpeg8_decode(encoded)
    assert raw.max() > 1023
    image = read_frame(encoded, JPEGExtended12Bit, edges, BitsStored=10, HighBit=9)
    assert np.array_equal(image.pixels, np.minimum(raw, 1023))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLossless])
def test_dirt_above_the_stored_bits_of_a_lossless_code_is_cleared(read_frame, syntax):
    dirty = np.array([[0x0005, 0x8005, 0xFFFF, 0x1800]] * 4, dtype=np.uint16)
    image = read_frame(LOSSLESS[syntax](dirty), syntax, dirty, BitsStored=12, HighBit=11)
    assert image.pixels[0].tolist() == [5, 5, 0xFFF, 0x800]


@pytest.mark.parametrize(
    ("allocated", "stored", "high", "value", "expected"),
    [
        (16, 12, 11, 0xFABC, 0xABC),
        (16, 12, 15, 0xABCF, 0xABC),
        (16, 12, 13, 0xEAF3, 0xABC),  # 11 1010 1010 1111 0011: bits 13 to 2 are 1010 1011 1100
        (16, 10, 15, 0xFFC0, 0x3FF),
        (8, 4, 7, 0xA5, 0xA),
        (16, 16, 15, 0xFFFF, 0xFFFF),
        (32, 12, 31, 0xABC00000, 0xABC),
    ],
)
def test_the_stored_bits_are_those_below_the_high_bit(allocated, stored, high, value, expected):
    pixels = np.array([[value]], dtype=f"u{allocated // 8}")
    assert stored_values(pixels, frame_format((1, 1), allocated, stored, high_bit=high)).tolist() == [[expected]]


@pytest.mark.parametrize(("value", "expected"), [(0x800F, -2048), (0x7FF0, 2047), (0xFFF0, -1), (0x000F, 0)])
def test_the_sign_is_the_high_bit(value, expected):
    pixels = np.array([[value]], dtype=np.uint16)
    like = frame_format((1, 1), 16, 12, high_bit=15, signed=True)
    assert stored_values(pixels, like).tolist() == [[expected]]


def test_a_high_bit_above_the_stored_bits_is_read_from_the_file(write_dicom, pseudonymizer):
    pixels = np.array([[0x0010, 0x3200, 0xFFFF]], dtype=np.uint16)
    path = write_dicom(pixels=pixels, BitsStored=12, HighBit=15, Modality="MR")
    (image,) = read(path, pseudonymizer)
    assert image.pixels.tolist() == [[1, 0x320, 0xFFF]]


@pytest.mark.parametrize("high", [3, 16, 99])
def test_a_high_bit_that_cannot_be_is_taken_for_the_highest_stored(write_dicom, pseudonymizer, high):
    path = write_dicom(pixels=np.array([[7, 0xABC]], np.uint16), BitsStored=12, HighBit=high, Modality="MR")
    (image,) = read(path, pseudonymizer)
    assert image.pixels.tolist() == [[7, 0xABC]]


def test_rle_holds_the_words_as_they_are_allocated(read_frame):
    pixels = np.array([[0x0010, 0x3200, 0xFFFF]], dtype=np.uint16)
    image = read_frame(rle_of(pixels), RLELossless, pixels, BitsStored=12, HighBit=15)
    assert image.pixels.tolist() == [[1, 0x320, 0xFFF]]


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLossless], ids=lambda uid: uid.keyword)
def test_a_code_of_twelve_bits_has_its_values_right_aligned_whatever_the_high_bit(read_frame, syntax):
    """Codes hold samples of a precision, not words: a precision of 12 leaves nothing below the stored bits."""
    pixels = np.array([[16, 800, 4095, 1]] * 4, dtype=np.uint16)
    encoded = LOSSLESS[syntax](pixels, bitspersample=12)
    assert read_codestream(encoded).precision == 12
    image = read_frame(encoded, syntax, pixels, BitsStored=12, HighBit=15)
    assert image.pixels.tolist() == pixels.tolist()


SIGNED = np.array([[-2048, -1, 0, 1, 2047, -700, 5, 6]] * 3, dtype=np.int16)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1, JPEG2000Lossless])
def test_twelve_signed_bits_keep_their_sign_in_an_unsigned_code(read_frame, syntax):
    unsigned = SIGNED.view(np.uint16) & 0xFFF
    image = read_frame(LOSSLESS[syntax](unsigned), syntax, SIGNED, BitsStored=12, HighBit=11)
    assert image.pixels.tolist() == SIGNED.tolist()


def test_twelve_signed_bits_keep_their_sign_in_a_signed_jpeg_2000_code(read_frame):
    for bits in (12, 16):
        encoded = jpeg_2000(SIGNED, bitspersample=bits)
        image = read_frame(encoded, JPEG2000Lossless, SIGNED, BitsStored=12, HighBit=11)
        assert image.pixels.tolist() == SIGNED.tolist()


def test_a_lossy_signed_jpeg_2000_keeps_the_signs(read_frame):
    wide = np.tile(np.linspace(-2000, 2000, 64).astype(np.int16), (64, 1))
    encoded = imagecodecs.jpeg2k_encode(wide, level=60, reversible=False, bitspersample=12)
    image = read_frame(encoded, JPEG2000, wide, BitsStored=12, HighBit=11)
    assert np.abs(image.pixels.astype(int) - wide).max() < 100


def test_floats_are_left_as_they_are():
    pixels = np.array([[0.5, -7e9]], dtype=np.float32)
    assert stored_values(pixels, frame_format((1, 2), 32, 12)) is pixels


# Colour of lossy JPEG

FLAT = np.full((16, 16, 3), COLOUR, dtype=np.uint8)
AS_RGB = imagecodecs.jpeg8_encode(FLAT, level=98, colorspace="RGB", outcolorspace="RGB")
AS_YBR = imagecodecs.jpeg8_encode(FLAT, level=98, colorspace="RGB", outcolorspace="YCBCR")
JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
RGB_IDS, PLAIN_IDS = b"RGB", b"\1\2\3"


def adobe(transform: int) -> bytes:
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def bare(encoded: bytes, ids: bytes = PLAIN_IDS, markers: bytes = b"") -> bytes:
    """The code without its application markers, with these component ids and these markers instead."""
    place, kept = 2, b""
    while encoded[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
        if encoded[place + 1] & 0xF0 != 0xE0:
            kept += _with_ids(encoded[place:end], ids, first=10) if encoded[place + 1] == 0xC0 else encoded[place:end]
        place = end
    scan_end = place + 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    scan = _with_ids(encoded[place:scan_end], ids, first=5, step=2)
    return b"\xff\xd8" + markers + kept + scan + encoded[scan_end:]


def _with_ids(segment: bytes, ids: bytes, *, first: int, step: int = 3) -> bytes:
    changed = bytearray(segment)
    changed[first : first + 3 * step : step] = ids
    return bytes(changed)


def shows_the_colour(pixels: np.ndarray) -> bool:
    return bool(np.abs(pixels.astype(int) - COLOUR).max() <= 4)


@pytest.mark.parametrize(
    ("encoded", "photometric"),
    [
        pytest.param(bare(AS_RGB, RGB_IDS), "RGB", id="ids RGB, header RGB"),
        pytest.param(bare(AS_RGB, RGB_IDS), "YBR_FULL_422", id="ids RGB, header YBR"),
        pytest.param(bare(AS_RGB, b"rgb"), "YBR_FULL_422", id="ids rgb, header YBR"),
        pytest.param(bare(AS_RGB, markers=adobe(0)), "RGB", id="Adobe 0, header RGB"),
        pytest.param(bare(AS_RGB, markers=adobe(0)), "YBR_FULL_422", id="Adobe 0, header YBR"),
        pytest.param(bare(AS_YBR, markers=adobe(1)), "RGB", id="Adobe 1, header RGB"),
        pytest.param(bare(AS_YBR, markers=adobe(1)), "YBR_FULL", id="Adobe 1, header YBR"),
        pytest.param(bare(AS_YBR, markers=JFIF), "RGB", id="JFIF, header RGB"),
        pytest.param(bare(AS_YBR, markers=JFIF), "YBR_FULL_422", id="JFIF, header YBR"),
        pytest.param(bare(AS_YBR, markers=JFIF + adobe(1)), "RGB", id="JFIF and Adobe 1"),
        pytest.param(bare(AS_RGB), "RGB", id="no word, header RGB"),
        pytest.param(bare(AS_YBR), "YBR_FULL_422", id="no word, header YBR_FULL_422"),
        pytest.param(bare(AS_YBR), "YBR_FULL", id="no word, header YBR_FULL"),
    ],
)
def test_a_lossy_frame_is_believed_before_the_header(read_frame, encoded, photometric):
    image = read_frame(encoded, JPEGBaseline8Bit, FLAT, PhotometricInterpretation=photometric)
    assert shows_the_colour(image.pixels)
    assert shows_the_colour(render(image))


def test_a_frame_read_in_the_wrong_colour_space_would_be_seen(read_frame):
    """What the tests of colour prove: were the word of the frame not heard, the colour would be another."""
    assert not shows_the_colour(
        read_frame(bare(AS_YBR), JPEGBaseline8Bit, FLAT, PhotometricInterpretation="RGB").pixels
    )
    wrong = read_frame(bare(AS_RGB), JPEGBaseline8Bit, FLAT, PhotometricInterpretation="YBR_FULL").pixels
    assert not shows_the_colour(wrong)


@pytest.mark.parametrize(
    ("encoded", "colour"),
    [
        (bare(AS_RGB), None),
        (bare(AS_RGB, RGB_IDS), "RGB"),
        (bare(AS_RGB, markers=adobe(0)), "RGB"),
        (bare(AS_YBR, markers=adobe(1)), "YCBCR"),
        (bare(AS_YBR, markers=JFIF), "YCBCR"),
        (bare(AS_YBR, markers=b"\xff\xee\0\x07Adobe"), None),
        (bare(AS_YBR, markers=b"\xff\xe0\0\x06Exif"), None),
    ],
)
def test_the_colour_space_is_read_from_the_frame(encoded, colour):
    assert read_codestream(encoded) == Codestream(16, 16, 3, 8, colour)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_lossless_jpeg_is_not_transformed_by_its_markers(read_frame, photometric):
    """Adobe or JFIF change nothing: lossless samples are in the space that the header names."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    encoded = lossless_jpeg(noise)
    image = read_frame(encoded, JPEGLossless, noise, PhotometricInterpretation=photometric)
    assert np.array_equal(image.pixels, noise) is (photometric == "RGB")


# YBR in codes without a transform of their own

# Y 76, Cb 85, Cr 255: R = 76 + 1.402 * 127 = 254.05, G = 76 + 0.3441 * 43 - 0.7141 * 127 = 0.1, B = 76 - 1.772 * 43
YBR = np.array([[[76, 85, 255], [130, 128, 128]]] * 2, dtype=np.uint8)
YBR_AS_RGB = np.array([[[254, 0, 0], [130, 130, 130]]] * 2)


@EVERY_LOSSLESS
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_luminance_and_colour_differences_become_rgb(read_frame, syntax, photometric):
    encoded = jpeg_2000(YBR, mct=False) if syntax == JPEG2000Lossless else LOSSLESS[syntax](YBR)
    image = read_frame(encoded, syntax, YBR, PhotometricInterpretation=photometric)
    assert np.abs(image.pixels.astype(int) - YBR_AS_RGB).max() <= 1


@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT", "RGB"])
def test_jpeg_2000_undoes_its_own_transform(read_frame, photometric):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = read_frame(jpeg_2000(noise, mct=True), JPEG2000Lossless, noise, PhotometricInterpretation=photometric)
    assert np.array_equal(image.pixels, noise)


@pytest.mark.parametrize(
    ("bits", "ybr", "rgb"),
    [
        # Cr 1000 above the middle: R + 1402, G - 714.136; Cb: G - 344.136, B + 1772
        (16, (20000, 32768, 33768), (21402, 19286, 20000)),
        (16, (20000, 33768, 32768), (20000, 19656, 21772)),
        (16, (65535, 32768, 33768), (65535, 64821, 65535)),
        (16, (100, 32768, 31768), (0, 814, 100)),
        # 100 of 4096: R + 140.2, G - 71.4
        (12, (1000, 2048, 2148), (1140, 929, 1000)),
        (12, (4095, 2048, 2148), (4095, 4024, 4095)),
    ],
)
def test_deep_luminance_and_colour_differences_become_rgb(read_frame, bits, ybr, rgb):
    frame = np.array([[ybr, ybr]], dtype=np.uint16)
    image = read_frame(
        rle_of(frame), RLELossless, frame, PhotometricInterpretation="YBR_FULL", BitsStored=bits, HighBit=bits - 1
    )
    assert image.pixels.tolist() == [[list(rgb)] * 2]
    assert image.bits == bits
    assert render(image).tolist() == [[[value >> (bits - 8) for value in rgb]] * 2]


# Palettes


def palette(entries: int, bits: int, stored: bytes, *, first: int = 0) -> dict[str, object]:
    """Three tables alike, so that the pictures are grey."""
    colours = ("Red", "Green", "Blue")
    descriptors = {f"{colour}PaletteColorLookupTableDescriptor": [entries, first, bits] for colour in colours}
    tables = {f"{colour}PaletteColorLookupTableData": stored for colour in colours}
    return {"Modality": "US", "PhotometricInterpretation": "PALETTE COLOR", **descriptors, **tables}


def words(*entries: int) -> bytes:
    return np.array(entries, dtype="<u2").tobytes()


@pytest.fixture
def looked_up(write_dicom, pseudonymizer):
    """The grey of each pixel of one row, as the file's palette says, and how deep it is."""

    def look_up(pixels: list[int], dtype: type = np.uint8, **elements) -> tuple[list[int], int]:
        (image,) = read(write_dicom(pixels=np.array([pixels], dtype), **elements), pseudonymizer)
        assert image.greyscale is None
        assert image.pixels.shape == (1, len(pixels), 3)
        assert (image.pixels == image.pixels[..., :1]).all()
        return image.pixels[0, :, 0].tolist(), image.bits

    return look_up


def test_entries_of_eight_bits_in_words_of_sixteen_are_eight_bits(looked_up):
    assert looked_up([0, 1, 2], **palette(3, 8, words(0, 128, 255))) == ([0, 128, 255], 8)
    assert looked_up([0, 1, 2], **palette(3, 16, words(0, 128, 255))) == ([0, 128, 255], 8)


def test_entries_of_eight_bits_packed_as_bytes_are_read(looked_up):
    assert looked_up([3, 1, 0], **palette(4, 8, bytes([0, 100, 200, 255]))) == ([255, 100, 0], 8)


def test_entries_of_sixteen_bits_stay_deep(looked_up):
    assert looked_up([0, 1, 2], **palette(3, 16, words(0, 0x8000, 0xFFFF))) == ([0, 0x8000, 0xFFFF], 16)


def test_a_pixel_outside_of_the_palette_has_its_nearest_end(looked_up):
    stated = palette(3, 16, words(0x1100, 0x2200, 0x3300), first=5)
    assert looked_up([0, 5, 6, 7, 200], **stated)[0] == [0x1100, 0x1100, 0x2200, 0x3300, 0x3300]


def test_zero_entries_stand_for_65536(looked_up):
    stated = palette(0, 16, np.arange(65536, dtype="<u2").tobytes())
    assert looked_up([0, 300, 65535], np.uint16, **stated)[0] == [0, 300, 65535]


def test_a_palette_in_an_rle_file_is_looked_up(read_frame):
    pixels = np.array([[2, 0, 1]], dtype=np.uint8)
    image = read_frame(rle_of(pixels), RLELossless, pixels, **palette(3, 16, words(0, 0x8000, 0xFFFF)))
    assert image.pixels[0, :, 0].tolist() == [0xFFFF, 0, 0x8000]


def test_a_dark_frame_is_looked_up_as_deep_as_a_bright_one(looked_up):
    """The table reaches 0xFFFF, so its entry 0x0080 is nearly black in every frame."""
    stated = palette(3, 16, words(0, 0x0080, 0xFFFF))
    assert looked_up([0, 1, 2], **stated) == ([0, 0x80, 0xFFFF], 16)
    assert looked_up([0, 1, 1], **stated) == ([0, 0x80, 0x80], 16)


def test_an_odd_number_of_entries_of_eight_bits_is_padded(looked_up):
    """PS3.5 7.1.1: every value has an even length."""
    assert looked_up([0, 254], **palette(255, 8, bytes(range(255)) + b"\0")) == ([0, 254], 8)


@pytest.mark.parametrize(("entries", "shown"), [(256, [0, 254, 255]), (512, [0, 127, 150])])
def test_words_are_looked_up_in_a_palette_of_bytes(looked_up, entries, shown):
    table = bytes(range(256)) if entries == 256 else bytes(number // 2 for number in range(512))
    assert looked_up([0, 254, 300], np.uint16, **palette(entries, 8, table)) == (shown, 8)


@pytest.mark.parametrize("stored", [b"", words(1)], ids=len)
def test_a_palette_shorter_than_it_says_ends_in_a_refusal(looked_up, stored):
    with pytest.raises(UnreadableImageError, match="damaged"):
        looked_up([0, 1, 2], **palette(3, 16, stored))


def test_of_a_palette_longer_than_it_says_the_stated_entries_are_taken(looked_up):
    stored = words(0x100, 0x200, 0x300, 0x400, 0x500)
    assert looked_up([0, 2, 4], **palette(3, 16, stored)) == looked_up([0, 2, 2], **palette(3, 16, stored[:6]))


def test_a_palette_picture_without_its_palette_is_refused(looked_up):
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        looked_up([0, 1], Modality="US", PhotometricInterpretation="PALETTE COLOR")


def test_a_codec_that_gets_no_memory_is_not_called_damage(monkeypatch, read_frame):
    """OpenJPEG and CharLS say "failed" in both cases."""
    pixels = np.arange(240, dtype=np.uint16).reshape(12, 20)
    encoded = imagecodecs.jpegls_encode(pixels)

    def failed(*_given, **_named):
        raise RuntimeError("opj_decode or opj_end_decompress failed")

    monkeypatch.setattr(imagecodecs, "jpegls_decode", failed)
    monkeypatch.setattr(decoding, "memory_left", lambda: 1000.0)
    with pytest.raises(UnreadableImageError, match="RADSEARCH_FILE_MEMORY_MB"):
        read_frame(encoded, JPEGLSLossless, pixels)
    monkeypatch.setattr(decoding, "memory_left", lambda: 1e9)
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        read_frame(encoded, JPEGLSLossless, pixels)


@pytest.mark.parametrize(
    ("transform", "photometric", "is_converted"),
    [
        (True, "YBR_RCT", False),
        (True, "YBR_FULL", False),
        (True, "RGB", False),
        (False, "RGB", False),
        (False, "YBR_FULL", True),
    ],
)
def test_jpeg_2000_is_turned_into_rgb_once(read_frame, transform, photometric, is_converted):
    """Where the code has its own transform, the decoder undoes it, whatever the header calls the samples."""
    frame = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    encoded = imagecodecs.jpeg2k_encode(frame, reversible=True, codecformat="J2K", mct=transform)
    shown = read_frame(
        bytes(encoded),
        JPEG2000Lossless,
        frame,
        SamplesPerPixel=3,
        PhotometricInterpretation=photometric,
        PlanarConfiguration=0,
    ).pixels
    assert np.array_equal(shown, frame) is not is_converted


def segmented(entries: int, bits: int, stored: bytes) -> dict[str, object]:
    elements = palette(entries, bits, stored)
    return {f"Segmented{name}" if name.endswith("Data") else name: value for name, value in elements.items()}


def test_a_segmented_palette_of_words_is_expanded(looked_up):
    """C.7.9.2: three values, a line of four to 0x6000, and both once more from byte 0 on."""
    stored = words(0, 3, 0x1000, 0x3000, 0x2000, 1, 4, 0x6000, 2, 2, 0, 0)
    expanded = [0x1000, 0x3000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000]
    assert looked_up(list(range(14)), **segmented(14, 16, stored)) == (expanded * 2, 16)


def test_a_repeat_begins_at_its_offset_in_bytes(looked_up):
    """The line to 0x6000 stands behind four words: byte 8."""
    stored = words(0, 2, 0x1000, 0x2000, 1, 4, 0x6000, 0, 1, 0x2000, 2, 1, 8, 0)
    expanded = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000]
    assert looked_up(list(range(11)), **segmented(11, 16, stored)) == (expanded, 16)


def test_a_segmented_palette_of_bytes_is_expanded(looked_up):
    """Two values, a line of two to 50, and the first segment once more (an offset of four bytes); a padding byte."""
    stored = bytes([0, 2, 10, 30, 1, 2, 50, 2, 1, 0, 0, 0, 0, 0])
    assert looked_up(list(range(6)), **segmented(6, 8, stored)) == ([10, 30, 40, 50, 10, 30], 8)


@pytest.mark.parametrize(
    "stored", [words(1, 4, 0x6000), words(2, 1, 0, 0), words(0, 1, 7, 2, 1, 6, 0), words(0, 1, 7, 9, 1)], ids=len
)
def test_a_segmented_palette_that_makes_no_sense_is_refused(looked_up, stored):
    """A line from nowhere, a repeat of itself, a repeat of a repeat, a kind that there is not."""
    with pytest.raises(UnreadableImageError, match="damaged"):
        looked_up([0, 1, 2], **segmented(3, 16, stored))


@pytest.mark.parametrize(
    ("bits", "stored", "shown"),
    [
        (8, words(0x0000, 0x0100, 0x8000, 0xFF00), ([0x0000, 0x0100, 0x8000, 0xFF00], 16)),
        (8, words(0, 1, 128, 255), ([0, 1, 128, 255], 8)),
        (16, bytes([0, 1, 128, 255]), ([0, 1, 128, 255], 8)),
    ],
    ids=["8 bits said, words stored", "8 bits in words", "16 bits said, bytes stored"],
)
def test_the_depth_of_a_palette_is_that_of_its_entries(looked_up, bits, stored, shown):
    assert looked_up([0, 1, 2, 3], **palette(4, bits, stored)) == shown


def test_a_palette_of_bytes_in_big_endian_words_is_swapped(write_dicom, pseudonymizer):
    """OW in a big endian file has the high byte of each word first: 1, 0, 255, 128 stands for 0, 1, 128, 255."""
    dataset = pydicom.dcmread(write_dicom(pixels=np.array([[0, 1, 2, 3]], np.uint8), **palette(4, 8, b"")))
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", bytes([1, 0, 255, 128]))
    dataset["PixelData"].VR = "OB"
    path = Path(dataset.filename)
    fresh = pydicom.Dataset()
    fresh.update(dataset)
    fresh.file_meta, fresh.preamble = dataset.file_meta, bytes(128)
    fresh.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    pydicom.dcmwrite(path, fresh, implicit_vr=False, little_endian=False)
    (image,) = read(path, pseudonymizer)
    assert image.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
