"""Find text in a rendered picture, and blank it (docs/rendering.md has how well it does)."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from radsearch.rendering.tesseract import Word, read_words
from radsearch.study import Box, Picture

BLANKING_VERSION = 2  # part of the fingerprint where text is blanked: raise it with any change of what is

_LEAST_SIDE = 8  # pixels: no text is legible in less
_USUAL_GROWTH, _LARGEST_GROWTH = 2, 4.0
_LEAST_LONG_SIDE, _LARGEST_LONG_SIDE = 1024, 2048  # pixels of what Tesseract looks at
_BORDER = 20  # pixels around it: letters at the very edge are not read without
_WHITE = 255
_GREY_AXES = 2
_STROKE = 3  # pixels: half the width of the widest strokes that are told apart from what they are laid over
_NOISE, _GAIN = 16, 2  # grey levels taken off what is left where the ground is taken away, and how the rest is enlarged

# Confidence and number of letters of a word that is believed by itself; what lies in a line with one is so in any case.
_SURE = ((85.0, 3), (60.0, 4), (45.0, 5), (30.0, 7))
_LEAST_HEIGHT, _LARGEST_SHARE = 3.0, 0.2  # of a letter, in pixels and of the picture's longer side
_LARGEST_GAP = 3.0  # between two words of a line, in heights of the one that was believed by itself
_SLACK = 0.5  # how far a word may reach out of that one's line, likewise
_LEAST_RATIO = 0.3  # how high it is at least, likewise
_MARGIN_UP, _MARGIN_ASIDE = 0.4, 2.0  # of a word's height, around it: the letters that were not read
_LEAST_MARGIN = 2  # pixels
_KEPT = 8


def find_text(picture: Picture) -> tuple[Box, ...]:
    """Where text is in a picture as rendered, with a margin around it.

    Raises:
        UnreadableImageError: Tesseract does not run, fails or takes too long.
    """
    if min(picture.shape[:2]) < _LEAST_SIDE:
        return ()
    key = picture.shape, hashlib.sha256(np.ascontiguousarray(picture).data).digest()
    with _lock:
        found = _kept.get(key)
    if found is None:
        found = _found(picture)
    with _lock:
        _kept[key] = found
        _kept.move_to_end(key)
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    return found


# The page draws the same frame again and again. Places are kept, not pictures: of those eight may take a gigabyte.
_kept: OrderedDict[tuple[tuple[int, ...], bytes], tuple[Box, ...]] = OrderedDict()
_lock = threading.Lock()


def _found(picture: Picture) -> tuple[Box, ...]:
    grey = picture if picture.ndim == _GREY_AXES else picture.max(axis=2)  # so that blue on black is light on dark
    largest = min(_LARGEST_LONG_SIDE, max(_LEAST_LONG_SIDE, _USUAL_GROWTH * max(grey.shape)))
    words = [word for view, part in _VIEWS for word in _words(grey, view, largest // part)]
    rows, columns = grey.shape
    return tuple(_with_margin(word, rows, columns) for word in _believed(words, max(rows, columns)))


def blank(picture: Picture, places: Sequence[Box]) -> tuple[Picture, float]:
    """The picture with these places black, and their share of it, from 0 to 1."""
    covered = np.zeros(picture.shape[:2], dtype=bool)
    for top, left, bottom, right in places:
        covered[top:bottom, left:right] = True
    blanked = picture.copy()
    blanked[covered] = 0
    return blanked, float(covered.mean())


def _words(grey: Picture, view: Callable[[Picture], Picture], long_side: int) -> list[Word]:
    """What Tesseract sees in a view of a picture whose longer side is then so long, in the picture's own pixels."""
    growth = min(_LARGEST_GROWTH, long_side / max(grey.shape))
    seen = _resized(view(_resized(grey, min(growth, 1.0))), max(growth, 1.0))
    words = read_words(np.pad(seen, _BORDER, mode="edge"))
    return [word.moved(-_BORDER).scaled(1 / growth) for word in words]


def _resized(picture: Picture, factor: float) -> Picture:
    if factor == 1:
        return picture
    rows, columns = (max(1, round(side * factor)) for side in picture.shape)
    return np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BICUBIC))


def _believed(words: Sequence[Word], long_side: int) -> list[Word]:
    """The words that Tesseract is sure of, and what lies in a line with them."""
    letters = [word for word in words if _LEAST_HEIGHT <= word.height <= _LARGEST_SHARE * long_side]
    believed = [word for word in letters if _is_sure(word)]
    reached = [(word, word) for word in believed]
    rest = [word for word in letters if not _is_sure(word)]
    for end, first in reached:  # which grows meanwhile
        beside = [word for word in rest if _continues(word, end, first)]
        reached.extend((word, first) for word in beside)
        rest = [word for word in rest if word not in beside]
    return [word for word, _ in reached]


def _is_sure(word: Word) -> bool:
    return any(word.confidence >= confidence and word.letters >= letters for confidence, letters in _SURE)


def _continues(word: Word, end: Word, first: Word) -> bool:
    """Whether a word lies beside the end of a line that begins with `first`."""
    height = first.height
    gap = max(word.left, end.left) - min(word.left + word.width, end.left + end.width)
    above, below = first.top - word.top, (word.top + word.height) - (first.top + height)
    return (
        max(above, below) <= _SLACK * height and word.height >= _LEAST_RATIO * height and gap <= _LARGEST_GAP * height
    )


def _with_margin(word: Word, rows: int, columns: int) -> Box:
    up, aside = (max(_LEAST_MARGIN, share * word.height) for share in (_MARGIN_UP, _MARGIN_ASIDE))
    top, left = max(0, int(word.top - up)), max(0, int(word.left - aside))
    bottom = min(rows, int(np.ceil(word.top + word.height + up)))
    right = min(columns, int(np.ceil(word.left + word.width + aside)))
    return top, left, bottom, right


def _as_it_is(picture: Picture) -> Picture:
    return picture


def _strokes(picture: Picture) -> Picture:
    """Dark on white: thin light strokes without the ground they are laid over (a white top-hat)."""
    width = 2 * _STROKE + 1
    eroded = Image.fromarray(picture).filter(ImageFilter.MinFilter(width))
    ground = np.minimum(np.asarray(eroded.filter(ImageFilter.MaxFilter(width))), picture)
    height = np.maximum((picture - ground).astype(np.int16) - _NOISE, 0) * _GAIN
    strokes: Picture = (_WHITE - np.minimum(height, _WHITE)).astype(np.uint8)
    return strokes


def _dark_strokes(picture: Picture) -> Picture:
    return _strokes(_WHITE - picture)


# What Tesseract looks at, and by what its longer side is divided then: small letters want a large picture, large ones
# a small one. Light text is found by its strokes; dark text, and what is white on black, as it is or by its strokes.
_VIEWS: tuple[tuple[Callable[[Picture], Picture], int], ...] = (
    (_as_it_is, 1),
    (_strokes, 1),
    (_dark_strokes, 1),
    (_as_it_is, 2),
    (_strokes, 2),
)
