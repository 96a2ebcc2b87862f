"""A window of somebody's choosing, and what it can be chosen from."""

from typing import Any

import numpy as np
import pytest

from radsearch.rendering import render
from radsearch.rendering.windowing import grey_range, windowed
from radsearch.study import Facts, Greyscale, LookupTable, StudyImage


def frame(stored: "list[float]", dtype: Any = np.int16, **greyscale: Any) -> StudyImage:
    return StudyImage(np.array([stored], dtype), Greyscale(**{"bits_stored": 16, **greyscale}), Facts())


def test_a_chosen_window_replaces_the_files_own_and_its_table() -> None:
    table = LookupTable(0, np.array([255.0, 0.0]), 8)
    for image in (
        frame([-160, 40, 240], window=(0, 1)), frame([-160, 40, 240], voi_lut=table),
        frame([-160, 40, 240], window=(40, 400), voi_function="SIGMOID"), frame([-160, 40, 240], volume_range=(0, 1)),
    ):  # fmt: skip
        assert render(windowed(image, 40, 400))[0].tolist() == [0, 128, 255]  # as in C.11.2.1.2.1


def test_all_else_stays_as_it_was() -> None:
    image = frame([0, 1, 2, 3], inverted=True, padding=(3, 3), rescale_slope=10.0, rescale_intercept=-10.0)
    # modality units -10, 0, 10; (x + 0.5) / 19 + 0.5 at centre 0 and width 20, then inverted; padding stays black
    assert render(windowed(image, 0, 20))[0].tolist() == [255, 121, 0, 0]


def test_bytes_that_are_shown_as_they_are_have_the_window_that_shows_them_so() -> None:
    image = frame([100, 125, 150], np.uint8, bits_stored=8)
    told = grey_range(image)
    assert told is not None
    assert (told.centre, told.width) == (127.5, 255.0)
    assert render(image)[0].tolist() == [100, 125, 150]


def test_a_window_may_be_narrower_than_one() -> None:
    told = grey_range(frame([0.25, 0.5, 0.75], np.float32, window=(0.5, 0.25)))
    assert told is not None
    assert told.width == 0.25


def test_a_colour_frame_has_no_window() -> None:
    image = StudyImage(np.zeros((2, 2, 3), np.uint8), None, Facts())
    assert grey_range(image) is None
    assert windowed(image, 1, 2) is image


def test_the_range_is_in_modality_units_without_padding() -> None:
    told = grey_range(frame([-2000, 0, 100], rescale_slope=2.0, rescale_intercept=-5.0, padding=(-2000, -2000)))
    assert told is not None
    assert (told.low, told.high) == (-5.0, 195.0)


@pytest.mark.parametrize(
    ("greyscale", "expected"),
    [
        ({"window": (40, 400)}, (40, 400)),
        ({"volume_range": (100, 300)}, (200, 200)),
        ({"modality": "CT"}, (40, 400)),
        ({"modality": "MR"}, (0, 1980)),  # percentiles 0.5 and 99.5 of three values, between which lies 0.99 of all
    ],
)
def test_it_begins_with_the_window_that_it_is_rendered_with(
    greyscale: dict[str, Any], expected: tuple[float, float]
) -> None:
    told = grey_range(frame([-1000, 0, 1000], **greyscale))
    assert told is not None
    assert (told.centre, told.width) == pytest.approx(expected)


@pytest.mark.parametrize("stored", [[np.nan, np.inf], [np.nan, np.nan]])
def test_without_a_number_there_is_no_range(stored: list[float]) -> None:
    assert grey_range(frame(stored, np.float32)) is None


def test_where_all_is_padding_the_values_themselves_are_the_range() -> None:
    told = grey_range(frame([7, 7], padding=(7, 7)))
    assert told is not None
    assert (told.low, told.high) == (7, 7)
    assert told.width > 0
