"""A header -> `Greyscale`: rescale, tables, window, polarity and padding as PS3.3 C.7.6.3, C.7.6.16 and C.11 say."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian

from radsearch.reading.greyscale import read_greyscale


def header(**elements) -> Dataset:
    made = Dataset()
    made.BitsAllocated, made.BitsStored, made.PixelRepresentation = 16, 12, 0
    made.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def item(**elements) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def table(descriptor: list[int], stored: object, *, descriptor_vr: str = "US", stored_vr: str = "US") -> Dataset:
    made = Dataset()
    made.add_new("LUTDescriptor", descriptor_vr, descriptor)
    made.add_new("LUTData", stored_vr, stored)
    return made


def test_a_bare_header_is_shown_as_it_is():
    grey = read_greyscale(header(), 0)
    assert (grey.bits_stored, grey.rescale_slope, grey.rescale_intercept) == (12, 1.0, 0.0)
    assert (grey.window, grey.modality_lut, grey.voi_lut, grey.padding) == (None, None, None, None)
    assert (grey.voi_function, grey.inverted, grey.modality) == ("LINEAR", False, None)


def test_missing_bits_stored_are_the_allocated_ones():
    bare = header()
    del bare.BitsStored
    assert read_greyscale(bare, 0).bits_stored == 16


def test_rescale_and_the_first_of_several_windows_are_taken():
    grey = read_greyscale(
        header(
            Modality="CT",
            RescaleSlope="2.5",
            RescaleIntercept="-1024",
            WindowCenter=[40, -600],
            WindowWidth=[400, 1500],
        ),
        0,
    )
    assert (grey.modality, grey.rescale_slope, grey.rescale_intercept) == ("CT", 2.5, -1024.0)
    assert grey.window == (40.0, 400.0)


def test_a_slope_of_zero_would_erase_the_picture_and_counts_as_one():
    assert read_greyscale(header(RescaleSlope="0"), 0).rescale_slope == 1.0


@pytest.mark.parametrize(
    ("centre", "width"),
    [("40", None), (None, "400"), ("40", "0"), ("40", "-1"), ("40", "0.5"), ("", "")],
)
def test_a_linear_window_that_lacks_a_number_or_is_narrower_than_one_is_none(centre, width):
    stated = {name: value for name, value in (("WindowCenter", centre), ("WindowWidth", width)) if value is not None}
    assert read_greyscale(header(**stated), 0).window is None


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_an_exact_or_sigmoid_window_may_be_narrower_than_one(function):
    """PS3.3 C.11.2.1.3: for these functions the width shall only be greater than 0 (SUV, ADC maps)."""
    grey = read_greyscale(header(WindowCenter="0.5", WindowWidth="0.8", VOILUTFunction=function), 0)
    assert (grey.window, grey.voi_function) == ((0.5, 0.8), function)


def test_a_voi_function_in_free_text_stays_behind():
    assert read_greyscale(header(VOILUTFunction="JOHN SMITH"), 0).voi_function == "LINEAR"


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "", True),
    ],
)
def test_polarity_comes_from_photometric_interpretation_or_presentation_lut_shape_once(photometric, shape, inverted):
    made = header(PhotometricInterpretation=photometric)
    if shape is not None:
        made.PresentationLUTShape = shape
    assert read_greyscale(made, 0).inverted is inverted


def test_padding_is_one_stored_value():
    made = header(PixelRepresentation=1)
    made.add_new("PixelPaddingValue", "SS", -2000)
    assert read_greyscale(made, 0).padding == (-2000, -2000)


@pytest.mark.parametrize(("value", "limit"), [(0, 10), (10, 0)])
def test_a_padding_range_goes_from_its_lower_to_its_higher_end(value, limit):
    made = header()
    made.add_new("PixelPaddingValue", "US", value)
    made.add_new("PixelPaddingRangeLimit", "US", limit)
    assert read_greyscale(made, 0).padding == (0, 10)


def test_a_modality_table_is_read_with_its_first_value_and_depth():
    lut = read_greyscale(header(ModalityLUTSequence=[table([3, 10, 16], [100, 200, 60000])]), 0).modality_lut
    assert (lut.first, lut.bits, lut.values.tolist()) == (10, 16, [100.0, 200.0, 60000.0])


def test_a_table_in_16_bit_words_is_read_from_its_bytes():
    stored = np.array([1, 2, 1023], dtype="<u2").tobytes()
    lut = read_greyscale(header(VOILUTSequence=[table([3, 0, 10], stored, stored_vr="OW")]), 0).voi_lut
    assert (lut.bits, lut.values.tolist()) == (10, [1.0, 2.0, 1023.0])


def test_a_table_in_words_of_a_big_endian_file_is_read_high_byte_first():
    made = header(VOILUTSequence=[table([2, 0, 16], b"\x01\x00\x00\x02", stored_vr="OW")])
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert read_greyscale(made, 0).voi_lut.values.tolist() == [256.0, 2.0]


def test_a_table_of_bytes_packed_two_to_a_word_is_told_from_one_of_words():
    packed = read_greyscale(header(VOILUTSequence=[table([3, 0, 8], b"\x01\x02\xff\x00", stored_vr="OW")]), 0)
    words = read_greyscale(header(VOILUTSequence=[table([3, 0, 8], b"\x01\0\x02\0\xff\0", stored_vr="OW")]), 0)
    assert packed.voi_lut.values.tolist() == words.voi_lut.values.tolist() == [1.0, 2.0, 255.0]


def test_zero_entries_stand_for_65536():
    stored = np.arange(65536, dtype="<u2").tobytes()
    lut = read_greyscale(header(VOILUTSequence=[table([0, 0, 16], stored, stored_vr="OW")]), 0).voi_lut
    assert lut.values.size == 65536
    assert lut.values[-1] == 65535


def test_the_first_value_of_a_signed_modality_table_may_be_written_unsigned():
    made = header(PixelRepresentation=1, ModalityLUTSequence=[table([2, 65535, 16], [7, 8])])
    assert read_greyscale(made, 0).modality_lut.first == -1


def test_the_first_value_of_a_voi_table_may_be_negative():
    made = header(VOILUTSequence=[table([2, -1000, 8], [7, 8], descriptor_vr="SS")])
    assert read_greyscale(made, 0).voi_lut.first == -1000


@pytest.mark.parametrize("descriptor", [[2, 0], [2], [], [2, 0, 16, 1]], ids=len)
def test_a_table_without_a_whole_descriptor_does_not_count(descriptor):
    assert read_greyscale(header(VOILUTSequence=[table(descriptor, [7, 8])]), 0).voi_lut is None


def test_a_table_without_values_does_not_count():
    assert read_greyscale(header(VOILUTSequence=[table([2, 0, 16], b"", stored_vr="OW")]), 0).voi_lut is None


def enhanced() -> Dataset:
    def frame(centre: int) -> Dataset:
        return item(FrameVOILUTSequence=[item(WindowCenter=centre, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")])

    shared = item(PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-5)])
    return header(
        PerFrameFunctionalGroupsSequence=[frame(10), frame(20)],
        SharedFunctionalGroupsSequence=[shared],
        WindowCenter=99,
    )


def test_each_frame_of_an_enhanced_object_has_its_own_window():
    grey = [read_greyscale(enhanced(), frame_index) for frame_index in (0, 1)]
    assert [one.window for one in grey] == [(10.0, 100.0), (20.0, 100.0)]
    assert [one.voi_function for one in grey] == ["LINEAR_EXACT"] * 2


def test_the_frames_of_an_enhanced_object_share_what_the_shared_group_says():
    grey = read_greyscale(enhanced(), 1)
    assert (grey.rescale_slope, grey.rescale_intercept) == (2.0, -5.0)


def test_a_frames_own_group_comes_before_the_shared_one():
    made = enhanced()
    made.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence = [
        item(RescaleSlope=3, RescaleIntercept=1)
    ]
    assert [read_greyscale(made, frame_index).rescale_slope for frame_index in (0, 1)] == [3.0, 2.0]


def test_a_voi_table_of_an_enhanced_object_stands_in_its_frame_group():
    """PS3.3 C.7.6.16.2.10b: Frame VOI LUT With LUT Macro."""
    made = header(
        SharedFunctionalGroupsSequence=[item(FrameVOILUTSequence=[item(VOILUTSequence=[table([2, 5, 8], [1, 255])])])]
    )
    assert read_greyscale(made, 0).voi_lut.values.tolist() == [1.0, 255.0]
