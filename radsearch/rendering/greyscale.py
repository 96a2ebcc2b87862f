"""Stored values of a monochrome frame -> 8 bits, in the order of PS3.3 C.11 and C.7.6.3."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radsearch.study import Greyscale, LookupTable, Picture, Pixels

CT_FALLBACK_WINDOW = (40.0, 400.0)  # HU; the soft-tissue preset
FALLBACK_PERCENTILES = (0.5, 99.5)
_WHITE = 255
_TABLE_LIMIT = 1 << 16
_BYTE = 8

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Distribution:
    """Which values a frame shows, padding left out: `values` (n,) in modality units, ascending, `counts` of each."""

    values: Values
    counts: NDArray[np.int64]
    whole_byte: bool

    def percentile(self, percent: float) -> float:
        """Linear between order statistics, as `numpy.percentile`."""
        behind = np.cumsum(self.counts)
        rank = percent / 100 * (int(behind[-1]) - 1)
        low, high = np.searchsorted(behind, [np.floor(rank), np.ceil(rank)], side="right")
        return float(self.values[low] + (self.values[high] - self.values[low]) * (rank - np.floor(rank)))


def show_grey(stored: Pixels, grey: Greyscale, steps: list[str]) -> Picture:
    """Whole numbers go through a table of all their values (exact and fast); others are computed one by one."""
    if stored.dtype.kind in "iu":
        lowest, highest = int(stored.min()), int(stored.max())
        if highest - lowest < _TABLE_LIMIT:
            offsets = _offsets(stored, lowest)
            numbers = np.arange(lowest, highest + 1, dtype=np.float64)
            table = _show(numbers, grey, lambda: _counted(offsets, numbers, grey, stored.dtype), steps)
            return table.take(offsets)
    values = stored.astype(np.float64)
    return _show(values, grey, lambda: _sorted(values, grey), steps)


def _offsets(stored: Pixels, lowest: int) -> Pixels:
    """Unsigned distances from the lowest value, in no more bytes than the stored values have."""
    if lowest == 0:
        return stored
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False).view(unsigned)
    offsets: Pixels = np.subtract(native, unsigned.type(lowest % (1 << unsigned.itemsize * 8)))
    return offsets


def _counted(offsets: Pixels, numbers: Values, grey: Greyscale, dtype: np.dtype[np.generic]) -> _Distribution:
    counts = np.bincount(offsets.ravel(), minlength=numbers.size)
    shown = counts.copy()
    shown[is_padding(numbers, grey)] = 0
    return _distribution(numbers, shown if shown.any() else counts, grey, whole_byte=dtype.kind == "u")


def _sorted(stored: Values, grey: Greyscale) -> _Distribution:
    finite = stored[np.isfinite(stored)]
    shown = finite[~is_padding(finite, grey)]
    values = shown if shown.size else finite
    return _distribution(values, np.ones(values.size, dtype=np.int64), grey, whole_byte=False)


def _distribution(stored: Values, counts: NDArray[np.int64], grey: Greyscale, *, whole_byte: bool) -> _Distribution:
    present = counts > 0
    values = to_modality_units(stored[present], grey)
    order = np.argsort(values, kind="stable")
    return _Distribution(values[order], counts[present][order], whole_byte)


def is_padding(stored: Pixels, grey: Greyscale) -> NDArray[np.bool_]:
    """Which stored values stand for no picture."""
    if grey.padding is None:
        return np.zeros(stored.shape, dtype=bool)
    low, high = grey.padding
    return (stored >= low) & (stored <= high)


def _show(stored: Values, grey: Greyscale, distribution: Callable[[], _Distribution], steps: list[str]) -> Picture:
    """Stored values -> 8 bits. Padding is black whatever the polarity: it is no part of the picture (C.7.5.1.1.2)."""
    values = to_modality_units(stored, grey, steps)
    fraction = _apply_voi(values, grey, distribution, steps)
    if grey.inverted:
        fraction = 1.0 - fraction
        steps.append("inverted: the lowest value is white (MONOCHROME1, or Presentation LUT Shape INVERSE)")
    shown = np.floor(np.clip(np.nan_to_num(fraction), 0.0, 1.0) * _WHITE + 0.5).astype(np.uint8)
    if grey.padding is not None:
        shown[is_padding(stored, grey)] = 0
        steps.append(f"padding: stored values {grey.padding[0]} to {grey.padding[1]} are black")
    return shown


def to_modality_units(stored: Values, grey: Greyscale, steps: list[str] | None = None) -> Values:
    """Stored values -> modality units (HU for CT); PS3.3 C.11.1."""
    if grey.modality_lut is not None:
        _tell(steps, f"modality LUT of {grey.modality_lut.values.size} entries")
        return _look_up(stored, grey.modality_lut)
    _tell(steps, f"rescale: slope {grey.rescale_slope:g}, intercept {grey.rescale_intercept:g}")
    return stored * grey.rescale_slope + grey.rescale_intercept


def _apply_voi(values: Values, grey: Greyscale, distribution: Callable[[], _Distribution], steps: list[str]) -> Values:
    """Modality units -> 0 (darkest) .. 1 (brightest), before any inversion; PS3.3 C.11.2."""
    if grey.voi_lut is not None:
        steps.append(f"VOI LUT of {grey.voi_lut.values.size} entries, {grey.voi_lut.bits} bits")
        return _look_up(values, grey.voi_lut) / (2.0**grey.voi_lut.bits - 1)
    if grey.window is not None:
        centre, width = grey.window
        steps.append(f"window of the file: centre {centre:g}, width {width:g}, {grey.voi_function}")
        return _window(values, centre, width, function=grey.voi_function)
    if grey.volume_range is not None:
        low, high = grey.volume_range
        steps.append(
            f"no window stored: {low:g} to {high:g}, the range that the header states or percentiles of the volume"
        )
        return (values - low) / _positive(high - low)
    return _fall_back(values, grey, distribution(), steps)


def _fall_back(values: Values, grey: Greyscale, shown: _Distribution, steps: list[str]) -> Values:
    """No window is stored: HU preset for CT, bytes as they are, else the picture's own percentiles."""
    if shown.values.size == 0:
        steps.append("no value is a number: black")
        return np.zeros_like(values)
    if grey.modality == "CT" and shown.values[0] < 0:  # no value below water: these are no Hounsfield units
        centre, width = CT_FALLBACK_WINDOW
        steps.append(f"no window stored: CT preset, centre {centre:g}, width {width:g} HU")
        return _window(values, centre, width, function="LINEAR")
    if is_shown_as_it_is(grey, whole_byte=shown.whole_byte):
        steps.append(f"no window stored: {grey.bits_stored} bits as they are")
        return values / (2.0**grey.bits_stored - 1)
    low, high = (shown.percentile(percent) for percent in FALLBACK_PERCENTILES)
    ends = " and ".join(f"{percent:g}" for percent in FALLBACK_PERCENTILES)
    steps.append(f"no window stored: {low:g} to {high:g}, the percentiles {ends} of the picture")
    return (values - low) / _positive(high - low)


def is_shown_as_it_is(grey: Greyscale, *, whole_byte: bool) -> bool:
    """Up to 8 bits that nothing else is said of are what the device showed (ultrasound, secondary capture)."""
    rescaled = grey.modality_lut is not None or (grey.rescale_slope, grey.rescale_intercept) != (1.0, 0.0)
    return whole_byte and grey.bits_stored <= _BYTE and not rescaled


def _positive(width: float) -> float:
    return max(width, float(np.finfo(np.float64).tiny))


def _window(values: Values, centre: float, width: float, *, function: str) -> Values:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT)."""
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _look_up(values: Values, table: LookupTable) -> Values:
    entries = np.clip(np.nan_to_num(values) - table.first, 0, table.values.size - 1)
    return table.values[entries.astype(np.int64)]


def _tell(steps: list[str] | None, words: str) -> None:
    if steps is not None:
        steps.append(words)
