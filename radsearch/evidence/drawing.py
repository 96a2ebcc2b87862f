"""Evidence as a picture: a heat over the grey picture, and the patches that match as numbered frames."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from radsearch.evidence.placing import Placing
from radsearch.study import Picture, Vectors

LONGEST_SIDE = 640  # pixels of an overlay: a map has 7 to 64 patches a side
_STRONGEST = 0.65  # opacity of the highest value
_GAP, _LEGEND = 12, 34
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
# Nine colours of viridis, evenly spaced (Smith and van der Walt, 2015, CC0): its lightness rises evenly, so that it is
# read right in grey and by who is blind to red or green.
_VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip


def colours_of(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Values from 0 to 1 -> (..., 3) RGB from 0 to 255."""
    anchors = np.array(_VIRIDIS, dtype=np.float64)
    places = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(values, places, anchors[:, channel]) for channel in range(3)], axis=-1)


def grey_of(picture: Picture) -> Image.Image:
    """A rendered picture in grey, to be looked at beside another: colours of its own would be taken for heat."""
    image = Image.fromarray(picture).convert("L")
    scale = LONGEST_SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def overlay(picture: Picture, values: Vectors, placing: Placing, highest: float) -> Image.Image:
    """The heat of a map over its picture.

    Args:
        picture: as rendered.
        values: (rows, columns), what each patch adds to the cosine; what takes away from it is not drawn.
        placing: the map's on the picture.
        highest: the value with the last colour, the same for both pictures of a pair.

    Returns:
        RGB, its longest side 640 pixels; grey alone where the model saw nothing.
    """
    grey = grey_of(picture)
    heat = placing.spread(values, grey.height, grey.width)
    heat = np.clip(np.nan_to_num(heat, nan=0.0) / highest, 0.0, 1.0) if highest > 0 else np.zeros_like(heat)
    opacity = (_STRONGEST * heat)[..., None]
    base = np.asarray(grey, dtype=np.float64)[..., None]
    mixed = base * (1 - opacity) + colours_of(heat) * opacity
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def frame_patches(image: Image.Image, places: Sequence[tuple[int, int]], placing: Placing, picture: Picture) -> None:
    """Frame patches on a drawn picture and number them from 1."""
    scale = image.width / picture.shape[1], image.height / picture.shape[0]
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=18)
    for number, place in enumerate(places, 1):
        left, top, right, bottom = placing.box(place)
        box = left * scale[0], top * scale[1], max(right * scale[0] - 1, left), max(bottom * scale[1] - 1, top)
        draw.rectangle(box, outline=_BLACK, width=4)
        draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline=_WHITE, width=2)
        at = box[0] + 6, box[1] + 3
        draw.text(at, str(number), fill=_WHITE, font=font, stroke_width=2, stroke_fill=_BLACK)


def side_by_side(query: Image.Image, hit: Image.Image, highest: float) -> Image.Image:
    """Both on one sheet, the query left, with what the colours mean below."""
    size = query.width + _GAP + hit.width, max(query.height, hit.height) + _LEGEND
    sheet = Image.new("RGB", size)
    sheet.paste(query, (0, 0))
    sheet.paste(hit, (query.width + _GAP, 0))
    _explain(sheet, highest)
    return sheet


def _explain(sheet: Image.Image, highest: float) -> None:
    font, top = ImageFont.load_default(size=14), sheet.height - _LEGEND + 9
    draw = ImageDraw.Draw(sheet)
    words = "left the query, right the hit; a patch adds to the cosine: 0"
    draw.text((4, top), words, fill=_WHITE, font=font)
    left = 12 + round(draw.textlength(words, font=font))
    ramp = np.broadcast_to(colours_of(np.linspace(0, 1, 120)), (16, 120, 3))
    sheet.paste(Image.fromarray(np.rint(ramp).astype(np.uint8)), (left, top))
    draw.text((left + 128, top), f"{highest:.4f}", fill=_WHITE, font=font)
