"""The contact sheet: each query beside its hits, with scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from radsearch.study import Picture

_TILE, _GAP, _CAPTION, _TITLE = 190, 10, 36, 28
_BACKGROUND, _INK, _FRAME = "#14161a", "#e6e6e6", "#f2b134"
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A picture and the two lines under it."""

    picture: Picture
    first_line: str
    second_line: str


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A query and its hits."""

    title: str
    query: Tile
    hits: Sequence[Tile]


def draw_sheet(rows: Sequence[Row], path: Path) -> None:
    """Write the sheet as PNG: a row a search, the query first, in a yellow frame."""
    columns = 1 + max(len(row.hits) for row in rows)
    height = _TITLE + _TILE + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * (_TILE + _GAP) + _GAP, len(rows) * height + _GAP), _BACKGROUND)
    for number, row in enumerate(rows):
        top = number * height + _GAP
        ImageDraw.Draw(sheet).text((_GAP, top), row.title, _INK, ImageFont.load_default(16))
        for column, tile in enumerate((row.query, *row.hits)):
            _paste(sheet, tile, (column * (_TILE + _GAP) + _GAP, top + _TITLE), framed=column == 0)
    sheet.save(path)


def _paste(sheet: Image.Image, tile: Tile, corner: tuple[int, int], *, framed: bool) -> None:
    left, top = corner
    picture = Image.fromarray(tile.picture).convert("RGB")
    picture.thumbnail((_TILE, _TILE))
    middle = (left + (_TILE - picture.width) // 2, top + (_TILE - picture.height) // 2)
    sheet.paste(picture, middle)
    pen = ImageDraw.Draw(sheet)
    if framed:
        pen.rectangle((left - 2, top - 2, left + _TILE + 1, top + _TILE + 1), outline=_FRAME, width=2)
    font = ImageFont.load_default(13)
    for line, text in enumerate((tile.first_line, tile.second_line)):
        pen.text((left, top + _TILE + 2 + line * 16), _fitted(text, font), _INK, font)


def _fitted(text: str, font: "ImageFont.ImageFont | ImageFont.FreeTypeFont") -> str:
    while len(text) > 1 and font.getlength(text) > _TILE:
        text = text.removesuffix(_ELLIPSIS)[:-1] + _ELLIPSIS
    return text
