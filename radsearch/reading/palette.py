"""PALETTE COLOR frames -> RGB: the three tables of a header, plain or segmented (PS3.3 C.7.6.3.1.5, C.7.9.2)."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from radsearch.errors import UnreadableImageError
from radsearch.reading.elements import whole_number_of
from radsearch.reading.opening import is_little_endian
from radsearch.study import Pixels

COLOURS = ("Red", "Green", "Blue")
PALETTE_TAGS = tuple(
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in COLOURS
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)

_BYTE = 8
_WHOLE_16_BITS = 1 << 16
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """first: pixel value of the first entry; lower values take it too, higher ones than the table the last.

    colours: (entries, 3) uint8 or uint16.
    """

    first: int
    colours: Pixels

    def look_up(self, pixels: Pixels) -> Pixels:
        """(rows, columns) pixel values -> (rows, columns, 3) of as many bits as the table has."""
        entries = np.clip(pixels.astype(np.int64) - self.first, 0, len(self.colours) - 1)
        return self.colours[entries]


def read_palette(header: Dataset) -> Palette:
    """The palette of a header.

    Raises:
        UnreadableImageError: a table is missing or shorter than its descriptor says.
        Exception: whatever pydicom raises on damaged elements.
    """
    tables, first = [], 0
    for colour in COLOURS:
        entries, first, bits = (int(number) for number in header[f"{colour}PaletteColorLookupTableDescriptor"].value)
        tables.append(_table(header, colour, entries % _WHOLE_16_BITS or _WHOLE_16_BITS, bits))
    if first >= _WHOLE_16_BITS // 2 and whole_number_of(header, "PixelRepresentation") == 1:
        first -= _WHOLE_16_BITS
    if len({table.size for table in tables}) != 1:
        raise UnreadableImageError("damaged header")
    colours = np.stack(tables, axis=-1)
    # Entries of 8 bits in words of 16, as old files have them (C.7.6.3.1.6, note): the bytes that they are.
    narrow = colours.dtype.itemsize > 1 and colours.max() <= np.iinfo(np.uint8).max
    return Palette(first, colours.astype(np.uint8) if narrow else colours)


def _table(header: Dataset, colour: str, entries: int, bits: int) -> Pixels:
    """One table, in words where it has as many: the depth that a descriptor states is not always the real one."""
    keyword = f"{colour}PaletteColorLookupTableData"
    is_segmented = f"Segmented{keyword}" in header
    element = header[f"Segmented{keyword}" if is_segmented else keyword]
    stored: bytes = element.value
    wide = bits > _BYTE if is_segmented else len(stored) >= 2 * entries
    big_endian = not is_little_endian(header)
    if wide:
        words = np.frombuffer(stored[: len(stored) // 2 * 2], dtype=">u2" if big_endian else "<u2")
    else:
        words = np.frombuffer(stored, dtype=np.uint8)
        if big_endian and element.VR == "OW":  # bytes of words, high byte first
            words = words[: words.size // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    word_bytes = words.dtype.itemsize
    table = np.array(_expanded(words.tolist(), entries, word_bytes=word_bytes)) if is_segmented else words
    if table.size < entries:
        raise UnreadableImageError("damaged header")
    return table[:entries].astype(f"u{word_bytes}")


def _expanded(segments: list[int], most: int, *, word_bytes: int) -> list[int]:
    """A segmented table in full: runs of values, straight lines to a value, and repeats of earlier segments."""
    table: list[int] = []
    place = 0
    while place + 1 < len(segments) and len(table) < most:
        if segments[place] == _INDIRECT:
            place = _repeat(segments, place, table, most, word_bytes=word_bytes)
        else:
            place = _expand_one(segments, place, table)
    return table


def _expand_one(segments: list[int], place: int, table: list[int]) -> int:
    """Add the discrete or linear segment at a place (C.7.9.2.1, C.7.9.2.2); gives the place behind it."""
    kind, count = segments[place], segments[place + 1]
    if kind == _DISCRETE:
        table.extend(segments[place + 2 : place + 2 + count])
        return place + 2 + count
    if kind == _LINEAR and table:
        last, target = table[-1], segments[place + 2]
        table.extend(round(last + (target - last) * step / count) for step in range(1, count + 1))
        return place + 3
    raise UnreadableImageError("damaged header")


def _repeat(segments: list[int], place: int, table: list[int], most: int, *, word_bytes: int) -> int:
    """Add segments once more, from a byte offset of 32 bits on, low part first (C.7.9.2.3)."""
    words = 4 // word_bytes
    offset = sum(word << 8 * word_bytes * n for n, word in enumerate(segments[place + 2 : place + 2 + words]))
    back = offset // word_bytes
    for _ in range(segments[place + 1]):
        if len(table) >= most:
            break
        back = _expand_one(segments, back, table)
    return place + 2 + words
