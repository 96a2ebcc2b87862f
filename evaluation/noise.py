"""Pictures that show nothing: what an archive has to refuse."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from radsearch.study import Picture

_SIDE = 256  # pixels
_LINE = 14  # pixels from one line of text to the next
_LETTERS = 40  # a line


def noise_pictures(count: int, *, seed: int = 0) -> dict[str, list[Picture]]:
    """By kind `count` grey pictures of 256 x 256 pixels, the same whenever they are asked for.

    Args:
        count: of each kind.
        seed: of all that is drawn.
    """
    draw = np.random.default_rng(seed)
    return {name: [make(draw) for _ in range(count)] for name, make in _KINDS.items()}


def _white(draw: np.random.Generator) -> Picture:
    return draw.integers(0, 256, (_SIDE, _SIDE), dtype=np.uint8)


def _smooth(draw: np.random.Generator) -> Picture:
    coarse = Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8))
    return np.array(coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def _flat(draw: np.random.Generator) -> Picture:
    return np.full((_SIDE, _SIDE), draw.integers(1, 256), np.uint8)


def _stripes(draw: np.random.Generator) -> Picture:
    wave = 127 + 120 * np.sin(np.arange(_SIDE) * draw.uniform(0.02, 0.5))
    return np.tile(wave.astype(np.uint8), (_SIDE, 1))


def _shuffled(draw: np.random.Generator) -> Picture:
    """Much black, some grey, little white, as in a radiograph, and every pixel somewhere else."""
    values = 255 * (_smooth(draw) / 255.0) ** draw.uniform(1, 3)
    return draw.permuted(values.astype(np.uint8).ravel()).reshape(_SIDE, _SIDE)


def _text(draw: np.random.Generator) -> Picture:
    page = Image.new("L", (_SIDE, _SIDE), 255)
    pen = ImageDraw.Draw(page)
    for top in range(0, _SIDE, _LINE):
        pen.text((4, top), "".join(map(chr, draw.integers(97, 123, _LETTERS).tolist())), fill=0)
    return np.array(page)


_KINDS: Mapping[str, Callable[[np.random.Generator], Picture]] = {
    "white": _white, "smooth": _smooth, "flat": _flat, "stripes": _stripes, "shuffled": _shuffled, "text": _text,
}  # fmt: skip
