"""Resizing on the device: what `preprocessing` does with Pillow, as two matrix products a stack of pictures.

Pillow resizes columns and rounds to bytes, then rows likewise (or the other way round), each by weights that depend on
the position only and have 22 bits behind the point (its `Resample.c`). So do the products here, in double precision:
all sums are exact.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from radsearch.models.preprocessing import Plan

_FIXED_POINT = 1 << 22
_BICUBIC_A = -0.5


def resize(stack: torch.Tensor, steps: Plan, interpolation: str) -> torch.Tensor:
    """(n, channels, height, width) float32 of byte values -> (n, channels, rows, columns), likewise."""
    height, width = stack.shape[2:]
    stack = stack[:, :, steps.above : height - steps.above, steps.before : width - steps.before].double()
    height, width = stack.shape[2:]
    columns = _Line(steps.canvas or width, steps.canvas_left, width, steps.width, steps.left, steps.columns)
    rows = _Line(steps.canvas or height, steps.canvas_top, height, steps.height, steps.top, steps.rows)
    for of_rows in (steps.rows_first, not steps.rows_first):
        if of_rows:
            stack = _to_bytes(_weights(rows, interpolation, stack.device) @ stack)
        else:
            stack = _to_bytes(stack @ _weights(columns, interpolation, stack.device).T)
    return stack.float()


def forget() -> None:
    """Give the memory of all weights back to the device."""
    _weights.cache_clear()


def _to_bytes(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of `length` pixels is scaled to `scaled`, of which `kept` from `first` on are wanted.

    All but `held` pixels from `begin` on are black, and are not there.
    """

    length: int
    begin: int
    held: int
    scaled: int
    first: int
    kept: int


@functools.lru_cache(maxsize=64)
def _weights(line: _Line, interpolation: str, device: torch.device) -> torch.Tensor:
    """(kept, held) float64: how much each pixel of a line counts for each of those kept.

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c; a line of the right length stays.
    """
    weigh, reach = _FILTERS[interpolation]
    scale = line.length / line.scaled
    stretch = max(scale, 1.0)
    matrix = np.zeros((line.kept, line.length))
    for row in range(line.kept):
        centre = (line.first + row + 0.5) * scale
        begin = max(0, int(centre - reach * stretch + 0.5))
        end = min(line.length, int(centre + reach * stretch + 0.5))
        weights = np.array([weigh((pixel - centre + 0.5) / stretch) for pixel in range(begin, end)])
        fixed = np.trunc(weights / weights.sum() * _FIXED_POINT + np.copysign(0.5, weights))
        matrix[row, begin:end] = fixed / _FIXED_POINT
    return torch.from_numpy(matrix[:, line.begin : line.begin + line.held].copy()).to(device)


def _bilinear(distance: float) -> float:
    return max(0.0, 1.0 - abs(distance))


def _bicubic(distance: float) -> float:
    """Keys's cubic convolution kernel with a = -0.5."""
    a, x = _BICUBIC_A, abs(distance)
    if x < 1:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0  # noqa: PLR2004 -- the kernel's reach


_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {"bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0)}
