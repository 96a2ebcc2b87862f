"""Damage to codestreams (bare or in DICOM), PNG and NIfTI files: dimensions, segments, chunks and headers that lie.

Every function takes a `Seed` of its form and a generator of chance and returns a whole file.
"""

import gzip
import struct
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
from mutant_anatomy import Seed, is_dicom, patched, pick
from mutant_encoding import zeros_deflated

# ISO/IEC 10918-1 table B.1 without DHT, JPG and DAC; JPEG-LS SOF55; JPEG 2000 SIZ.
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
SIZ, BARE_MARKERS, SCANS = 0x51, {0xD8, 0x4F}, {0xDA, 0x90}
ZEROS = 300_000_000


class Segment(NamedTuple):
    marker: int
    start: int
    end: int


def segments(codestream: bytes) -> list[Segment]:
    """The marker segments of a JPEG, JPEG-LS or JPEG 2000 codestream up to its first scan or tile part."""
    found, at = [], 0
    while at + 4 <= len(codestream) and codestream[at] == 0xFF:
        marker = codestream[at + 1]
        end = at + 2 if marker in BARE_MARKERS else at + 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
        found.append(Segment(marker, at, end))
        if marker in SCANS:
            break
        at = end
    return found


def has_codestream(seed: Seed) -> bool:
    return any(segment.marker in FRAME_HEADERS | {SIZ} for segment in segments(_codestreams(seed)[0]))


def _codestreams(seed: Seed) -> tuple[bytes, ...]:
    if is_dicom(seed):
        return seed.dicom.fragments[1:] or (b"",)
    return (seed.content,) if seed.form == "jpeg" else (b"",)


def _with_codestream(seed: Seed, index: int, codestream: bytes) -> bytes:
    if not is_dicom(seed):
        return codestream
    fragments = list(seed.dicom.fragments)
    fragments[index + 1] = codestream
    return seed.dicom.with_fragments(fragments).written()


def _picked_codestream(seed: Seed, rng: np.random.Generator) -> tuple[int, bytes]:
    """One that starts here: later fragments of a frame have no header."""
    started = [item for item in enumerate(_codestreams(seed)) if len(segments(item[1])) > 1]
    return pick(rng, started)


def codestream_dimensions(seed: Seed, rng: np.random.Generator) -> bytes:
    """Width, height, precision, tiles or components changed inside the codestream."""
    index, codestream = _picked_codestream(seed, rng)
    header = next(segment for segment in segments(codestream) if segment.marker in FRAME_HEADERS | {SIZ})
    at = header.start + 4
    for _ in range(int(rng.integers(1, 3))):
        if header.marker == SIZ:
            size = pick(rng, (0, 1, 17, 4096, 60_000, 2**31 - 1, 2**32 - 1))
            codestream = patched(codestream, at + 2 + 4 * int(rng.integers(8)), size.to_bytes(4, "big"))
            if rng.integers(4) == 0:
                codestream = patched(codestream, at + 34, pick(rng, (0, 2, 3, 5, 16384)).to_bytes(2, "big"))
        else:
            size = pick(rng, (0, 1, 17, 4096, 60_000, 65535))
            codestream = patched(codestream, at + pick(rng, (1, 3)), size.to_bytes(2, "big"))
            if rng.integers(4) == 0:
                codestream = patched(
                    codestream, at + pick(rng, (0, 5, 7)), bytes([pick(rng, (0, 2, 4, 7, 12, 16, 255))])
                )
    return _with_codestream(seed, index, codestream)


def codestream_huge(seed: Seed, rng: np.random.Generator) -> bytes:
    """The codestream alone says 65535 x 65535, or 2**31 - 1 square in JPEG 2000."""
    index, codestream = _picked_codestream(seed, rng)
    header = next(segment for segment in segments(codestream) if segment.marker in FRAME_HEADERS | {SIZ})
    at = header.start + 4
    if header.marker == SIZ:
        size = pick(rng, (65535, int(rng.integers(2**16, 2**24)), 2**31 - 1))
        codestream = patched(codestream, at + 2, struct.pack(">II", size, size))
        if rng.integers(2):  # one tile as large as the picture
            codestream = patched(codestream, at + 18, struct.pack(">II", size, size))
    else:
        size = pick(rng, (65535, int(rng.integers(40_000, 65535))))
        codestream = patched(codestream, at + 1, struct.pack(">HH", size, size))
    return _with_codestream(seed, index, codestream)


def codestream_segments(seed: Seed, rng: np.random.Generator) -> bytes:
    """A table or scan header bitten, of a wrong length, gone, doubled or late; a marker in the middle of a scan."""
    index, codestream = _picked_codestream(seed, rng)
    known = segments(codestream)
    segment = pick(rng, known[1:])
    before, chosen, after = (
        codestream[: segment.start],
        codestream[segment.start : segment.end],
        codestream[segment.end :],
    )
    marker = bytes([0xFF, pick(rng, (0xD8, 0xD9, 0xDA, 0xD0, 0xC0, 0xC4, 0x90, 0x93, 0x4F, 0xF8))])
    scan_at = int(rng.integers(known[-1].end, len(codestream)))
    bitten = patched(chosen, 4 + int(rng.integers(max(1, len(chosen) - 4))), rng.bytes(int(rng.integers(1, 9))))
    length = pick(rng, (0, 1, 2, len(chosen), len(chosen) - 3, 65535))
    forms = (
        before + bitten[: len(chosen)] + after,
        before + bitten[: len(chosen)] + after,
        before + patched(chosen, 2, length.to_bytes(2, "big")) + after,
        before + after,
        before + chosen * pick(rng, (2, 50)) + after,
        before + after + chosen,
        patched(codestream, scan_at, marker),
        codestream[:scan_at] + codestream,
    )
    return _with_codestream(seed, index, pick(rng, forms))


class PngChunk(NamedTuple):
    kind: bytes
    content: bytes

    def written(self, crc: int | None = None) -> bytes:
        crc = zlib.crc32(self.kind + self.content) if crc is None else crc
        return struct.pack(">I", len(self.content)) + self.kind + self.content + struct.pack(">I", crc)


def _png_chunks(content: bytes) -> list[PngChunk]:
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append(PngChunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += length + 12
    return chunks


def _png(chunks: list[PngChunk]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk.written() for chunk in chunks)


def png_chunks_out_of_order(seed: Seed, rng: np.random.Generator) -> bytes:
    """Chunks shuffled, missing, doubled, or with a length that is not theirs."""
    chunks = _png_chunks(seed.content)
    index = int(rng.integers(len(chunks)))
    forms = (
        [chunks[place] for place in rng.permutation(len(chunks))],
        chunks[:index] + chunks[index + 1 :],
        [*chunks[:index], *([chunks[index]] * pick(rng, (2, 3, 300))), *chunks[index:]],
        [
            *chunks[:index],
            PngChunk(pick(rng, (b"ABCD", b"IDAT", b"PLTE", b"tRNS", b"acTL")), rng.bytes(9)),
            *chunks[index:],
        ],
    )
    if rng.integers(4):
        return _png(pick(rng, forms))
    at = 8 + sum(len(chunk.content) + 12 for chunk in chunks[:index])
    return patched(seed.content, at, pick(rng, (0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4, "big"))


def png_crc_broken(seed: Seed, rng: np.random.Generator) -> bytes:
    chunks = _png_chunks(seed.content)
    wrong = int(rng.integers(len(chunks)))
    crc = int(rng.integers(2**32))
    return seed.content[:8] + b"".join(
        chunk.written(crc if index == wrong else None) for index, chunk in enumerate(chunks)
    )


def png_stream_cut(seed: Seed, rng: np.random.Generator) -> bytes:
    """The zlib stream cut, bitten, spread over odd chunks or followed by more; every CRC is right."""
    chunks = _png_chunks(seed.content)
    stream = b"".join(chunk.content for chunk in chunks if chunk.kind == b"IDAT")
    cut, step = int(rng.integers(len(stream))), int(rng.integers(1, 9))
    streams = (
        [stream[:cut]],
        [patched(stream, cut, rng.bytes(int(rng.integers(1, 9))))[: len(stream)]],
        [stream[at : at + step] for at in range(0, min(cut, 2000), step)],
        [stream, rng.bytes(100)],
        [zlib.compress(zlib.decompress(stream)[:cut])],
        [zlib.compress(rng.bytes(len(zlib.decompress(stream))))],  # filters that do not exist
        [],
    )
    before = [chunk for chunk in chunks if chunk.kind not in (b"IDAT", b"IEND")]
    return _png([*before, *(PngChunk(b"IDAT", part) for part in pick(rng, streams)), chunks[-1]])


def png_header(seed: Seed, rng: np.random.Generator) -> bytes:
    """Interlace flipped, or another depth, colour type, filter or size than the stream has; the CRC is right."""
    header, *rest = _png_chunks(seed.content)
    content = header.content
    for _ in range(int(rng.integers(1, 3))):
        at = pick(rng, (3, 7, 8, 9, 10, 11, 12, 12))
        content = patched(content, at, bytes([pick(rng, (0, 1, 2, 3, 4, 6, 8, 16, 255))]))
    return _png([PngChunk(b"IHDR", content), *rest])


def png_huge(seed: Seed, rng: np.random.Generator) -> bytes:
    """IHDR says 60000 x 60000 or thereabouts; the stream is that of the small picture."""
    header, *rest = _png_chunks(seed.content)
    sides = [pick(rng, (60_000, 2**31 - 1, int(rng.integers(9_000, 2**20)))) for _ in range(2)]
    size = struct.pack(">II", *sides)
    return _png([PngChunk(b"IHDR", patched(header.content, 0, size)), *rest])


def png_bomb(seed: Seed, rng: np.random.Generator) -> bytes:
    """300 million zeros in a few hundred thousand bytes: as the picture, as too many rows of a small one, as text."""
    header, *rest = _png_chunks(seed.content)
    stream = b"\x78\xda" + zeros_deflated() + b"\x03\x00" + struct.pack(">HH", ZEROS % 65521, 1)
    how = pick(rng, ("text", "profile", "surplus", "large", "largest"))
    if how in ("text", "profile"):
        kind = b"zTXt" if how == "text" else b"iCCP"
        return _png([header, PngChunk(kind, rng.bytes(4).hex().encode() + b"\0\0" + stream), *rest])
    size = {"surplus": (40, int(rng.integers(1, 100))), "large": (9_000, 9_000), "largest": (17_320, 17_320)}[how]
    grey = PngChunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    return _png([grey, PngChunk(b"IDAT", stream), rest[-1]])


def nifti_header(seed: Seed, rng: np.random.Generator) -> bytes:
    """Dimensions, type, offset, scale, spacing, transforms, magic or byte order that cannot be."""
    content, strange = seed.inside, (0.0, -1.0, float("nan"), float("inf"), 1e30, 351.0)
    for _ in range(int(rng.integers(1, 4))):
        at, new = pick(
            rng,
            (
                (40, struct.pack("<h", pick(rng, (-1, 0, 1, 2, 5, 7, 8, 32767)))),
                (42 + 2 * int(rng.integers(7)), struct.pack("<h", pick(rng, (-1, 0, 1, 21, 32767)))),
                (70, struct.pack("<h", pick(rng, (0, 1, 2, 8, 16, 32, 64, 128, 1536, 2304, -1, 999)))),
                (72, struct.pack("<h", pick(rng, (0, 1, 7, 8, 32, 32767, -16)))),
                (76 + 4 * int(rng.integers(8)), struct.pack("<f", pick(rng, strange))),
                (108 + 4 * int(rng.integers(3)), struct.pack("<f", pick(rng, strange))),
                (252, struct.pack("<hh", pick(rng, (-1, 0, 1, 99)), pick(rng, (-1, 0, 1, 99)))),
                (280 + 4 * int(rng.integers(12)), struct.pack("<f", pick(rng, strange))),
                (344, pick(rng, (b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+1x"))),
                (0, pick(rng, (b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\0\0"))),
                (348, pick(rng, (b"\1\0\0\0", b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 4)))),
            ),
        )
        content = patched(content, at, new)
    return seed.pack(content)


def nifti_huge(seed: Seed, rng: np.random.Generator) -> bytes:
    """32767 voxels a side, in three to seven dimensions."""
    sizes = [pick(rng, (32767, int(rng.integers(5_000, 32767)))) for _ in range(7)]
    return seed.pack(patched(seed.inside, 40, struct.pack("<8h", int(rng.integers(3, 8)), *sizes)))


def gzip_damaged(seed: Seed, rng: np.random.Generator) -> bytes:
    """Cut, a wrong CRC or size, members joined or packed twice, bytes of chance behind or in the header."""
    content = seed.content
    forms = (
        content[: int(rng.integers(1, len(content)))],
        patched(content, len(content) - 8, rng.bytes(4)),
        patched(content, len(content) - 4, rng.bytes(4)),
        content * pick(rng, (2, 20)),
        gzip.compress(content, mtime=0),
        content + rng.bytes(int(rng.integers(1, 1000))),
        patched(content, int(rng.integers(2, 10)), rng.bytes(1)),
        content[:10],
    )
    return pick(rng, forms)


def gzip_bomb(seed: Seed, rng: np.random.Generator) -> bytes:
    """A volume of 300 million zeros, or a small one with as many behind it, in 300 thousand bytes."""
    dimensions = pick(rng, ((3, 500, 500, 600, 1), (3, 20, 16, 6, 1), (4, 100, 100, 100, 150)))
    header = patched(seed.inside[:352], 40, struct.pack("<8h", *dimensions, 1, 1, 1))
    header = patched(header, 148, rng.bytes(8))  # descrip: no bomb like another
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begun = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    ending = struct.pack("<II", _crc_with_zeros(header), ZEROS + len(header))
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + begun + zeros_deflated() + b"\x03\x00" + ending


@cache
def _crc_with_zeros(header: bytes) -> int:
    crc, million = zlib.crc32(header), bytes(1_000_000)
    for _ in range(ZEROS // len(million)):
        crc = zlib.crc32(million, crc)
    return crc
