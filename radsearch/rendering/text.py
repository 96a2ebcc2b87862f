"""Find text in a rendered picture, and blank it (docs/rendering.md has how well it does)."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from radsearch.rendering.tesseract import Word, read_words
from radsearch.study import Box, Picture

BLANKING_VERSION = 1  # part of the fingerprint where text is blanked: raise it with any change of what is

_LEAST_SIDE = 8  # pixels: no text is legible in less
_LARGEST_GROWTH = 4.0
_LONG_SIDES = (1024, 512)  # pixels that the longer side is brought to, so that small and large letters are read
_STROKE = 3  # pixels: half the width of the widest strokes that are told apart from what they are laid over
_GAIN = 2  # of what is left where the ground is taken away

# A word is believed by itself where Tesseract is this sure of so many letters; by a believed one beside it in any case.
_SURE, _LETTERS = 50.0, 4
_LEAST_HEIGHT, _LARGEST_SHARE = 3.0, 0.2  # of a letter, in pixels and of the picture's height
_LARGEST_GAP = 3.0  # between two words of a line, in heights of the taller
_LEAST_OVERLAP = 0.3  # of their heights
_LARGEST_RATIO = 3.0
_MARGIN_UP, _MARGIN_ASIDE = 0.4, 1.0  # of a word's height, around it: the letters that were not read
_LEAST_MARGIN = 2  # pixels
_KEPT = 64


def find_text(picture: Picture) -> tuple[Box, ...]:
    """Where text is in a picture as rendered, with a margin around it.

    Raises:
        UnreadableImageError: Tesseract does not run, fails or takes too long.
    """
    if min(picture.shape[:2]) < _LEAST_SIDE:
        return ()
    return _found(picture.tobytes(), picture.shape)


@functools.lru_cache(maxsize=_KEPT)  # the page draws the same frame again and again
def _found(content: bytes, shape: tuple[int, ...]) -> tuple[Box, ...]:
    picture = np.frombuffer(content, np.uint8).reshape(shape)
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    words = [word for view, long_side in _VIEWS for word in _words(view(grey), long_side)]
    rows, columns = grey.shape
    return tuple(_with_margin(word, rows, columns) for word in _believed(words, rows))


def blank(picture: Picture, places: Sequence[Box]) -> tuple[Picture, float]:
    """The picture with these places black, and their share of it, from 0 to 1."""
    covered = np.zeros(picture.shape[:2], dtype=bool)
    for top, left, bottom, right in places:
        covered[top:bottom, left:right] = True
    blanked = picture.copy()
    blanked[covered] = 0
    return blanked, float(covered.mean())


def _words(view: Picture, long_side: int) -> list[Word]:
    rows, columns = view.shape
    growth = min(_LARGEST_GROWTH, long_side / max(rows, columns))
    size = max(1, round(columns * growth)), max(1, round(rows * growth))
    grown = np.asarray(Image.fromarray(view).resize(size, Image.Resampling.BICUBIC))
    return [word.scaled(1 / growth) for word in read_words(grown)]


def _believed(words: Sequence[Word], rows: int) -> list[Word]:
    """The words that Tesseract is sure of, and what lies in a line with them."""
    letters = [word for word in words if _LEAST_HEIGHT <= word.height <= _LARGEST_SHARE * rows]
    believed = [word for word in letters if word.confidence >= _SURE and word.letters >= _LETTERS]
    rest = [word for word in letters if word not in believed]
    for one in believed:  # which grows meanwhile
        beside = [other for other in rest if _in_line(one, other)]
        believed.extend(beside)
        rest = [other for other in rest if other not in beside]
    return believed


def _in_line(one: Word, other: Word) -> bool:
    low, high = sorted((one.height, other.height))
    overlap = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    gap = max(one.left, other.left) - min(one.left + one.width, other.left + other.width)
    return overlap >= _LEAST_OVERLAP * low and gap <= _LARGEST_GAP * high and high <= _LARGEST_RATIO * low


def _with_margin(word: Word, rows: int, columns: int) -> Box:
    up, aside = (max(_LEAST_MARGIN, share * word.height) for share in (_MARGIN_UP, _MARGIN_ASIDE))
    top, left = max(0, int(word.top - up)), max(0, int(word.left - aside))
    bottom = min(rows, int(np.ceil(word.top + word.height + up)))
    right = min(columns, int(np.ceil(word.left + word.width + aside)))
    return top, left, bottom, right


def _dark_on_light(picture: Picture) -> Picture:
    return picture


def _strokes(picture: Picture) -> Picture:
    """Dark on white: thin light strokes without the ground they are laid over (a white top-hat)."""
    width = 2 * _STROKE + 1
    eroded = Image.fromarray(picture).filter(ImageFilter.MinFilter(width))
    ground = np.minimum(np.asarray(eroded.filter(ImageFilter.MaxFilter(width))), picture)
    height = (picture - ground).astype(np.uint16) * _GAIN
    strokes: Picture = (255 - np.minimum(height, 255)).astype(np.uint8)
    return strokes


def _dark_strokes(picture: Picture) -> Picture:
    return _strokes(255 - picture)


# What Tesseract looks at, and how long the longer side is then.
_VIEWS: tuple[tuple[Callable[[Picture], Picture], int], ...] = tuple(
    (view, long_side) for long_side in _LONG_SIDES for view in (_dark_on_light, _strokes, _dark_strokes)
)
