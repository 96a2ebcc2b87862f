"""What part of a frame is shown and in what shape: from the header, and as it is drawn."""

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from radsearch.reading.geometry import read_geometry
from radsearch.rendering import geometry as drawn_geometry
from radsearch.rendering import render, render_with_steps
from radsearch.study import Facts, Geometry, Greyscale, StudyImage

ROWS, COLUMNS = 480, 640


def item(**elements) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def geometry(frame_index: int = 0, **elements) -> Geometry:
    return read_geometry(item(**elements), frame_index, ROWS, COLUMNS)


def aspect(frame_index: int = 0, **elements) -> float:
    return geometry(frame_index, **elements).pixel_aspect


def raw(keyword: str, vr: str, value: bytes) -> Dataset:
    """A header with one element as its bytes stand on the disk, still undecoded."""
    tag = Tag(keyword)
    content = struct.pack("<HH2sH", tag.group, tag.element, vr.encode(), len(value)) + value
    return read_dataset(DicomBytesIO(content), is_implicit_VR=False, is_little_endian=True)


# The shape of a pixel


def test_without_a_word_pixels_are_square_and_the_frame_is_whole():
    assert geometry() == Geometry(None, "", 1.0, empty_borders=False)


def test_pixel_spacing_is_height_before_width():
    assert aspect(PixelSpacing=["0.6", "0.3"]) == pytest.approx(2.0)  # rows 0.6 mm apart, columns 0.3 mm
    assert aspect(PixelSpacing=["0.3", "0.6"]) == pytest.approx(0.5)


@pytest.mark.parametrize("keyword", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_the_spacing_at_the_detector_or_of_the_scanner_will_do(keyword):
    assert aspect(**{keyword: ["0.4", "0.1"]}) == pytest.approx(4.0)


def test_pixel_aspect_ratio_is_vertical_before_horizontal():
    assert aspect(PixelAspectRatio=["4", "3"]) == pytest.approx(4 / 3)


def test_the_nearest_to_the_patient_comes_first():
    stated = {
        "PixelSpacing": ["2", "1"],
        "ImagerPixelSpacing": ["3", "1"],
        "NominalScannedPixelSpacing": ["4", "1"],
        "PixelAspectRatio": ["5", "1"],
    }
    seen = []
    while stated:
        seen.append(aspect(**stated))
        del stated[next(iter(stated))]
    assert seen == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "damaged",
    [["0", "1"], ["1", "0"], ["0", "0"], ["-1", "1"], ["1", "-2"], "0.5", "", ["1", "2", "3"], ["1", ""]],
    ids=str,
)
def test_a_spacing_that_is_none_leaves_the_word_to_the_next(damaged):
    assert aspect(PixelSpacing=damaged) == 1.0
    assert aspect(PixelSpacing=damaged, ImagerPixelSpacing=["3", "1"]) == 3.0


@pytest.mark.parametrize("value", [b"wide\\high ", b"nan\\1 ", b"1\\inf ", b"1e999\\1 ", b"\xff\xfe\\1 "], ids=repr)
def test_a_spacing_of_words_or_of_no_finite_number_counts_as_square(value):
    assert read_geometry(raw("PixelSpacing", "DS", value), 0, ROWS, COLUMNS).pixel_aspect == 1.0


@pytest.mark.parametrize(("spacing", "shown"), [(["20", "1"], 20.0), (["1", "20"], 0.05), (["21", "1"], 1.0)])
def test_a_pixel_more_than_twenty_times_as_long_as_wide_is_a_mistake(spacing, shown):
    assert aspect(PixelSpacing=spacing) == pytest.approx(shown)


def test_an_absurd_spacing_hides_what_comes_after_it():
    assert aspect(PixelSpacing=["1", "1000"], PixelAspectRatio=["2", "1"]) == 1.0


def measures(vertical: str, horizontal: str) -> Dataset:
    return item(PixelMeasuresSequence=[item(PixelSpacing=[vertical, horizontal])])


def test_a_frames_own_measures_come_before_the_shared_and_these_before_the_headers():
    elements = {
        "PerFrameFunctionalGroupsSequence": [measures("2", "1"), item()],
        "SharedFunctionalGroupsSequence": [measures("3", "1")],
        "PixelSpacing": ["4", "1"],
    }
    assert [aspect(index, **elements) for index in (0, 1, 7)] == [2.0, 3.0, 3.0]
    del elements["SharedFunctionalGroupsSequence"]
    assert [aspect(index, **elements) for index in (0, 1)] == [2.0, 4.0]


def test_measures_without_a_spacing_leave_the_word_to_the_header():
    shared = item(PixelMeasuresSequence=[item(SliceThickness="5")])
    assert aspect(SharedFunctionalGroupsSequence=[shared], PixelSpacing=["2", "1"]) == 2.0


# Ultrasound regions


def region(left: int, top: int, right: int, bottom: int, spatial_format: int | None = 1) -> Dataset:
    made = item(
        RegionLocationMinX0=left, RegionLocationMinY0=top, RegionLocationMaxX1=right, RegionLocationMaxY1=bottom
    )
    if spatial_format is not None:
        made.RegionSpatialFormat = spatial_format
    return made


def box(*regions: Dataset, **elements) -> tuple[int, int, int, int] | None:
    return geometry(SequenceOfUltrasoundRegions=list(regions), **elements).crop


def test_the_last_row_and_column_of_a_region_belong_to_it():
    assert box(region(left=100, top=50, right=539, bottom=429)) == (50, 100, 430, 540)


def test_the_reason_for_a_crop_is_told():
    assert geometry(SequenceOfUltrasoundRegions=[region(100, 50, 539, 429)]).crop_reason == "ultrasound regions"
    assert geometry().crop_reason == ""


def test_the_box_goes_around_all_regions_that_show_tissue():
    assert box(region(10, 50, 300, 400), region(320, 60, 620, 410)) == (50, 10, 411, 621)


@pytest.mark.parametrize("spatial_format", [4, 5, 0, None])
def test_waveforms_and_graphics_do_not_widen_the_box(spatial_format):
    tissue, other = region(100, 50, 500, 250), region(0, 260, 639, 479, spatial_format)
    assert box(tissue, other) == box(other, tissue) == (50, 100, 251, 501)


@pytest.mark.parametrize("spatial_format", [2, 3])
def test_an_m_mode_or_a_spectrum_beside_the_tissue_is_part_of_the_picture(spatial_format):
    assert box(region(100, 50, 500, 250), region(90, 260, 510, 470, spatial_format)) == (50, 90, 471, 511)


def test_where_no_region_shows_echoes_all_of_them_count():
    assert box(region(100, 50, 500, 250, 4), region(90, 260, 510, 470, 5)) == (50, 90, 471, 511)


def test_a_region_of_the_whole_picture_is_no_crop():
    assert box(region(0, 0, 639, 479)) is None


def test_a_region_beyond_the_edge_ends_there():
    assert box(region(100, 50, 700, 900)) == (50, 100, 480, 640)


@pytest.mark.parametrize(
    "odd",
    [region(700, 0, 900, 479), region(0, 500, 639, 900), region(400, 300, 100, 50), region(400, 50, 100, 300)],
    ids=["right of it", "below it", "inverted", "left and right inverted"],
)
def test_a_region_outside_or_inverted_is_no_crop(odd):
    assert box(odd) is None


@pytest.mark.parametrize(
    "odd",
    [region(700, 50, 900, 250), region(500, 0, 100, 470), region(0, 200, 639, 100)],
    ids=["right of the picture", "left and right inverted", "top and bottom inverted"],
)
def test_a_region_outside_or_inverted_does_not_widen_the_box_of_a_good_one(odd):
    assert box(region(100, 50, 500, 250), odd) == (50, 100, 251, 501)


def test_a_region_smaller_than_a_twentieth_of_the_picture_is_a_mistake():
    assert 0.05 * ROWS * COLUMNS == 15360 == 128 * 120
    assert box(region(0, 0, 127, 119)) == (0, 0, 120, 128)
    assert box(region(0, 0, 126, 119)) is None


def test_a_region_that_lacks_an_edge_is_left_out():
    damaged = region(0, 0, 639, 470)
    del damaged.RegionLocationMaxY1
    assert box(damaged) is None
    assert box(damaged, region(100, 50, 500, 250)) == (50, 100, 251, 501)


@pytest.mark.parametrize("value", [[], [item()]], ids=["empty", "of an empty item"])
def test_a_sequence_of_regions_without_any_is_no_crop(value):
    assert geometry(SequenceOfUltrasoundRegions=value).crop is None


@pytest.mark.parametrize("vr", ["SQ", "LO", "UL"])
def test_a_sequence_of_regions_that_is_none_is_no_crop(vr):
    content = bytes.fromhex("18001160") + vr.encode()
    content += b"\0\0\x06\0\0\0text!!" if vr == "SQ" else b"\x04\0text"
    header = read_dataset(DicomBytesIO(content), is_implicit_VR=False, is_little_endian=True)
    assert read_geometry(header, 0, ROWS, COLUMNS).crop is None


# Shutter


def shutter(top: int, left: int, bottom: int, right: int, shape: str | list[str] = "RECTANGULAR") -> dict[str, object]:
    return {
        "ShutterShape": shape,
        "ShutterUpperHorizontalEdge": str(top),
        "ShutterLeftVerticalEdge": str(left),
        "ShutterLowerHorizontalEdge": str(bottom),
        "ShutterRightVerticalEdge": str(right),
    }


def test_the_edges_of_a_shutter_are_counted_from_one_and_are_shown():
    shown = geometry(**shutter(top=11, left=21, bottom=400, right=600))
    assert (shown.crop, shown.crop_reason) == ((10, 20, 400, 600), "display shutter")


def test_a_shutter_as_large_as_the_picture_is_no_crop():
    assert geometry(**shutter(1, 1, ROWS, COLUMNS)).crop is None
    assert geometry(**shutter(0, 0, ROWS + 1, COLUMNS + 1)).crop is None


@pytest.mark.parametrize("shape", ["CIRCULAR", "POLYGONAL", "", ["CIRCULAR", "POLYGONAL"]], ids=str)
def test_a_shutter_of_another_shape_is_no_crop(shape):
    assert geometry(**shutter(11, 21, 400, 600, shape)).crop is None


def test_a_shutter_may_be_rectangular_among_other_shapes():
    assert geometry(**shutter(11, 21, 400, 600, ["CIRCULAR", "RECTANGULAR"])).crop == (10, 20, 400, 600)


@pytest.mark.parametrize("edges", [(400, 21, 11, 600), (11, 600, 400, 21), (11, 21, 11, 21), (481, 1, 600, 640)])
def test_a_shutter_inverted_tiny_or_outside_is_no_crop(edges):
    assert geometry(**shutter(*edges)).crop is None


def test_a_shutter_that_lacks_an_edge_is_no_crop():
    edges = shutter(11, 21, 400, 600)
    del edges["ShutterLowerHorizontalEdge"]
    assert geometry(**edges).crop is None


def test_ultrasound_regions_come_before_a_shutter():
    regions = {"SequenceOfUltrasoundRegions": [region(100, 50, 500, 250)]}
    assert geometry(**regions, **shutter(11, 21, 400, 600)).crop == (50, 100, 251, 501)
    useless = {"SequenceOfUltrasoundRegions": [region(0, 0, 639, 479)]}
    assert geometry(**useless, **shutter(11, 21, 400, 600)).crop == (10, 20, 400, 600)


# Whether empty borders are looked for


@pytest.mark.parametrize(
    ("modality", "expected"),
    [(code, True) for code in ("CR", "DX", "MG", "IO", "PX", "RG", "dx")]
    + [(code, False) for code in ("CT", "MR", "US", "XA", "OT", "")],
)
def test_borders_of_zeros_are_looked_for_in_projection_radiographs(modality, expected):
    assert geometry(Modality=modality).empty_borders is expected


@pytest.mark.parametrize("value", [0, 63536])
def test_the_slices_of_a_series_are_all_cut_alike_whatever_their_padding(value):
    header = item(Modality="CT")
    header.add_new("PixelPaddingValue", "US", value)
    assert not read_geometry(header, 0, ROWS, COLUMNS).empty_borders


# Drawn: the crop


def as_it_is(pixels: np.ndarray, geometry: Geometry, **greyscale) -> StudyImage:
    """Eight bits that are shown as they are, so that the picture holds the stored values."""
    return StudyImage(pixels, Greyscale(**{"bits_stored": 8, **greyscale}), Facts(), geometry=geometry)


def counted(rows: int, columns: int) -> np.ndarray:
    return np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)


def test_a_crop_keeps_exactly_its_rows_and_columns():
    shown = render_with_steps(as_it_is(counted(4, 5), Geometry((1, 2, 3, 4), "display shutter")))
    assert shown.picture.tolist() == [[7, 8], [12, 13]]
    assert shown.steps[2] == "cut to rows 1-2, columns 2-3: display shutter"


def test_a_colour_frame_is_cut_too():
    pixels = np.stack([counted(4, 5)] * 3, axis=-1)
    image = StudyImage(pixels, None, Facts(), geometry=Geometry((1, 2, 3, 4), "ultrasound regions"))
    assert render(image).tolist() == pixels[1:3, 2:4].tolist()


def test_the_percentiles_are_those_of_the_crop():
    pixels = np.full((3, 1001), 60000, dtype=np.uint16)
    pixels[1] = np.arange(1001)
    image = StudyImage(
        pixels, Greyscale(bits_stored=16), Facts(), geometry=Geometry((1, 0, 2, 1001), "display shutter")
    )
    assert render(image)[0, [0, 5, 500, 995, 1000]].tolist() == [0, 0, 128, 255, 255]


def test_whether_ct_values_are_hounsfield_units_is_seen_in_the_crop():
    """Outside of the crop there are values below 0, inside there are none: no preset, but percentiles."""
    pixels = np.full((2, 1001), -1000, dtype=np.int16)
    pixels[1] = np.arange(1001)
    grey = Greyscale(bits_stored=16, modality="CT")
    shown = render_with_steps(StudyImage(pixels, grey, Facts(), geometry=Geometry((1, 0, 2, 1001), "x")))
    assert any(step.startswith("no window stored: 5 to 995, the percentiles") for step in shown.steps)


# Drawn: empty borders

BORDERED = Geometry(empty_borders=True)


def framed(inside: np.ndarray, border: int, around: tuple[int, int, int, int]) -> np.ndarray:
    """`inside` with so many rows and columns of one value above, left, below and right of it."""
    top, left, bottom, right = around
    return np.pad(inside, ((top, bottom), (left, right)), constant_values=border)


INSIDE = np.array([[9, 0, 9, 9], [9, 9, 0, 9], [0, 9, 9, 9]], dtype=np.uint8)


def test_borders_of_zeros_are_cut_off_and_zeros_inside_stay():
    shown = render_with_steps(as_it_is(framed(INSIDE, 0, (1, 0, 2, 1)), BORDERED))
    assert shown.picture.tolist() == INSIDE.tolist()
    assert "cut to rows 1-3, columns 0-3: empty borders" in shown.steps


def test_one_value_in_a_border_keeps_its_row_and_column():
    pixels = framed(INSIDE, 0, (1, 1, 1, 1))
    pixels[0, 3] = 1
    assert render(as_it_is(pixels, BORDERED)).shape == (4, 4)


def test_borders_below_a_256th_of_the_highest_value_are_cut_alike():
    inside = np.full((3, 4), 2560, dtype=np.uint16)
    for border, shape in ((10, (3, 4)), (11, (5, 6))):  # 2560 / 256 = 10
        image = as_it_is(framed(inside, border, (1, 1, 1, 1)), BORDERED, bits_stored=12)
        assert render(image).shape == shape


def test_a_copy_with_loss_is_cut_like_the_picture_itself():
    rng = np.random.default_rng(0)
    exact = framed(rng.integers(1000, 4000, (20, 30)).astype(np.uint16), 0, (3, 4, 5, 6))
    lossy = exact + rng.integers(0, 4, exact.shape).astype(np.uint16)  # 4003 / 256 = 15.6
    shapes = [render(as_it_is(pixels, BORDERED, bits_stored=12)).shape for pixels in (exact, lossy)]
    assert shapes == [(20, 30), (20, 30)]


@pytest.mark.parametrize(("side", "cut"), [(5, True), (4, False)])
def test_borders_are_left_where_less_than_a_quarter_would_be_kept(side, cut):
    """5 x 5 of 10 x 10 are a quarter, 4 x 4 are less."""
    pixels = np.zeros((10, 10), dtype=np.uint8)
    pixels[:side, :side] = 200
    shown = render_with_steps(as_it_is(pixels, BORDERED))
    assert shown.picture.shape == ((side, side) if cut else (10, 10))
    assert any("empty borders" in step for step in shown.steps) is cut


@pytest.mark.parametrize("value", [0, 7])
def test_a_picture_of_one_value_is_not_cut_at_all(value):
    assert render(as_it_is(np.full((4, 5), value, np.uint8), BORDERED)).shape == (4, 5)


def test_zeros_are_left_where_borders_are_not_looked_for():
    pixels = framed(INSIDE, 0, (1, 1, 1, 1))
    assert render(as_it_is(pixels, Geometry())).shape == pixels.shape


def test_signed_zeros_are_no_empty_border():
    pixels = framed(INSIDE.astype(np.int16), 0, (1, 1, 1, 1))
    assert render(as_it_is(pixels, BORDERED, bits_stored=16)).shape == pixels.shape


def test_borders_of_padding_are_cut_off():
    pixels = framed(INSIDE.astype(np.int16) * 100, -2000, (2, 1, 0, 3))
    image = as_it_is(pixels, BORDERED, bits_stored=16, padding=(-2000, -1000), window=(450, 900))
    shown = render_with_steps(image)
    assert shown.picture.shape == (3, 4)
    assert "cut to rows 2-4, columns 1-4: empty borders" in shown.steps


def test_padding_and_zeros_may_share_a_border():
    pixels = framed(framed(INSIDE, 0, (1, 1, 1, 1)), 255, (0, 1, 0, 0))
    assert render(as_it_is(pixels, BORDERED, padding=(255, 255))).shape == (3, 4)


def test_borders_are_looked_for_inside_the_crop():
    pixels = framed(framed(INSIDE, 0, (1, 1, 1, 1)), 200, (1, 1, 1, 1))
    shown = render_with_steps(as_it_is(pixels, Geometry((1, 1, 6, 7), "display shutter", empty_borders=True)))
    assert shown.picture.tolist() == INSIDE.tolist()
    assert shown.steps[2:4] == (
        "cut to rows 1-5, columns 1-6: display shutter",
        "cut to rows 1-3, columns 1-4: empty borders",
    )


def test_the_borders_of_a_colour_frame_are_those_where_every_sample_is_empty():
    pixels = np.zeros((4, 5, 3), dtype=np.uint8)
    pixels[1:3, 1:4, 1] = 99
    image = StudyImage(pixels, None, Facts(), geometry=BORDERED)
    assert render(image).tolist() == pixels[1:3, 1:4].tolist()


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_the_byte_order_of_the_stored_values_does_not_matter(dtype):
    pixels = framed(np.full((3, 4), 0x0100, dtype), 0, (1, 1, 1, 1))
    assert render(as_it_is(pixels, BORDERED, bits_stored=16, window=(128, 256))).shape == (3, 4)


def test_a_computed_radiograph_on_the_disk_is_cut_and_a_ct_is_not(write_dicom, pseudonymizer):
    from radsearch.reading import read

    pixels = framed(np.full((6, 7), 900, np.uint16), 0, (2, 0, 1, 3))
    shapes = {}
    for modality in ("CR", "DX", "CT", "US"):
        (image,) = read(write_dicom(pixels=pixels, Modality=modality), pseudonymizer)
        shapes[modality] = render(image).shape
    assert shapes == {"CR": (6, 7), "DX": (6, 7), "CT": (9, 10), "US": (9, 10)}


def test_a_ct_with_a_padding_value_keeps_its_borders(write_dicom, pseudonymizer):
    from radsearch.reading import read

    pixels = framed(framed(np.full((6, 7), 1024, np.uint16), 0, (1, 1, 1, 1)), 4000, (2, 0, 0, 0))
    path = write_dicom(pixels=pixels, Modality="CT", PixelPaddingValue=4000, RescaleIntercept="-1024", RescaleSlope="1")
    (image,) = read(path, pseudonymizer)
    assert render(image).shape == (10, 9)


# Drawn: square pixels


def squared(rows: int, columns: int, pixel_aspect: float) -> tuple[int, ...]:
    return render(as_it_is(np.full((rows, columns), 77, np.uint8), Geometry(pixel_aspect=pixel_aspect))).shape


@pytest.mark.parametrize(
    ("pixel_aspect", "shape"),
    [(2.0, (20, 16)), (0.5, (10, 32)), (1.25, (12, 16)), (0.8, (10, 20)), (20.0, (200, 16)), (0.05, (10, 320))],
)
def test_the_coarser_axis_is_stretched(pixel_aspect, shape):
    """10 rows of 16 columns; 10 * 1.25 = 12.5 is rounded to the even 12."""
    assert squared(10, 16, pixel_aspect) == shape


@pytest.mark.parametrize(("pixel_aspect", "rows"), [(1.0, 1000), (1.0099, 1000), (0.9901, 1000), (1.011, 1011)])
def test_a_pixel_within_one_percent_of_a_square_is_left_alone(pixel_aspect, rows):
    assert squared(1000, 4, pixel_aspect)[0] == rows


def test_what_is_left_alone_is_exact_and_not_told():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11), dtype=np.uint8)
    shown = render_with_steps(as_it_is(pixels, Geometry(pixel_aspect=1.005)))
    assert shown.picture.tolist() == pixels.tolist()
    assert not any("resized" in step for step in shown.steps)


def test_a_pixel_twice_as_high_as_wide_is_stretched_between_its_neighbours():
    # rows at 0 and 100: the new centres lie at 0.25 and 0.75 between the old ones, beyond the first and last held
    shown = render_with_steps(as_it_is(np.array([[0], [100]], np.uint8), Geometry(pixel_aspect=2.0)))
    assert shown.picture[:, 0].tolist() == [0, 25, 75, 100]
    assert shown.steps[-1] == "pixels 2 times as high as wide: resized to 1 x 4"


def test_a_pixel_twice_as_wide_as_high_is_stretched_sideways():
    shown = render_with_steps(as_it_is(np.array([[0, 100]], np.uint8), Geometry(pixel_aspect=0.5)))
    assert shown.picture.tolist() == [[0, 25, 75, 100]]
    assert shown.steps[-1] == "pixels 0.5 times as high as wide: resized to 4 x 1"


def test_colour_is_stretched_each_sample_for_itself():
    pixels = np.array([[[0, 100, 7]], [[100, 0, 7]]], dtype=np.uint8)
    image = StudyImage(pixels, None, Facts(), geometry=Geometry(pixel_aspect=2.0))
    assert render(image)[:, 0].tolist() == [[0, 100, 7], [25, 75, 7], [75, 25, 7], [100, 0, 7]]


@pytest.mark.parametrize(
    ("pixel_aspect", "shape"),
    [(2.0, (10, 8)), (0.5, (5, 16)), (20.0, (10, 1)), (0.05, (1, 16)), (1.2, (12, 16)), (0.8, (10, 20))],
)
def test_a_picture_that_would_grow_too_large_is_made_square_by_shrinking(monkeypatch, pixel_aspect, shape):
    """160 pixels; 1.25 times as many are still allowed."""
    monkeypatch.setattr(drawn_geometry, "_LARGEST_PICTURE", 200)
    assert squared(10, 16, pixel_aspect) == shape


def test_the_crop_is_cut_before_the_pixels_are_made_square():
    image = as_it_is(counted(8, 8), Geometry((2, 1, 5, 7), "display shutter", pixel_aspect=2.0))
    assert render(image).shape == (6, 6)


def test_a_spacing_on_the_disk_stretches_the_picture(write_dicom, pseudonymizer):
    from radsearch.reading import read

    (image,) = read(write_dicom(PixelSpacing=["0.5", "0.25"]), pseudonymizer)
    assert (image.pixels.shape, render(image).shape) == ((10, 12), (20, 12))


def test_every_step_is_told_in_its_order():
    pixels = framed(INSIDE, 0, (1, 1, 1, 1))
    geometry = Geometry((0, 0, 5, 6), "display shutter", pixel_aspect=2.0, empty_borders=True)
    assert render_with_steps(as_it_is(pixels, geometry, inverted=True)).steps[2:] == (
        "cut to rows 0-4, columns 0-5: display shutter",
        "cut to rows 1-3, columns 1-4: empty borders",
        "rescale: slope 1, intercept 0",
        "no window stored: 8 bits as they are",
        "inverted: the lowest value is white (MONOCHROME1, or Presentation LUT Shape INVERSE)",
        "pixels 2 times as high as wide: resized to 4 x 6",
    )
