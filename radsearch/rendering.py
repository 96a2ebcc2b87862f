"""Render stored pixel values as the 8-bit picture that models and people see.

The order is that of PS3.3 C.11 and C.7.6.3: modality LUT or rescale, then VOI LUT or window (or a stated fallback),
then the inversion of MONOCHROME1 or Presentation LUT Shape, then 8 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsearch.study import Greyscale, LookupTable, Picture, Pixels, StudyImage

RENDERING_VERSION = 1  # part of every model's fingerprint: raise it with any change of what comes out

CT_FALLBACK_WINDOW = (40.0, 400.0)  # HU; the soft-tissue preset
FALLBACK_PERCENTILES = (0.5, 99.5)
_WHITE = 255
_TABLE_LIMIT = 1 << 16
_BYTE = 8


def render(image: StudyImage) -> Picture:
    """The picture of one frame: (rows, columns) grey or (rows, columns, 3) RGB, uint8."""
    if image.greyscale is None:
        return _colour_to_bytes(image.pixels, image.bits)
    return _render_grey(image.pixels, image.greyscale)


def _colour_to_bytes(pixels: Pixels, bits: int) -> Picture:
    """Keep the highest 8 of `bits`."""
    return np.ascontiguousarray(pixels if bits == _BYTE else np.right_shift(pixels, bits - _BYTE), dtype=np.uint8)


def _render_grey(stored: Pixels, grey: Greyscale) -> Picture:
    """Whole numbers go through a table of all their values (exact and fast); floats are computed one by one."""
    if not np.issubdtype(stored.dtype, np.integer):
        return _show(stored.astype(np.float64), grey, _shown_values(stored, grey))
    lowest, highest = int(stored.min()), int(stored.max())
    if highest - lowest >= _TABLE_LIMIT:
        return _show(stored.astype(np.float64), grey, _shown_values(stored, grey))
    table = _show(np.arange(lowest, highest + 1, dtype=np.float64), grey, _shown_values(stored, grey))
    offset = stored if lowest == 0 else stored.astype(np.int64) - lowest
    return table[offset]


def _shown_values(stored: Pixels, grey: Greyscale) -> Pixels:
    """The stored values that belong to the picture: finite ones outside the padding."""
    values: NDArray[Any] = stored.ravel()
    if not np.issubdtype(values.dtype, np.integer):
        values = values[np.isfinite(values)]
    if grey.padding is None:
        return values
    low, high = grey.padding
    shown = values[(values < low) | (values > high)]
    return shown if shown.size else values


def _show(stored: NDArray[np.float64], grey: Greyscale, shown: Pixels) -> Picture:
    """Stored values -> 8 bits; `shown` are those that a fallback may look at."""
    values = _apply_modality(stored, grey)
    fraction = _apply_voi(values, grey, shown)
    if grey.inverted:
        fraction = 1.0 - fraction
    scaled = np.floor(np.clip(np.nan_to_num(fraction), 0.0, 1.0) * _WHITE + 0.5)
    return scaled.astype(np.uint8)


def _apply_modality(stored: NDArray[np.float64], grey: Greyscale) -> NDArray[np.float64]:
    """Stored values -> modality units (HU for CT); PS3.3 C.11.1."""
    if grey.modality_lut is not None:
        return _look_up(stored, grey.modality_lut)
    return stored * grey.rescale_slope + grey.rescale_intercept


def _apply_voi(values: NDArray[np.float64], grey: Greyscale, shown: Pixels) -> NDArray[np.float64]:
    """Modality units -> 0 (darkest) .. 1 (brightest), before any inversion; PS3.3 C.11.2."""
    if grey.voi_lut is not None:
        return _look_up(values, grey.voi_lut) / (2.0**grey.voi_lut.bits - 1)
    if grey.window is not None:
        return _window(values, *grey.window, function=grey.voi_function)
    if grey.modality == "CT":
        return _window(values, *CT_FALLBACK_WINDOW, function="LINEAR")
    if _is_shown_as_it_is(grey, shown):
        return values / (2.0**grey.bits_stored - 1)
    if shown.size == 0:
        return np.zeros_like(values)
    low, high = np.percentile(_apply_modality(shown.astype(np.float64), grey), FALLBACK_PERCENTILES)
    width = max(float(high - low), float(np.finfo(np.float64).tiny))
    return (values - float(low)) / width


def _is_shown_as_it_is(grey: Greyscale, shown: Pixels) -> bool:
    """Up to 8 bits that nothing else is said of are what the device showed (ultrasound, secondary capture)."""
    rescaled = grey.modality_lut is not None or (grey.rescale_slope, grey.rescale_intercept) != (1.0, 0.0)
    whole_byte = grey.bits_stored <= _BYTE and np.issubdtype(shown.dtype, np.unsignedinteger)
    return bool(whole_byte and not rescaled)


def _window(values: NDArray[np.float64], centre: float, width: float, *, function: str) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT)."""
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _look_up(values: NDArray[np.float64], table: LookupTable) -> NDArray[np.float64]:
    entries = np.clip(np.nan_to_num(values) - table.first, 0, table.values.size - 1)
    return table.values[entries.astype(np.int64)]
