"""A picture -> what a model looks at, by Pillow. Needs no torch, so that worker processes start fast."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from radsearch.models.spec import Preprocessing
from radsearch.study import Picture

_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to a picture of one shape, in pixels.

    canvas: side of the black square that it is put into first, and where; 0 for none.
    height, width: what it is scaled to. top, left, rows, columns: the part of that which is kept.
    """

    canvas: int
    canvas_top: int
    canvas_left: int
    height: int
    width: int
    top: int
    left: int
    rows: int
    columns: int


def plan(height: int, width: int, how: Preprocessing) -> Plan:
    """The plan for a picture of that height and width.

    Sources: torchvision's `Resize` and `CenterCrop`, transformers' `center_crop` and SAM's `get_preprocess_shape`.
    """
    size = how.size
    if how.resize == "square":
        side = max(size, height, width)
        return Plan(side, (side - height) // 2, (side - width) // 2, size, size, 0, 0, size, size)
    if how.resize == "longest":
        scale = size / max(height, width)
        rows, columns = (max(1, int(length * scale + 0.5)) for length in (height, width))
        return Plan(0, 0, 0, rows, columns, 0, 0, rows, columns)
    if how.resize == "shortest":
        shorter = min(height, width)
        rows, columns = (
            how.shortest_side if length == shorter else int(how.shortest_side * length / shorter)
            for length in (height, width)
        )
        return Plan(0, 0, 0, rows, columns, _corner(rows, how), _corner(columns, how), size, size)
    return Plan(0, 0, 0, size, size, 0, 0, size, size)


def prepare(picture: Picture, how: Preprocessing) -> Picture:
    """Resize to (size, size) grey or (size, size, 3) RGB, uint8; with `longest` the shorter side stays shorter.

    Grey stays one channel: the model gets it thrice.
    """
    steps = plan(picture.shape[0], picture.shape[1], how)
    image = Image.fromarray(picture)
    if steps.canvas:
        canvas = Image.new(image.mode, (steps.canvas, steps.canvas))
        canvas.paste(image, (steps.canvas_left, steps.canvas_top))
        image = canvas
    resized = image.resize((steps.width, steps.height), _INTERPOLATIONS[how.interpolation])
    box = (steps.left, steps.top, steps.left + steps.columns, steps.top + steps.rows)
    return np.asarray(resized.crop(box))


def _corner(length: int, how: Preprocessing) -> int:
    margin = length - how.size
    return margin // 2 if how.crop == "floor" else round(margin / 2)
