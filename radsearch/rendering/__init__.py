"""Render stored pixel values as the 8-bit picture that models and people see (docs/rendering.md).

The order is: cut to what shows the body, then the grey values of PS3.3 C.11 and C.7.6.3 (modality LUT or rescale, VOI
LUT or window or a stated fallback, inversion, 8 bits), then square pixels, then what is done about burned-in text.
"""

from dataclasses import dataclass

import numpy as np

from radsearch.rendering.burned_in import SHOW_ALL, TextPolicy, text_policy_of, without_text
from radsearch.rendering.geometry import cut, with_square_pixels
from radsearch.rendering.greyscale import show_grey
from radsearch.study import Picture, Pixels, StudyImage

__all__ = ["RENDERING_VERSION", "SHOW_ALL", "Rendered", "TextPolicy", "render", "render_with_steps", "text_policy_of"]

RENDERING_VERSION = 2  # part of every model's fingerprint: raise it with any change of what comes out

_BYTE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A picture, and the steps that led to it, a sentence each."""

    picture: Picture
    steps: tuple[str, ...]


def render(image: StudyImage, policy: TextPolicy = SHOW_ALL) -> Picture:
    """The picture of one frame: (rows, columns) grey or (rows, columns, 3) RGB, uint8, with square pixels.

    Args:
        image: the frame as it was read.
        policy: what is done about text that may be burned in. All that takes in, searches by or shows somebody's files
            gives the settings' own (`text_policy_of`).

    Raises:
        UnreadableImageError: the policy refuses it; or text cannot be looked for in it.
    """
    return render_with_steps(image, policy).picture


def render_with_steps(image: StudyImage, policy: TextPolicy = SHOW_ALL) -> Rendered:
    """As `render`, with the steps that it took."""
    policy.admit(image.text_risk)
    steps = _how_it_was_read(image)
    padding = image.greyscale.padding if image.greyscale else None
    with np.errstate(all="ignore"):  # huge values end at one end of the grey scale
        pixels = cut(image.pixels, image.geometry, padding, steps)
        if image.greyscale is None:
            picture = _colour_to_bytes(pixels, image.bits, steps)
        else:
            picture = show_grey(pixels, image.greyscale, steps)
    picture = without_text(with_square_pixels(picture, image.geometry.pixel_aspect, steps), image, policy, steps)
    return Rendered(picture, tuple(steps))


def _how_it_was_read(image: StudyImage) -> list[str]:
    rows, columns = image.pixels.shape[:2]
    sign = {"i": "signed", "u": "unsigned"}.get(image.pixels.dtype.kind, "float")
    stored = f"{sign}, {image.bits} of {image.pixels.dtype.itemsize * 8} bits"
    return [
        f"read: {image.encoding or 'pixels'}, frame {image.frame} of {image.frames}",
        f"pixels: {columns} x {rows}, {stored}",
    ]


def _colour_to_bytes(pixels: Pixels, bits: int, steps: list[str]) -> Picture:
    """Keep the highest 8 of `bits`; fewer fill the range."""
    if bits == _BYTE:
        steps.append("colour: RGB as it is")
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    steps.append(f"colour: {bits} bits to 8")
    shifted = np.right_shift(pixels, bits - _BYTE) if bits > _BYTE else np.left_shift(pixels, _BYTE - bits)
    return np.ascontiguousarray(shifted, dtype=np.uint8)
