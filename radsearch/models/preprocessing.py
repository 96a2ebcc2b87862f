"""A picture -> the square that a model looks at. Needs no torch, so that worker processes start fast."""

import numpy as np
from PIL import Image

from radsearch.models.table import Preprocessing
from radsearch.study import Picture

_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def prepare(picture: Picture, how: Preprocessing) -> Picture:
    """Resize to (size, size) grey or (size, size, 3) RGB, uint8. Grey stays one channel: the model gets it thrice."""
    image = Image.fromarray(picture)
    interpolation = _INTERPOLATIONS[how.interpolation]
    if how.resize == "squash":
        return np.asarray(image.resize((how.size, how.size), interpolation))
    scale = how.shortest_side / min(image.size)
    width, height = (max(how.size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), interpolation)
    left, top = round((width - how.size) / 2), round((height - how.size) / 2)
    return np.asarray(resized.crop((left, top, left + how.size, top + how.size)))
