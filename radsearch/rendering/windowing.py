"""A frame at a window of somebody's choosing; all else of its rendering stays as it is."""

from dataclasses import dataclass, replace

import numpy as np

from radsearch.rendering.greyscale import (
    CT_FALLBACK_WINDOW,
    FALLBACK_PERCENTILES,
    is_padding,
    is_shown_as_it_is,
    to_modality_units,
)
from radsearch.study import StudyImage


@dataclass(frozen=True, slots=True)
class GreyRange:
    """What a window can be chosen from, in modality units (HU for CT).

    low, high: least and greatest value of the frame, without padding. centre, width: about those that it is rendered
    with where nobody chooses any.
    """

    low: float
    high: float
    centre: float
    width: float


def grey_range(image: StudyImage) -> GreyRange | None:
    """The range of a monochrome frame; None of a colour one, or where no value is a number."""
    grey = image.greyscale
    if grey is None:
        return None
    stored = image.pixels[~is_padding(image.pixels, grey)]
    stored = stored if stored.size else image.pixels.ravel()
    values = to_modality_units(stored.astype(np.float64), grey)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if grey.window is not None and grey.voi_lut is None:
        centre, width = grey.window
    elif grey.volume_range is not None and grey.voi_lut is None:
        centre, width = sum(grey.volume_range) / 2, grey.volume_range[1] - grey.volume_range[0]
    elif grey.modality == "CT" and low < 0:
        centre, width = CT_FALLBACK_WINDOW
    elif is_shown_as_it_is(grey, whole_byte=image.pixels.dtype.kind == "u"):
        width = 2.0**grey.bits_stored - 1
        centre = width / 2
    else:
        first, last = np.percentile(values, FALLBACK_PERCENTILES)
        centre, width = float(first + last) / 2, float(last - first)
    return GreyRange(low, high, centre, max(width, float(np.finfo(np.float32).tiny)))


def windowed(image: StudyImage, centre: float, width: float) -> StudyImage:
    """The frame, to be rendered with this linear window (PS3.3 C.11.2.1.2.1) instead of its own window or table."""
    if image.greyscale is None:
        return image
    grey = replace(image.greyscale, window=(centre, width), voi_function="LINEAR", voi_lut=None)
    return replace(image, greyscale=grey)
