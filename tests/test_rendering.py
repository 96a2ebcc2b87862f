"""Stored values -> the picture, with the numbers of PS3.3 C.11 worked out by hand."""

import numpy as np
import pytest

from radsearch.rendering import render
from radsearch.study import Facts, Greyscale, LookupTable, StudyImage


def rendered(stored, dtype=np.int16, **greyscale) -> list[int]:
    """One row of stored values as shown; 16 stored bits unless said otherwise."""
    pixels = np.array([stored], dtype=dtype)
    picture = render(StudyImage(pixels, Greyscale(**{"bits_stored": 16, **greyscale}), Facts()))
    assert picture.dtype == np.uint8
    assert picture.shape == pixels.shape
    return picture[0].tolist()


def table(first, values, bits) -> LookupTable:
    return LookupTable(first, np.array(values, dtype=np.float64), bits)


def test_linear_window_follows_c_11_2_1_2_1():
    # ((x - 39.5) / 399 + 0.5) * 255: 102.26 at 0, 127.18 at 39, 127.82 at 40, 166.17 at 100; ends at -160 and 239
    stored = [-1000, -160, 0, 39, 40, 100, 239, 240, 3000]
    assert rendered(stored, window=(40, 400)) == [0, 0, 102, 127, 128, 166, 255, 255, 255]


def test_linear_window_of_2048_and_4096_shows_12_bits_in_full():
    # the standard's own example: 0 is darkest, 4095 brightest; 2048 -> (0.5 / 4095 + 0.5) * 255 = 127.53
    assert rendered([0, 2048, 4095], window=(2048, 4096)) == [0, 128, 255]


def test_linear_window_of_width_one_is_a_threshold():
    assert rendered([2046, 2047, 2048, 2049], window=(2048, 1)) == [0, 0, 255, 255]


def test_linear_window_of_width_two_ends_half_a_value_below_the_centre():
    # c=10, w=2: 0 up to 9, then 255 above 10; (10 - 9.5) / 1 + 0.5 = 1
    assert rendered([8, 9, 10, 11], window=(10, 2)) == [0, 0, 255, 255]


def test_linear_exact_window_follows_c_11_2_1_3_2():
    # ((x - 40) / 400 + 0.5) * 255: 102 at 0, 127.5 at 40, 191.25 at 140; ends at -160 and 240
    stored = [-161, -160, 0, 40, 140, 240, 241]
    assert rendered(stored, window=(40, 400), voi_function="LINEAR_EXACT") == [0, 0, 102, 128, 191, 255, 255]


def test_linear_exact_window_may_be_narrower_than_one():
    # c=0.5, w=0.5: (0.45 - 0.5) / 0.5 + 0.5 = 0.4 -> 102
    stored = [0.25, 0.45, 0.75]
    assert rendered(stored, np.float32, window=(0.5, 0.5), voi_function="LINEAR_EXACT") == [0, 102, 255]


def test_sigmoid_window_follows_c_11_2_1_3_1():
    # 255 / (1 + exp(-4 (x - 10) / 40)): 30.40 at -10, 127.5 at 10, 186.42 at 20, 224.60 at 30
    stored = [-32000, -10, 10, 20, 30, 32000]
    assert rendered(stored, window=(10, 40), voi_function="SIGMOID") == [0, 30, 128, 186, 225, 255]


def test_the_window_is_in_modality_units():
    # HU = 2 x - 150; ((HU - 50) / 100 + 0.5) * 255 with HU 0, 50, 100
    shown = rendered(
        [75, 100, 125],
        rescale_slope=2.0,
        rescale_intercept=-150.0,
        window=(50, 100),
        voi_function="LINEAR_EXACT",
    )
    assert shown == [0, 128, 255]


def test_a_negative_slope_turns_the_order_round():
    assert rendered([0, 100], rescale_slope=-1.0, window=(-50, 100), voi_function="LINEAR_EXACT") == [255, 0]


def test_a_modality_table_holds_its_ends():
    # stored 9 and below map as 10, 14 and above as 13; then ((y - 250) / 300 + 0.5) * 255
    shown = rendered(
        [9, 10, 11, 12, 13, 14],
        modality_lut=table(10, [100, 200, 300, 400], 16),
        window=(250, 300),
        voi_function="LINEAR_EXACT",
    )
    assert shown == [0, 0, 85, 170, 255, 255]


def test_a_modality_table_takes_the_place_of_rescale():
    shown = rendered([1], modality_lut=table(0, [0, 100], 8), rescale_slope=9.0, window=(100, 200), modality="CT")
    assert shown == [128]  # (100 - 99.5) / 199 + 0.5 = 0.5025 -> 128.14


def test_a_voi_table_is_scaled_from_its_own_depth():
    assert rendered([0, 1, 2, 3], voi_lut=table(0, [0, 341, 682, 1023], 10)) == [0, 85, 170, 255]


def test_a_voi_table_looks_up_modality_units_and_comes_before_a_window():
    shown = rendered(
        [0, 1, 2, 9],
        rescale_intercept=-1024.0,
        voi_lut=table(-1023, [51, 102, 255], 8),
        window=(40, 400),
        modality="CT",
    )
    assert shown == [51, 51, 102, 255]


def test_ct_without_a_window_is_shown_at_40_and_400():
    stored = [-160, 0, 40, 100, 239]
    assert rendered([value + 1024 for value in stored], rescale_intercept=-1024.0, modality="CT") == [
        0,
        102,
        128,
        166,
        255,
    ]


def test_without_a_window_the_percentiles_span_the_picture():
    # 0 .. 1000: the 0.5th percentile is 5, the 99.5th 995; 500 -> 495 / 990 = 0.5 -> 127.5
    shown = rendered(np.arange(1001), modality="MR")
    assert [shown[value] for value in (0, 5, 500, 995, 1000)] == [0, 0, 128, 255, 255]


def test_the_percentiles_are_taken_after_rescale():
    shown = rendered(np.arange(1001), modality="MR", rescale_slope=0.1, rescale_intercept=7.0)
    assert [shown[value] for value in (5, 500, 995)] == [0, 128, 255]


def test_padding_is_left_out_of_the_percentiles():
    stored = np.concatenate([[5], np.full(500, -2000), np.arange(1001)])
    shown = rendered(stored, modality="MR", padding=(-2000, -2000))
    assert shown[1:501] == [0] * 500
    assert [shown[501 + value] for value in (5, 500, 995)] == [0, 128, 255]


def test_a_padding_range_is_left_out_with_both_its_ends():
    stored = np.concatenate([[5], [-2000, -1500, -1000] * 200, np.arange(1001)])
    shown = rendered(stored, modality="MR", padding=(-2000, -1000))
    assert [shown[601 + value] for value in (5, 500, 995)] == [0, 128, 255]


def test_a_picture_of_padding_alone_is_still_a_picture():
    assert rendered([7, 7], modality="MR", padding=(7, 7)) == [0, 0]


def test_a_picture_of_one_value_is_black():
    assert rendered([300, 300], modality="MR") == [0, 0]


def test_monochrome1_comes_out_inverted():
    stored = [-160, 0, 100, 239]
    assert rendered(stored, window=(40, 400), inverted=True) == [255, 153, 89, 0]  # 255 - 102.26 and 255 - 166.17


def test_a_voi_table_is_inverted_after_the_look_up():
    assert rendered([0, 1], voi_lut=table(0, [0, 200], 8), inverted=True) == [255, 55]


def test_eight_bits_without_a_window_are_shown_as_they_are():
    stored = np.arange(256)
    assert rendered(stored, np.uint8, bits_stored=8) == stored.tolist()
    assert rendered(stored, np.uint8, bits_stored=8, inverted=True) == stored[::-1].tolist()


@pytest.mark.parametrize(("bits", "stored", "shown"), [(1, [0, 1], [0, 255]), (4, [0, 5, 15], [0, 85, 255])])
def test_fewer_than_eight_bits_fill_the_whole_range(bits, stored, shown):
    assert rendered(stored, np.uint8, bits_stored=bits) == shown


def test_eight_signed_bits_without_a_window_keep_their_lower_half():
    shown = rendered([-128, -64, 0, 127], np.int8, bits_stored=8)
    assert shown == sorted(set(shown))  # four values, four shades


def test_eight_rescaled_bits_without_a_window_keep_their_shades():
    shown = rendered([0, 100, 200, 255], np.uint8, bits_stored=8, modality="PT", rescale_slope=4.0)
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "uint32", "int64", "float32", "float64"])
def test_the_type_of_the_stored_values_does_not_matter(dtype):
    assert rendered([0, 39, 40, 100, 239], dtype, window=(40, 400)) == [102, 127, 128, 166, 255]


def test_values_farther_apart_than_a_table_are_computed_one_by_one():
    stored = [-(2**30), 0, 2**30]
    assert rendered(stored, np.int32, window=(0, 2**31), voi_function="LINEAR_EXACT") == [0, 128, 255]


def test_the_highest_32_bit_values_do_not_overflow():
    assert rendered([2**32 - 2, 2**32 - 1], np.uint32, window=(2**32 - 1, 1)) == [0, 255]


def test_a_float_that_is_no_number_is_black_and_does_not_move_the_others():
    stored = [np.nan, np.inf, *np.arange(1001.0)]
    shown = rendered(stored, np.float32, modality="PT")
    assert shown[0] == 0
    assert [shown[2 + value] for value in (5, 500, 995)] == [0, 128, 255]


def test_a_picture_without_any_number_is_black():
    assert rendered([np.nan, np.nan], np.float32, modality="PT") == [0, 0]


def test_eight_bit_colour_is_passed_on():
    pixels = np.array([[[1, 2, 3], [253, 254, 255]]], dtype=np.uint8)
    assert np.array_equal(render(StudyImage(pixels, None, Facts())), pixels)


@pytest.mark.parametrize(("dtype", "bits"), [("uint16", 16), (">u2", 16), ("uint32", 32)])
def test_deep_colour_keeps_its_highest_eight_bits(dtype, bits):
    pixels = np.array([[[0xABCD, 0xFF00, 0x00FF]]], dtype=np.uint64) << (bits - 16)
    shown = render(StudyImage(pixels.astype(dtype), None, Facts(), bits=bits))
    assert shown.tolist() == [[[0xAB, 0xFF, 0x00]]]
    assert shown.dtype == np.uint8


def test_twelve_bit_colour_fills_the_whole_range():
    pixels = np.array([[[0x000, 0x800, 0xFFF]]], dtype=np.uint16)
    assert render(StudyImage(pixels, None, Facts(), bits=12)).tolist() == [[[0x00, 0x80, 0xFF]]]


def test_rendering_leaves_the_stored_values_alone():
    pixels = np.arange(12, dtype=np.int16).reshape(3, 4)
    pixels.flags.writeable = False
    render(StudyImage(pixels, Greyscale(bits_stored=16, inverted=True), Facts()))
