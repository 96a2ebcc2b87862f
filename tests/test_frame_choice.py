"""Which frames of a file are taken, and that exactly these come out, whatever holds them."""

import itertools
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    EnhancedMRImageStorage,
    EnhancedUSVolumeStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    XRay3DAngiographicImageStorage,
    XRayAngiographicImageStorage,
)

from radsearch.errors import UnreadableImageError
from radsearch.reading import ALL_FRAMES, FrameChoice, choice_of, identify, read
from radsearch.reading.choice import evenly_spaced
from radsearch.settings import Settings

REFUSED = r"truncated file|damaged pixel data"
DEFAULT = FrameChoice(cine=16, volume=0)

# The choice


@pytest.mark.parametrize(
    ("frames", "most", "taken"),
    [
        (120, 4, (16, 46, 76, 106)),  # parts of 30 frames
        (10, 5, (2, 4, 6, 8, 10)),
        (9, 3, (2, 5, 8)),  # parts 1-3, 4-6, 7-9 and their middles
        (5, 1, (3,)),
        (100, 1, (51,)),
        (5, 2, (2, 4)),
        (3, 2, (1, 3)),
        (17, 16, (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17)),
        (4, 4, (1, 2, 3, 4)),
        (3, 16, (1, 2, 3)),
        (1, 1, (1,)),
        (1, 16, (1,)),
        (4, 0, (1, 2, 3, 4)),
    ],
)
def test_the_middles_of_equal_parts_are_taken(frames, most, taken):
    assert evenly_spaced(frames, most) == taken


@given(frames=st.integers(1, 20_000), most=st.integers(1, 300))
def test_the_frames_taken_are_spread_over_all_of_them(frames, most):
    taken = evenly_spaced(frames, most)
    assert len(taken) == min(frames, most)
    assert list(taken) == sorted(set(taken))
    assert 1 <= taken[0] <= taken[-1] <= frames
    parts = 2 * len(taken)  # in halves: the middle of a part lies within the frame that is taken
    assert all(number - 1 <= (2 * part + 1) * frames / parts < number for part, number in enumerate(taken))
    mirrored = [frames + 1 - number for number in reversed(taken)]
    assert all(abs(number - other) <= 1 for number, other in zip(taken, mirrored, strict=True))


def test_a_film_and_a_volume_have_their_own_numbers():
    choice = FrameChoice(cine=2, volume=3)
    assert choice.of(9, is_cine=True) == (3, 7)  # parts of 4.5 frames
    assert choice.of(9, is_cine=False) == (2, 5, 8)


def test_all_frames_are_all_frames():
    assert ALL_FRAMES.of(200, is_cine=True) == ALL_FRAMES.of(200, is_cine=False) == tuple(range(1, 201))


def test_the_choice_is_that_of_the_settings():
    assert choice_of(Settings()) == DEFAULT
    assert choice_of(Settings(cine_frames=5, volume_frames=7)) == FrameChoice(5, 7)


# A film or a volume


@pytest.fixture
def chosen(write_dicom, pseudonymizer):
    """Writes a file of so many frames and tells which of them are taken."""

    def choose(frames: int = 120, choice: FrameChoice = DEFAULT, **elements) -> tuple[int, ...]:
        path = write_dicom(pixels=np.zeros((frames, 2, 2), np.uint8), **elements)
        identity = identify(path, pseudonymizer, name="x", choice=choice)
        assert identity.frames == frames
        return identity.chosen

    return choose


ALL_120 = tuple(range(1, 121))
# parts of 7.5 frames; their middles, 3.75 + 7.5 n, and 1
SIXTEEN_OF_120 = (4, 12, 19, 27, 34, 42, 49, 57, 64, 72, 79, 87, 94, 102, 109, 117)


def test_of_an_ultrasound_film_sixteen_frames_are_taken(chosen):
    assert chosen(Modality="US", SOPClassUID=UltrasoundMultiFrameImageStorage) == SIXTEEN_OF_120


@pytest.mark.parametrize("modality", ["XA", "RF", "ES", "IVUS", "us"])
def test_of_every_modality_that_films_sixteen_frames_are_taken(chosen, modality):
    assert chosen(Modality=modality, SOPClassUID=XRayAngiographicImageStorage) == SIXTEEN_OF_120


@pytest.mark.parametrize("timed", [{"FrameTime": "33.3"}, {"CineRate": "30"}], ids=str)
def test_what_states_a_frame_time_or_a_rate_is_a_film(chosen, timed):
    assert chosen(Modality="OT", **timed) == SIXTEEN_OF_120
    assert chosen(Modality="OT") == ALL_120


def test_an_empty_frame_time_states_none(chosen):
    assert chosen(Modality="OT", FrameTime="") == ALL_120


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("MR", EnhancedMRImageStorage),
        ("US", EnhancedUSVolumeStorage),
        ("XA", XRay3DAngiographicImageStorage),
        ("MG", "1.2.840.10008.5.1.4.1.1.13.1.3"),
        ("CT", "1.2.840.10008.5.1.4.1.1.2.1"),
    ],
)
def test_of_a_volume_every_frame_is_taken(chosen, modality, sop_class):
    assert chosen(Modality=modality, SOPClassUID=sop_class) == ALL_120


def test_a_volume_stays_one_though_it_states_a_frame_time(chosen):
    assert chosen(Modality="US", SOPClassUID=EnhancedUSVolumeStorage, FrameTime="33") == ALL_120


def test_the_choice_that_is_passed_in_counts(chosen):
    choice = FrameChoice(cine=4, volume=3)
    assert chosen(choice=choice, Modality="US") == (16, 46, 76, 106)
    assert chosen(choice=choice, Modality="MR") == (21, 61, 101)  # parts of 40


def test_a_film_shorter_than_the_choice_is_taken_whole(chosen):
    assert chosen(5, Modality="US") == (1, 2, 3, 4, 5)


def test_without_a_choice_all_frames_are_taken(write_dicom, pseudonymizer):
    path = write_dicom(pixels=np.zeros((20, 2, 2), np.uint8), Modality="US")
    assert identify(path, pseudonymizer, name="x").chosen == tuple(range(1, 21))


@pytest.mark.parametrize("stated", [b"+3", b"3.0 "], ids=["a sign", "a decimal point"])
def test_no_frame_is_lost_to_how_their_number_is_written(write_dicom, pseudonymizer, stated):
    """Either all three frames, or a refusal; never one of them as if it were all (the second is no IS at all)."""
    path = write_dicom(pixels=np.zeros((3, 2, 2), np.uint8), NumberOfFrames="1234"[: len(stated)])
    content = path.read_bytes().replace(
        b"IS" + len(stated).to_bytes(2, "little") + b"1234"[: len(stated)],
        b"IS" + len(stated).to_bytes(2, "little") + stated,
    )
    path.write_bytes(content)
    assert _frames_or_refusal(path, pseudonymizer) in (3, "damaged header")


def _frames_or_refusal(path: Path, pseudonymizer) -> int | str:
    try:
        return identify(path, pseudonymizer, name="x").frames
    except UnreadableImageError as error:
        return error.reason


# Exactly these frames come out

FRAMES = np.random.default_rng(3).integers(0, 4096, (6, 16, 20)).astype(np.uint16)


@pytest.fixture
def taken(pseudonymizer):
    """Reads frames of a file: their numbers, and their pixels."""

    def take(path: Path, numbers: list[int] | None) -> tuple[list[int], list[np.ndarray]]:
        images = list(read(path, pseudonymizer, numbers))
        assert {image.frames for image in images} <= {len(FRAMES)}
        return [image.frame for image in images], [image.pixels for image in images]

    return take


def encapsulated(path: Path, pixel_data: bytes, syntax: str, **elements) -> Path:
    """The same file with this encapsulated pixel data."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixel_data
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    return path


def fragmented(frames: list[list[bytes]], *, table: bool) -> bytes:
    """Frames of several fragments, each of even length, with or without basic offsets (PS3.5 A.4)."""
    items, offsets, place = b"", [], 0
    for fragments in frames:
        offsets.append(place)
        for fragment in fragments:
            padded = fragment + bytes(len(fragment) % 2)
            items += b"\xfe\xff\x00\xe0" + struct.pack("<I", len(padded)) + padded
            place += 8 + len(padded)
    basic = struct.pack(f"<{len(offsets)}I", *offsets) if table else b""
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(basic)) + basic + items


def in_pieces(encoded: bytes, pieces: int) -> list[bytes]:
    size = -(-len(encoded) // pieces) // 2 * 2
    cuts = [*range(0, size * pieces, size), len(encoded)]
    return [encoded[begin:end] for begin, end in itertools.pairwise(cuts)]


def jpeg_ls() -> list[bytes]:
    return [imagecodecs.jpegls_encode(frame) for frame in FRAMES]


def jpeg_ls_in_pieces() -> list[list[bytes]]:
    """Frames of 1, 2, 3, 1, 2, 3 fragments."""
    return [in_pieces(frame, 1 + number % 3) for number, frame in enumerate(jpeg_ls())]


def jpeg_2000() -> list[bytes]:
    return [imagecodecs.jpeg2k_encode(frame, level=0, reversible=True) for frame in FRAMES]


def lossless_jpeg() -> list[bytes]:
    return [imagecodecs.jpeg8_encode(frame, lossless=True, bitspersample=12) for frame in FRAMES]


ENCAPSULATIONS = {
    "basic offsets": (JPEGLSLossless, lambda: encapsulate(jpeg_ls(), has_bot=True)),
    "no offsets": (JPEGLSLossless, lambda: encapsulate(jpeg_ls(), has_bot=False)),
    "fragments and basic offsets": (JPEGLSLossless, lambda: fragmented(jpeg_ls_in_pieces(), table=True)),
    "fragments without offsets": (JPEGLSLossless, lambda: fragmented(jpeg_ls_in_pieces(), table=False)),
    "JPEG 2000": (JPEG2000Lossless, lambda: encapsulate(jpeg_2000())),
    "lossless JPEG": (JPEGLossless, lambda: encapsulate(lossless_jpeg())),
}
KINDS = ("plain", "RLE", "extended offsets", *ENCAPSULATIONS)


def write_frames(write_dicom, kind: str) -> Path:
    """The frames in one of the `KINDS`."""
    path = write_dicom(pixels=FRAMES, Modality="MR", BitsStored=12, HighBit=11)
    if kind == "RLE":
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    elif kind == "extended offsets":
        content, offsets, lengths = encapsulate_extended(jpeg_ls())
        tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
        encapsulated(path, content, JPEGLSLossless, **tables)
    elif kind != "plain":
        syntax, pixel_data = ENCAPSULATIONS[kind]
        encapsulated(path, pixel_data(), syntax)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [[2, 5], [1], [6], [1, 2, 3, 4, 5, 6], None], ids=str)
def test_exactly_the_frames_asked_for_come_out(write_dicom, taken, kind, numbers):
    came, pixels = taken(write_frames(write_dicom, kind), numbers)
    assert came == (numbers or [1, 2, 3, 4, 5, 6])
    assert all(np.array_equal(frame, FRAMES[number - 1]) for number, frame in zip(came, pixels, strict=True))


def test_pieces_are_what_they_were_cut_from():
    assert [len(piece) for piece in in_pieces(bytes(11), 3)] == [4, 4, 3]
    assert b"".join(in_pieces(bytes(range(100)), 3)) == bytes(range(100))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_beyond_the_last_is_truncation(write_dicom, taken, kind):
    with pytest.raises(UnreadableImageError, match="truncated file"):
        taken(write_frames(write_dicom, kind), [2, 7])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain"])
def test_one_frame_fewer_than_the_header_says_is_no_quiet_loss(write_dicom, taken, kind):
    path = write_frames(write_dicom, kind)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = len(FRAMES) + 1
    dataset.save_as(path)
    with pytest.raises(UnreadableImageError, match=REFUSED):
        taken(path, None)


def test_a_damaged_frame_does_not_harm_the_others_that_are_asked_for(write_dicom, taken):
    frames = jpeg_ls()
    frames[2] = b"\xff\xd8\xff\xd9"
    path = write_frames(write_dicom, "plain")
    _, pixels = taken(encapsulated(path, encapsulate(frames), JPEGLSLossless), [2, 4])
    assert [frame.tolist() for frame in pixels] == [FRAMES[1].tolist(), FRAMES[3].tolist()]
    with pytest.raises(UnreadableImageError, match="damaged pixel data"):
        taken(path, [2, 3])


@pytest.mark.parametrize("offsets", [[0, 1 << 31, 7], [0, 0, 0], [7, 3, 1], [0]], ids=str)
def test_basic_offsets_that_are_nonsense_end_in_a_refusal(write_dicom, taken, offsets):
    items = fragmented([[frame] for frame in jpeg_ls()], table=False)[8:]
    table = b"\xfe\xff\x00\xe0" + struct.pack(f"<I{len(offsets)}I", 4 * len(offsets), *offsets)
    path = encapsulated(write_frames(write_dicom, "plain"), table + items, JPEGLSLossless)
    with pytest.raises(UnreadableImageError, match=REFUSED):
        taken(path, None)


def extended(write_dicom, offset: int, length: int | None = None) -> Path:
    """The second frame of an extended offset table stands elsewhere, or is so long."""
    content, offsets, lengths = encapsulate_extended(jpeg_ls())
    offsets = offsets[:8] + struct.pack("<Q", offset) + offsets[16:]
    lengths = lengths if length is None else lengths[:8] + struct.pack("<Q", length) + lengths[16:]
    tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    return encapsulated(write_frames(write_dicom, "plain"), content, JPEGLSLossless, **tables)


@pytest.mark.parametrize(
    "offset",
    [
        1 << 32,
        1 << 40,
        1 << 62,
        (1 << 63) - 1,
        (1 << 64) - 1,
    ],
)
def test_an_extended_offset_beyond_the_file_is_the_files_fault(write_dicom, taken, offset):
    with pytest.raises(UnreadableImageError, match=REFUSED):
        taken(extended(write_dicom, offset), None)


@pytest.mark.parametrize("length", [0, 1 << 31, (1 << 64) - 1])
def test_an_extended_length_that_is_nonsense_reads_the_rest_of_the_file_at_most(write_dicom, taken, length):
    """Read to the end of the file, a frame is followed by others, which its decoder does not look at."""
    offset = struct.unpack_from("<Q", encapsulate_extended(jpeg_ls())[1], 8)[0]
    path = extended(write_dicom, offset, length)
    if length:
        assert taken(path, [2])[1][0].tolist() == FRAMES[1].tolist()
    else:
        with pytest.raises(UnreadableImageError, match=REFUSED):
            taken(path, [2])


def test_the_frames_of_a_colour_film_are_told_apart(write_dicom, pseudonymizer):
    colours = [(250, 5, 5), (5, 250, 5), (5, 5, 250)]
    frames = [imagecodecs.jpeg8_encode(np.full((16, 16, 3), colour, np.uint8), level=95) for colour in colours]
    path = write_dicom(
        pixels=np.zeros((3, 16, 16), np.uint8),
        Modality="US",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="YBR_FULL_422",
    )
    encapsulated(path, encapsulate(frames), JPEGBaseline8Bit)
    images = list(read(path, pseudonymizer, [1, 3]))
    assert [image.frame for image in images] == [1, 3]
    for image, colour in zip(images, (colours[0], colours[2]), strict=True):
        assert np.abs(image.pixels.astype(int) - colour).max() <= 3


@pytest.mark.parametrize(
    "photometric",
    [
        "YBR_FULL_422",
        "RGB",
    ],
)
def test_the_frames_of_a_plain_colour_film_are_told_apart(write_dicom, pseudonymizer, photometric):
    """4:2:2: two luminances and one pair of colour differences for two pixels; grey has 128 in both."""
    path = write_dicom(
        pixels=np.zeros((3, 2, 2), np.uint8),
        Modality="US",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation=photometric,
    )
    dataset = pydicom.dcmread(path)
    pixel = {"RGB": lambda grey: bytes([grey] * 6), "YBR_FULL_422": lambda grey: bytes([grey, grey, 128, 128])}
    dataset.PixelData = b"".join(pixel[photometric](grey) * 2 for grey in (10, 20, 30))
    dataset.save_as(path)
    images = list(read(path, pseudonymizer, [2, 3]))
    assert [image.pixels.ravel().tolist() for image in images] == [[20] * 12, [30] * 12]


def test_one_bit_frames_that_begin_within_a_byte_are_told_apart(write_dicom, pseudonymizer):
    """3 frames of 3 pixels: 101 010 110, lowest bit first: 0b11010101, 0b0."""
    path = write_dicom(pixels=np.zeros((3, 1, 3), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, Modality="OT")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes([0b11010101, 0])
    dataset.save_as(path)
    assert [image.pixels.tolist() for image in read(path, pseudonymizer)] == [[[1, 0, 1]], [[0, 1, 0]], [[1, 1, 0]]]
    assert [image.pixels.tolist() for image in read(path, pseudonymizer, [2, 3])] == [[[0, 1, 0]], [[1, 1, 0]]]


def test_one_bit_frames_that_fill_whole_bytes_are_unpacked(write_dicom, pseudonymizer):
    """2 frames of 8 pixels, lowest bit first."""
    path = write_dicom(pixels=np.zeros((2, 2, 4), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, Modality="OT")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes([0b00001101, 0b10000000])
    dataset.save_as(path)
    assert [image.pixels.tolist() for image in read(path, pseudonymizer)] == [
        [[1, 0, 1, 1], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 1]],
    ]
