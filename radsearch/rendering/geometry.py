"""Cut a frame to what shows the body, and give its picture square pixels."""

import numpy as np
from PIL import Image

from radsearch.study import Geometry, Picture, Pixels

_SQUARE_ENOUGH = 0.01  # an aspect within 1 % of 1 is left alone
_LARGEST_PICTURE = 64_000_000  # pixels: a picture that would grow beyond is made square by shrinking instead
_LEAST_KEPT = 0.25  # of the frame: where cutting borders off would leave less, the frame is left as it is
_EMPTY_SHARE = 1 / 256  # of the frame's highest value: what is at most so bright in a border is taken for zero


def cut(pixels: Pixels, geometry: Geometry, padding: tuple[int, int] | None, steps: list[str]) -> Pixels:
    """The part of a frame that is shown: its crop, without empty borders."""
    if geometry.crop is not None:
        top, left, bottom, right = geometry.crop
        pixels = pixels[top:bottom, left:right]
        steps.append(f"cut to rows {top}-{bottom - 1}, columns {left}-{right - 1}: {geometry.crop_reason}")
    if not geometry.empty_borders:
        return pixels
    rows, columns = pixels.shape[:2]
    top, left, bottom, right = _filled_box(pixels, padding)
    kept = (bottom - top) * (right - left)
    if kept == rows * columns or kept < _LEAST_KEPT * rows * columns:
        return pixels
    steps.append(f"cut to rows {top}-{bottom - 1}, columns {left}-{right - 1}: empty borders")
    return pixels[top:bottom, left:right]


def _filled_box(pixels: Pixels, padding: tuple[int, int] | None) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) around all that is neither padding nor, of unsigned values, zero."""
    empty = np.zeros(pixels.shape, dtype=bool)
    if padding is not None:
        empty |= (pixels >= padding[0]) & (pixels <= padding[1])
    if pixels.dtype.kind == "u":
        empty |= pixels <= int(float(pixels.max(initial=0)) * _EMPTY_SHARE)
    filled = ~empty.reshape(*pixels.shape[:2], -1).all(axis=2)
    rows, columns = np.flatnonzero(np.any(filled, axis=1)), np.flatnonzero(np.any(filled, axis=0))
    if rows.size == 0:
        return 0, 0, pixels.shape[0], pixels.shape[1]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def with_square_pixels(picture: Picture, pixel_aspect: float, steps: list[str]) -> Picture:
    """Stretch the coarser axis, so that a millimetre is as long in both.

    Args:
        picture: (rows, columns) or (rows, columns, 3) uint8.
        pixel_aspect: height of a pixel by its width.
        steps: takes a sentence.
    """
    if abs(pixel_aspect - 1) <= _SQUARE_ENOUGH:
        return picture
    rows, columns = picture.shape[:2]
    grow = max(pixel_aspect, 1 / pixel_aspect) * rows * columns <= _LARGEST_PICTURE
    if (pixel_aspect > 1) == grow:
        size = columns, max(1, round(rows * pixel_aspect))
    else:
        size = max(1, round(columns / pixel_aspect)), rows
    steps.append(f"pixels {pixel_aspect:.3g} times as high as wide: resized to {size[0]} x {size[1]}")
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
