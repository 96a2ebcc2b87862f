"""A picture -> what a model looks at, by Pillow. Needs no torch, so that worker processes start fast."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from radsearch.errors import UnreadableImageError
from radsearch.models.spec import Preprocessing
from radsearch.study import Picture

_LONGEST_TO_SHORTEST = 100
_LARGEST_CANVAS = 1 << 14
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to a picture of one shape, in pixels.

    above, before: what is cut off at either end first, of a picture so long that a centre crop never sees it.
    canvas: side of the black square that it is put into then, and where; 0 for none.
    height, width: what it is scaled to. top, left, rows, columns: the part of that which is kept.
    rows_first: rows are resized before columns, not after them; the bytes depend on it.
    """

    height: int
    width: int
    rows: int
    columns: int
    top: int = 0
    left: int = 0
    above: int = 0
    before: int = 0
    canvas: int = 0
    canvas_top: int = 0
    canvas_left: int = 0
    rows_first: bool = False


def plan(height: int, width: int, how: Preprocessing) -> Plan:
    """The plan for a picture of that height and width.

    Sources: torchvision's `Resize` and `CenterCrop`, transformers' `center_crop` and SAM's `get_preprocess_shape`; for
    the order Pillow 13, which takes the rows first where their number shrinks by twice as much as that of the columns.

    Raises:
        UnreadableImageError: `square` would need a canvas beyond all measure.
    """
    steps = _steps(height, width, how)
    height, width = height - 2 * steps.above, width - 2 * steps.before
    fewer_rows, fewer_columns = (steps.canvas or height) - steps.height, (steps.canvas or width) - steps.width
    return replace(steps, rows_first=fewer_rows > max(0, 2 * fewer_columns))


def _steps(height: int, width: int, how: Preprocessing) -> Plan:
    size = how.size
    if how.resize == "square":
        side = max(size, height, width)
        if side > _LARGEST_CANVAS:
            raise UnreadableImageError(f"longer than {_LARGEST_CANVAS} pixels: too long to be put into a square")
        top, left = (side - height) // 2, (side - width) // 2
        return Plan(size, size, size, size, canvas=side, canvas_top=top, canvas_left=left)
    if how.resize == "longest":
        scale = size / max(height, width)
        rows, columns = (max(1, int(length * scale + 0.5)) for length in (height, width))
        return Plan(rows, columns, rows, columns)
    if how.resize == "shortest":
        shorter = min(height, width)
        above, before = (max(0, length - _LONGEST_TO_SHORTEST * shorter) // 2 for length in (height, width))
        rows, columns = (
            how.shortest_side if length == shorter else int(how.shortest_side * length / shorter)
            for length in (height - 2 * above, width - 2 * before)
        )
        return Plan(rows, columns, size, size, _corner(rows, how), _corner(columns, how), above, before)
    return Plan(size, size, size, size)


def prepare(picture: Picture, how: Preprocessing) -> Picture:
    """Resize to (size, size) grey or (size, size, 3) RGB, uint8; with `longest` the shorter side stays shorter.

    Grey stays one channel: the model gets it thrice. In two calls, so that every version of Pillow keeps to the order.

    Raises:
        UnreadableImageError: as `plan`.
    """
    height, width = picture.shape[:2]
    steps = plan(height, width, how)
    image = Image.fromarray(picture[steps.above : height - steps.above, steps.before : width - steps.before])
    if steps.canvas:
        canvas = Image.new(image.mode, (steps.canvas, steps.canvas))
        canvas.paste(image, (steps.canvas_left, steps.canvas_top))
        image = canvas
    kernel = _INTERPOLATIONS[how.interpolation]
    for of_rows in (steps.rows_first, not steps.rows_first):
        if of_rows:
            image = image.resize((image.width, steps.height), kernel)
            image = image.crop((0, steps.top, image.width, steps.top + steps.rows))
        else:
            image = image.resize((steps.width, image.height), kernel)
            image = image.crop((steps.left, 0, steps.left + steps.columns, image.height))
    return np.asarray(image)


def _corner(length: int, how: Preprocessing) -> int:
    margin = length - how.size
    return margin // 2 if how.crop == "floor" else round(margin / 2)
