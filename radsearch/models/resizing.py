"""Resizing on the device: what `preprocessing` does with Pillow, as two matrix products a stack of pictures.

Pillow resizes columns, rounds to bytes, resizes rows and rounds again, each by weights that depend on the position only
and have 22 bits behind the point (its `Resample.c`). So do the products here, in double precision: all sums are exact.
Pillow 13 resizes the rows of some tall pictures first: there the bytes differ from these (open: issue 4's note).
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
    stack = stack.double()
    if steps.canvas:
        canvas = stack.new_zeros((*stack.shape[:2], steps.canvas, steps.canvas))
        top, left = steps.canvas_top, steps.canvas_left
        canvas[:, :, top : top + stack.shape[2], left : left + stack.shape[3]] = stack
        stack = canvas
    height, width = stack.shape[2:]
    across = _weights(_Line(width, steps.width, steps.left, steps.columns), interpolation, stack.device)
    down = _weights(_Line(height, steps.height, steps.top, steps.rows), interpolation, stack.device)
    if across is not None:
        stack = _to_bytes(stack @ across.T)
    if down is not None:
        stack = _to_bytes(down @ stack)
    top, left = steps.top if down is None else 0, steps.left if across is None else 0
    return stack[:, :, top : top + steps.rows, left : left + steps.columns].float()


def _to_bytes(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of `length` pixels is scaled to `scaled`, of which `kept` from `first` on are wanted."""

    length: int
    scaled: int
    first: int
    kept: int


@functools.lru_cache(maxsize=256)
def _weights(line: _Line, interpolation: str, device: torch.device) -> torch.Tensor | None:
    """(kept, length) float64: how much each pixel of a line counts for each of those kept; None for no change.

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c.
    """
    if line.length == line.scaled:
        return None
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
    return torch.from_numpy(matrix).to(device)


def _bilinear(distance: float) -> float:
    return max(0.0, 1.0 - abs(distance))


def _bicubic(distance: float) -> float:
    """Keys's cubic convolution kernel with a = -0.5."""
    a, x = _BICUBIC_A, abs(distance)
    if x < 1:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0  # noqa: PLR2004 -- the kernel's reach


_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {"bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0)}
