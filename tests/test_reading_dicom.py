"""DICOM -> `StudyImage`s: pixels exact in every encoding, damage one known refusal, nothing of the patient let out."""

import importlib.util
import logging
import re
import subprocess
import sys
from pathlib import Path

import gdcm
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from radsearch.errors import UnreadableImageError
from radsearch.reading import identify, read
from radsearch.rendering import render
from radsearch.study import StudyImage

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
DATA_STORE = Path(importlib.util.find_spec("data_store").submodule_search_locations[0]) / "data"

FIXED_REASONS = {
    "empty file",
    "not an image",
    "no pixel data",
    "truncated file",
    "damaged header",
    "damaged pixel data",
    "picture too large",
    "unsupported photometric interpretation",
    "damaged deflated data",
    "decoder gave an empty picture",
}


@pytest.fixture
def read_all(pseudonymizer):
    return lambda path: list(read(path, pseudonymizer))


@pytest.fixture
def read_one(read_all):
    def read_it(path):
        (image,) = read_all(path)
        return image

    return read_it


@pytest.fixture
def outcome(read_all):
    """Reads a file to the pictures it gives, or to the error."""

    def outcome_of(path: Path) -> list[StudyImage] | UnreadableImageError:
        try:
            return read_all(path)
        except UnreadableImageError as error:
            return error

    return outcome_of


def is_known(outcome: list[StudyImage] | UnreadableImageError) -> bool:
    """Whether pictures came out, each of which can be shown, or one of the fixed reasons."""
    if isinstance(outcome, UnreadableImageError):
        return outcome.reason in FIXED_REASONS or outcome.reason.startswith(("no picture: ", "no decoder for "))
    # all frames of a file share one shape: the first and the last will do
    shown = [(image, render(image)) for image in outcome[:: max(1, len(outcome) - 1)]]
    return [image.frame for image in outcome] == list(range(1, outcome[0].frames + 1)) and all(
        picture.dtype == np.uint8 and picture.ndim == image.pixels.ndim and min(picture.shape) > 0
        for image, picture in shown
    )


@pytest.fixture
def refusal(read_all):
    """Reads a file that gives no pictures and gives the error."""

    def refused(path: Path) -> UnreadableImageError:
        with pytest.raises(UnreadableImageError) as error:
            read_all(path)
        return error.value

    return refused


def rewritten(path: Path, syntax: str) -> Path:
    """The same data set in another transfer syntax, beside the first."""
    dataset = pydicom.dcmread(path)
    target = path.with_suffix(f".{len(syntax)}.dcm")
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    elif syntax == ExplicitVRBigEndian:
        if dataset.BitsAllocated == 16:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dataset["PixelData"].VR = "OW"
        for element in dataset:
            if element.keyword.endswith("PaletteColorLookupTableData"):
                element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == RLELossless:
        dataset.save_as(target)
    else:
        pydicom.dcmwrite(
            target,
            _without_encoding(dataset),
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
        )
    return target


def _without_encoding(dataset: Dataset) -> Dataset:
    """A data set like it that nobody has read: of one that it has read, pydicom refuses to change the byte order."""
    fresh = Dataset()
    fresh.update(dataset)
    fresh.file_meta = dataset.file_meta
    fresh.preamble = bytes(128)
    return fresh


def encapsulated(path: Path, frame: bytes, syntax: str) -> Path:
    """The same file with this compressed frame as its pixel data."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    return path


def lookup_table(descriptor: list[int], values: list[int]) -> list[Dataset]:
    """A modality or VOI LUT sequence; the descriptor is entries, first value mapped and bits."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", values)
    return [item]


def transcoded_by_gdcm(path: Path, syntax: int) -> Path:
    """The same picture, compressed without loss by GDCM, as archives do it."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    target = path.with_suffix(f".{syntax}.dcm")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target


# Stored values and how they are shown


def test_signed_values_are_read_and_shown_in_hounsfield_units(write_dicom, read_one):
    pixels = np.array([[-1160, -1000, -960, -900, -761]], dtype=np.int16)
    image = read_one(write_dicom(pixels=pixels, RescaleSlope="1", RescaleIntercept="1000"))
    assert image.pixels.tolist() == pixels.tolist()
    assert render(image).tolist() == [[0, 102, 128, 166, 255]]  # -160, 0, 40, 100, 239 HU at 40 / 400


def test_the_files_window_comes_before_the_ct_fallback(write_dicom, read_one):
    pixels = np.array([[0, 50, 100]], dtype=np.int16)
    elements = {"WindowCenter": "50", "WindowWidth": "100", "VOILUTFunction": "LINEAR_EXACT"}
    assert render(read_one(write_dicom(pixels=pixels, **elements))).tolist() == [[0, 128, 255]]


def test_monochrome1_comes_out_inverted(write_dicom, read_one):
    pixels = np.array([[0, 100, 255]], dtype=np.uint8)
    elements = {"Modality": "XA", "PhotometricInterpretation": "MONOCHROME1"}
    assert render(read_one(write_dicom(pixels=pixels, **elements))).tolist() == [[255, 155, 0]]


def test_dirt_above_the_stored_bits_is_cleared(write_dicom, read_one):
    pixels = np.array([[0x0005, 0x8005, 0xFFFF, 0x1800]], dtype=np.uint16)
    image = read_one(write_dicom(pixels=pixels, BitsStored=12, HighBit=11))
    assert image.pixels.tolist() == [[5, 5, 0xFFF, 0x800]]


def test_dirt_above_the_stored_bits_leaves_the_sign_alone(write_dicom, read_one):
    # 12 bits of two's complement: 0xFFF is -1, 0x800 is -2048, 0x064 is 100
    pixels = np.array([[0x5FFF, 0x0FFF, 0x0800, 0xF064]], dtype=np.uint16).view(np.int16)
    image = read_one(write_dicom(pixels=pixels, BitsStored=12, HighBit=11))
    assert image.pixels.tolist() == [[-1, -1, -2048, 100]]


def test_float_pixels_are_read(write_dicom, read_one):
    pixels = np.array([[0.25, 0.5, 0.75]], dtype=np.float32)
    path = write_dicom(pixels=pixels, Modality="MR", WindowCenter="0.5", WindowWidth="1", VOILUTFunction="LINEAR_EXACT")
    dataset = pydicom.dcmread(path)
    dataset.FloatPixelData = dataset.PixelData
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.save_as(path)
    image = read_one(path)
    assert image.pixels.tolist() == [[0.25, 0.5, 0.75]]
    assert render(image).tolist() == [[64, 128, 191]]  # 63.75, 127.5, 191.25


def test_a_modality_and_a_voi_table_in_the_file_are_applied(write_dicom, read_one):
    path = write_dicom(
        pixels=np.array([[0, 1, 2]], dtype=np.uint16),
        ModalityLUTSequence=lookup_table([3, 0, 8], [10, 12, 11]),
        VOILUTSequence=lookup_table([3, 10, 8], [0, 51, 255]),
    )
    assert render(read_one(path)).tolist() == [[0, 255, 51]]


def test_padding_in_the_file_is_left_out_of_the_percentiles(write_dicom, read_one):
    pixels = np.concatenate([[5], np.full(500, -2000), np.arange(1001)]).astype(np.int16)[None, :]
    picture = render(read_one(write_dicom(pixels=pixels, Modality="MR", PixelPaddingValue=-2000)))
    assert picture[0, [1, 506, 1001, 1496]].tolist() == [0, 0, 128, 255]


# Frames


def test_every_frame_comes_out_once_and_in_order(write_dicom, read_all):
    pixels = np.arange(24, dtype=np.int16).reshape(3, 2, 4)
    images = read_all(write_dicom(pixels=pixels))
    assert [(image.frame, image.frames) for image in images] == [(1, 3), (2, 3), (3, 3)]
    assert [image.pixels.tolist() for image in images] == pixels.tolist()


@pytest.mark.parametrize("stated", ["0", ""])
def test_a_frame_count_that_is_none_stands_for_one_frame(write_dicom, read_one, stated):
    assert read_one(write_dicom(NumberOfFrames=stated)).frames == 1


def test_each_frame_of_an_enhanced_object_is_shown_by_its_own_window(write_dicom, read_all):
    def voi(centre: int) -> Dataset:
        window, groups = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 100, "LINEAR_EXACT"
        groups.FrameVOILUTSequence = [window]
        return groups

    transformation, shared = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 2, 0, "US"
    shared.PixelValueTransformationSequence = [transformation]
    path = write_dicom(
        pixels=np.full((2, 1, 1), 50, dtype=np.uint16),
        SOPClassUID=EnhancedMRImageStorage,
        Modality="MR",
        PerFrameFunctionalGroupsSequence=[voi(100), voi(130)],
        SharedFunctionalGroupsSequence=[shared],
    )
    # 2 * 50 = 100: the middle of the first window; (100 - 130) / 100 + 0.5 = 0.2 -> 51 in the second
    assert [render(image).item() for image in read_all(path)] == [128, 51]


# Colour


def colour_elements(photometric: str, **more) -> dict:
    return {"Modality": "US", "SamplesPerPixel": 3, "PhotometricInterpretation": photometric, **more}


def test_rgb_by_pixel_and_by_plane_come_out_the_same(write_dicom, read_one):
    colours = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    by_pixel = write_dicom("a.dcm", colours[..., 0], **colour_elements("RGB", PlanarConfiguration=0))
    by_plane = write_dicom("b.dcm", colours[..., 0], **colour_elements("RGB", PlanarConfiguration=1))
    for path, stored in ((by_pixel, colours), (by_plane, colours.transpose(2, 0, 1))):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = stored.tobytes()
        dataset.save_as(path)
        image = read_one(path)
        assert image.greyscale is None
        assert np.array_equal(render(image), colours)


def test_twelve_stored_bits_of_colour_fill_the_whole_range(write_dicom, read_one):
    path = write_dicom(
        pixels=np.zeros((1, 1), np.uint16),
        **colour_elements("RGB", PlanarConfiguration=0, BitsStored=12, HighBit=11),
    )
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.array([0x000, 0x800, 0xFFF], dtype="<u2").tobytes()
    dataset.save_as(path)
    assert render(read_one(path)).tolist() == [[[0x00, 0x80, 0xFF]]]


def test_full_ybr_becomes_rgb_as_c_7_6_3_1_2_says(write_dicom, read_one):
    # Y 76, Cb 85, Cr 255: R = 76 + 1.402 * 127 = 254.05; G = 76 + 0.3441 * 43 - 0.7141 * 127 = 0.1; B = 76 - 1.772 * 43
    path = write_dicom(pixels=np.zeros((1, 2), np.uint8), **colour_elements("YBR_FULL", PlanarConfiguration=0))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes([76, 85, 255, 130, 128, 128])
    dataset.save_as(path)
    picture = render(read_one(path)).astype(int)
    assert np.abs(picture - [[[254, 0, 0], [130, 130, 130]]]).max() <= 1


def test_ybr_422_shares_its_colour_between_two_pixels(write_dicom, read_one):
    path = write_dicom(pixels=np.zeros((1, 2), np.uint8), **colour_elements("YBR_FULL_422", PlanarConfiguration=0))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes([76, 130, 85, 255])
    dataset.save_as(path)
    picture = render(read_one(path)).astype(int)
    # the second pixel: R = 130 + 178.05 > 255; G = 130 - 75.9 = 54.1; B = 130 - 76.2 = 53.8
    assert np.abs(picture - [[[254, 0, 0], [255, 54, 54]]]).max() <= 1


def write_palette(write_dicom) -> Path:
    """Two pixels that point at entries 1 and 0 of a palette (red, half green) whose first entry has the number 5."""
    tables = {
        f"{colour}PaletteColorLookupTableData": np.array(values, "<u2").tobytes()
        for colour, values in {"Red": [0xFF00, 0], "Green": [0, 0x8000], "Blue": [0, 0]}.items()
    }
    descriptors = {f"{colour}PaletteColorLookupTableDescriptor": [2, 5, 16] for colour in ("Red", "Green", "Blue")}
    return write_dicom(
        pixels=np.array([[6, 5]], dtype=np.uint8),
        Modality="US",
        PhotometricInterpretation="PALETTE COLOR",
        **tables,
        **descriptors,
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_palette_is_looked_up_in_every_byte_order(write_dicom, read_one, syntax):
    path = rewritten(write_palette(write_dicom), syntax)
    assert render(read_one(path)).tolist() == [[[0, 0x80, 0], [0xFF, 0, 0]]]


# Encodings


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
    ids=lambda uid: uid.keyword,
)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_the_pixels_are_the_same_in_every_plain_transfer_syntax(write_dicom, read_one, syntax, dtype):
    path = write_dicom(pixels=np.arange(200, 320, dtype=dtype).reshape(10, 12))
    plain, other = read_one(path), read_one(rewritten(path, syntax))
    assert other.pixels.tolist() == plain.pixels.tolist()
    assert np.array_equal(render(other), render(plain))


@pytest.mark.parametrize(
    "syntax",
    [
        gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        gdcm.TransferSyntax.JPEGLSLossless,
        gdcm.TransferSyntax.JPEG2000Lossless,
        gdcm.TransferSyntax.RLELossless,
    ],
    ids=["JPEGLossless", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"],
)
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16)])
def test_lossless_compression_keeps_every_value(write_dicom, read_one, syntax, dtype, bits):
    low, high = (0, 2**bits) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    pixels = np.random.default_rng(bits).integers(low, high, (16, 20)).astype(dtype)
    path = write_dicom(pixels=pixels, BitsStored=bits, HighBit=bits - 1, Modality="MR")
    assert read_one(transcoded_by_gdcm(path, syntax)).pixels.tolist() == pixels.tolist()


def test_a_jpeg_2000_image_whose_sign_was_lost_is_read(read_one):
    """The codestream is unsigned where the header says signed; pydicom corrects it (its issue 1149)."""
    image = read_one(PYDICOM_FILES / "J2K_pixelrep_mismatch.dcm")
    assert image.pixels[0, 45:50].tolist() == [-2000] * 5
    assert image.pixels.min() == -2000


# What cannot be read, and why


def test_a_file_without_preamble_is_read(write_dicom, read_one):
    dataset = pydicom.dcmread(write_dicom())
    expected = dataset.pixel_array.tolist()
    bare = Path(dataset.filename).with_name("bare.dcm")
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(bare, implicit_vr=True, little_endian=True)
    assert not bare.read_bytes().startswith(b"\0" * 128)
    assert read_one(bare).pixels.tolist() == expected


def test_a_file_with_its_meta_group_but_no_preamble_is_read(write_dicom, read_one, tmp_path):
    whole = write_dicom().read_bytes()
    path = tmp_path / "no-preamble"
    path.write_bytes(whole[132:])
    assert read_one(path).pixels.shape == (10, 12)


def test_pixel_data_cut_off_is_truncation(write_dicom, refusal):
    path = write_dicom()
    path.write_bytes(path.read_bytes()[:-20])
    error = refusal(path)
    assert (error.reason, error.skipped) == ("truncated file", False)


def test_frames_cut_off_are_truncation(write_dicom, refusal):
    assert refusal(write_dicom(pixels=np.zeros((2, 4, 4), np.int16), NumberOfFrames="3")).reason == "truncated file"


def test_no_part_of_a_file_is_taken_for_the_whole(write_dicom, read_all):
    """Cut anywhere, in the header as in the pixels, a file is refused."""
    path = write_dicom(pixels=np.zeros((2, 2), np.int16))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError) as refused:
            read_all(path)
        assert refused.value.reason in FIXED_REASONS
        assert refused.value.skipped is False or length <= 132


def test_a_structured_report_is_skipped(write_dicom, refusal):
    error = refusal(write_dicom(SOPClassUID=BasicTextSRStorage, Modality="SR", PixelData=None))
    assert (error.reason, error.skipped) == ("no picture: structured report", True)


def test_a_segmentation_is_skipped_although_it_has_pixels(write_dicom, refusal):
    error = refusal(write_dicom(pixels=np.zeros((8, 8), np.uint8), SOPClassUID=SegmentationStorage, Modality="SEG"))
    assert (error.reason, error.skipped) == ("no picture: segmentation", True)


@pytest.mark.parametrize(
    "path", sorted((PYDICOM_FILES / "dicomdirtests").glob("DICOMDIR*")), ids=lambda path: path.name
)
def test_a_dicomdir_is_skipped(refusal, path, pseudonymizer):
    """Its SOP class stands in the file meta information only."""
    assert (refusal(path).reason, refusal(path).skipped) == ("no picture: DICOMDIR", True)
    with pytest.raises(UnreadableImageError, match="no picture: DICOMDIR"):
        identify(path, pseudonymizer, name="DICOMDIR")


def test_a_complete_file_without_an_element_of_a_picture_is_not_called_truncated(refusal):
    assert refusal(PYDICOM_FILES / "priv_SQ.dcm").reason == "no pixel data"


def test_an_image_without_pixels_is_a_failure(write_dicom, refusal):
    error = refusal(write_dicom(PixelData=None))
    assert (error.reason, error.skipped) == ("no pixel data", False)


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [(MPEG2MPML, "no decoder for MPEG2 Main Profile / Main Level"), ("1.2.3.4", "no decoder for a private")],
)
def test_an_unsupported_transfer_syntax_is_named(write_dicom, refusal, syntax, reason):
    dataset = pydicom.dcmread(write_dicom())
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([b"\x00\x01" * 50])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    path = Path(dataset.filename)
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    error = refusal(path)
    assert error.reason.startswith(reason)
    assert error.skipped is False


def test_extended_jpeg_of_12_bits_is_decoded(read_one):
    """The file's own Largest Pixel Value is 278, before the lossy compression."""
    image = read_one(PYDICOM_FILES / "JPGExtended.dcm")
    assert (image.pixels.dtype, image.pixels.min(), image.pixels.max()) == (np.uint16, 0, 264)


def test_high_throughput_jpeg_2000_is_decoded(write_dicom, read_one):
    pixels = np.arange(256 * 4, dtype=np.uint16).reshape(32, 32)
    path = encapsulated(write_dicom(pixels=pixels), imagecodecs.htj2k_encode(pixels), HTJ2KLossless)
    assert read_one(path).pixels.tolist() == pixels.tolist()


def test_a_frame_too_large_is_refused_before_it_is_decoded(write_dicom, refusal):
    assert refusal(write_dicom(Rows=65535, Columns=65535)).reason == "picture too large"


@pytest.mark.parametrize("missing", ["Rows", "Columns"])
def test_an_image_without_its_size_is_damaged(write_dicom, refusal, missing):
    assert refusal(write_dicom(**{missing: None})).reason == "damaged header"


def test_an_unknown_photometric_interpretation_is_not_guessed(write_dicom, refusal):
    assert refusal(write_dicom(PhotometricInterpretation="HSV")).reason == "unsupported photometric interpretation"


@pytest.mark.parametrize(
    "elements",
    [
        {"BitsStored": [16, 16]},
        {"Rows": [10, 10]},
        {"PixelRepresentation": [0, 0]},
        {"SamplesPerPixel": 7},
        {"BitsAllocated": 13},
        {"VOILUTSequence": lookup_table([4, 0], [1, 2, 3, 4])},
        {"ModalityLUTSequence": lookup_table([4, 0], [1, 2, 3, 4])},
        {"NumberOfFrames": "999999999"},
        {"RescaleSlope": "inf"},
        {"PixelPaddingValue": [1, 2]},
    ],
    ids="+".join,
)
def test_a_malformed_element_ends_in_a_picture_or_a_refusal(write_dicom, outcome, elements):
    assert is_known(outcome(write_dicom(**elements)))


@pytest.mark.parametrize(
    "path",
    [PYDICOM_FILES / "MR_small.dcm", PYDICOM_FILES / "SC_rgb_rle_2frame.dcm", DATA_STORE / "vlut_04.dcm"],
    ids=lambda path: path.stem,
)
def test_whatever_bytes_of_a_header_are_hit_pictures_or_a_refusal_come_out(tmp_path, outcome, path):
    whole, random = path.read_bytes(), np.random.default_rng(1)
    header_bytes = pydicom.dcmread(path).get_item("PixelData").value_tell
    target = tmp_path / "hit.dcm"
    for _ in range(150):
        hit = bytearray(whole)
        for place in random.integers(132, header_bytes + 40, random.integers(1, 12)):
            hit[place] = random.integers(0, 256)
        target.write_bytes(bytes(hit))
        assert is_known(outcome(target))


def test_a_missing_file_is_the_disks_fault(read_all, tmp_path):
    with pytest.raises(FileNotFoundError):
        read_all(tmp_path / "missing.dcm")


def claim(path: Path, target: Path, **elements: int) -> Path:
    """A copy whose header claims something that its codestream does not keep."""
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        dataset[keyword].value = value
    dataset.save_as(target)
    return target


def with_jpeg_ls_precision(path: Path, target: Path, bits: int) -> Path:
    """A copy whose JPEG-LS frame header (SOF55: marker, length in two bytes, precision) claims so many bits."""
    content = bytearray(path.read_bytes())
    content[content.index(b"\xff\xf7") + 4] = bits
    target.write_bytes(bytes(content))
    return target


READ_IN_A_CHILD = """
import pathlib, sys
from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import read
for name in sys.argv[1:]:
    print(name, flush=True)
    try:
        list(read(pathlib.Path(name), Pseudonymizer(bytes(32))))
    except UnreadableImageError:
        pass
print("came to its end")
"""


@pytest.mark.parametrize(
    "damage",
    [
        lambda target: claim(PYDICOM_FILES / "SC_rgb_jpeg_dcmtk.dcm", target, BitsStored=7),
        lambda target: claim(PYDICOM_FILES / "SC_rgb_jpeg_dcmtk.dcm", target, BitsAllocated=32),
        lambda target: claim(DATA_STORE / "JPGLosslessP14SV1_1s_1f_8b.dcm", target, BitsStored=7),
        lambda target: claim(DATA_STORE / "JPEG-LL.dcm", target, BitsAllocated=32),
        lambda target: claim(PYDICOM_FILES / "MR_small_jpeg_ls_lossless.dcm", target, Rows=4000),
        lambda target: with_jpeg_ls_precision(PYDICOM_FILES / "MR_small_jpeg_ls_lossless.dcm", target, 79),
        lambda target: claim(DATA_STORE / "US1_J2KR.dcm", target, SamplesPerPixel=1),
    ],
    ids=[
        "jpeg-7-bits-stored",
        "jpeg-32-bits-allocated",
        "jpeg-lossless-7-bits-stored",
        "jpeg-lossless-32-bits-allocated",
        "jpeg-ls-4000-rows",
        "jpeg-ls-79-bits",
        "jpeg-2000-1-sample",
    ],
)
def test_a_header_that_belies_its_codestream_does_not_end_the_program(tmp_path, damage):
    """GDCM answers these by a C++ exception that nobody catches: the whole process is gone, not only the file."""
    path = damage(tmp_path / "damaged.dcm")
    command = [sys.executable, "-c", READ_IN_A_CHILD, path]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr[-300:]
    assert ended.stdout.endswith("came to its end\n")


# Real files


def names_in(path: Path) -> list[str]:
    """The patient's name, its parts and the patient's number, as far as a file has them."""
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        stated = [str(dataset.get("PatientName", "")), str(dataset.get("PatientID", ""))]
    except Exception:  # noqa: BLE001 -- files damaged on purpose
        return []
    parts = [part for text in stated for part in [text, *text.split("^")]]
    return [part for part in parts if len(part) > 3]


REAL_FILES = sorted(path for folder in (DATA_STORE, PYDICOM_FILES) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_real_file_ends_in_pictures_or_in_a_refusal_and_in_silence(path, outcome, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    came_out = outcome(path)
    assert is_known(came_out)
    said = f"{came_out!s} {caplog.text} {[str(warning.message) for warning in recwarn]}"
    assert not [name for name in names_in(path) if name in said]


# Facts and privacy


def test_the_facts_on_the_allow_list_are_read(write_dicom, read_one, pseudonymizer):
    path = write_dicom(
        PatientID=" MRN-7 ",
        IssuerOfPatientID="Hospital",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.4",
        Modality="DX",
        BodyPartExamined="c-spine",
        ViewPosition="LL",
        ImageLaterality="L",
        PatientSex="F",
        PatientAge="093Y",
        StudyDate="20190321",
        Manufacturer="Philips Medical Systems",
        BurnedInAnnotation="NO",
    )
    facts = read_one(path).facts
    assert (facts.labels.modality, facts.labels.region, facts.labels.pathology) == ("DX", "cervical spine", ())
    assert facts.patient == pseudonymizer.pseudonym("patient", "Hospital", "MRN-7")
    assert facts.study == pseudonymizer.pseudonym("study", "1.2.3")
    assert facts.series == pseudonymizer.pseudonym("series", "1.2.4")
    assert (facts.view, facts.laterality, facts.sex, facts.age, facts.year) == ("LL", "L", "F", 90, 2019)
    assert (facts.manufacturer, facts.burned_in) == ("Philips", "no")


def test_what_is_not_on_the_allow_list_is_unknown(write_dicom, read_one):
    path = write_dicom(
        Modality="SMITH",
        BodyPartExamined="JOHN SMITH",
        ViewPosition="BED 7",
        Laterality="SMITH",
        PatientSex="unknown",
        PatientAge="old",
        StudyDate="18991231",
        Manufacturer="Smith",
        BurnedInAnnotation="SMITH",
    )
    facts = read_one(path).facts
    assert (facts.labels.modality, facts.labels.region, facts.view, facts.laterality) == (None, None, None, None)
    assert (facts.sex, facts.age, facts.year, facts.manufacturer, facts.burned_in) == (None, None, None, None, None)


def test_a_patient_without_a_number_has_no_pseudonym(write_dicom, read_one):
    assert read_one(write_dicom(PatientID="")).facts.patient is None


MARKER, MARKER_UID, MARKER_DATE = "XMARKERX", "2.25.31415926535897932384626433", "19610827"
_MARKER_BY_VR = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), MARKER),
    "UI": MARKER_UID,
    "DA": MARKER_DATE,
    "DT": MARKER_DATE + "112233",
}
_KEPT = {"SpecificCharacterSet", "PhotometricInterpretation", "SOPClassUID"}


def plant_markers(dataset: Dataset) -> int:
    """Write a marker into every text, date and identifier of the DICOM dictionary; gives how many."""
    planted = 0
    for tag, (vr, _, _, _, keyword) in pydicom.datadict.DicomDictionary.items():
        if vr in _MARKER_BY_VR and keyword not in _KEPT and tag >> 16 > 2:
            dataset.add_new(tag, vr, _MARKER_BY_VR[vr])
            planted += 1
    private = dataset.private_block(0x0009, MARKER, create=True)
    private.add_new(0x01, "LO", MARKER)
    private.add_new(0x02, "UN", MARKER.encode())
    request = Dataset()
    request.RequestedProcedureDescription, request.AccessionNumber = MARKER, MARKER
    dataset.RequestAttributesSequence = [request]
    tables = lookup_table([2, 0, 8], [0, 255])
    tables[0].LUTExplanation = MARKER
    dataset.VOILUTSequence = dataset.ModalityLUTSequence = tables
    dataset.PatientAge = "047Y"
    return planted


@pytest.fixture
def marked(write_dicom) -> Path:
    path = write_dicom(pixels=np.zeros((2, 3, 3), np.int16))
    dataset = pydicom.dcmread(path)
    assert plant_markers(dataset) > 1500
    dataset.preamble = MARKER.encode() * 16
    dataset.file_meta.SourceApplicationEntityTitle = MARKER
    dataset.save_as(path)
    assert path.read_bytes().count(MARKER.encode()) > 1500
    return path


def leaks(said: str) -> list[str]:
    found = [marker for marker in (MARKER, MARKER_UID, MARKER_DATE) if marker.lower() in said.lower()]
    return found + re.findall(rf"\b{MARKER_DATE[4:]}\b", said)  # as a word: a pseudonym may have the digits by chance


def test_no_marker_planted_in_any_element_leaves_the_header(marked, read_all):
    images = read_all(marked)
    assert len(images) == 2
    assert leaks(repr(images)) == []
    assert images[0].facts.year == 1961


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "AccessionNumber",
        "InstitutionName",
        "StudyDescription",
        "StationName",
        "DeviceSerialNumber",
        "Modality",
        "BodyPartExamined",
        "Manufacturer",
        "ViewPosition",
        "VOILUTFunction",
        "PresentationLUTShape",
    ],
)
def test_no_marker_planted_in_one_element_leaves_the_header(write_dicom, read_all, keyword):
    assert leaks(repr(read_all(write_dicom(**{keyword: MARKER})))) == []


def test_no_marker_is_in_a_files_identity(marked, pseudonymizer):
    identity = identify(marked, pseudonymizer, name=MARKER)
    assert leaks(repr(identity)) == []
    assert identity.frames == 2


@pytest.mark.parametrize("cut", [10, 5000, 40000])
def test_no_marker_is_in_the_words_of_a_refusal(marked, refusal, cut, recwarn, caplog):
    marked.write_bytes(marked.read_bytes()[:-cut])
    error = refusal(marked)
    said = f"{error!r} {caplog.text} {[str(warning.message) for warning in recwarn]}"
    assert leaks(said) == []


# Identity


def test_the_identity_of_a_dicom_file_is_its_instance_wherever_it_lies(write_dicom, pseudonymizer):
    path = write_dicom(SOPInstanceUID="1.2.3.4")
    identity = identify(path, pseudonymizer, name="anything")
    assert identity.instance == pseudonymizer.pseudonym("instance", "1.2.3.4")
    assert identity.content == pseudonymizer.content(path)
    assert identity.frames == 1


def test_a_file_without_instance_is_identified_by_its_name(write_dicom, pseudonymizer):
    identity = identify(write_dicom(SOPInstanceUID=None), pseudonymizer, name="set/slice.dcm")
    assert identity.instance == pseudonymizer.pseudonym("instance", "set/slice.dcm")


def test_identifying_refuses_what_is_no_picture(write_dicom, pseudonymizer):
    path = write_dicom(SOPClassUID=BasicTextSRStorage)
    with pytest.raises(UnreadableImageError) as refused:
        identify(path, pseudonymizer, name="report")
    assert refused.value.skipped
