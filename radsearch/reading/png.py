"""Whether a PNG holds all of its picture: a stream that ends early leaves rows black without a word of the decoder's.

Source: PNG (Third Edition), 5.3 chunk layout, 8.1 interlacing, 10.1 compression.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

_SIGNATURE_BYTES = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first row, first column, row step, column step of each pass.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_PIECE = 1 << 20


def is_whole(path: Path) -> bool:
    """Whether the compressed stream gives as many bytes as the header's size asks for."""
    inflater, given = zlib.decompressobj(), 0
    expected = -1
    for kind, content in _chunks(path):
        if kind == b"IHDR":
            expected = _expected_bytes(content)
        elif kind == b"IDAT":
            rest = content
            while rest and given < expected and not inflater.eof:
                given += len(inflater.decompress(rest, _PIECE))
                rest = inflater.unconsumed_tail
            if given >= expected:
                return True
    return given + len(inflater.flush()) >= expected >= 0


def _expected_bytes(header: bytes) -> int:
    """Bytes of all scan lines, each with its filter byte (PNG 7.2)."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _CHANNELS[header[9]]
    passes = _PASSES if header[12] else ((0, 0, 1, 1),)
    total = 0
    for first_row, first_column, row_step, column_step in passes:
        rows, columns = -(-(height - first_row) // row_step), -(-(width - first_column) // column_step)
        if rows > 0 and columns > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb") as stream:
        stream.seek(_SIGNATURE_BYTES)
        while len(head := stream.read(8)) == len("lengtype"):
            content = stream.read(int.from_bytes(head[:4], "big"))
            stream.read(4)  # the checksum: Pillow has looked at it
            yield head[4:], content
