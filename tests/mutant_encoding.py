"""Damage to how DICOM pixels are packed: file meta, transfer syntax, fragments, offset tables, RLE, deflate.

Every function takes a DICOM `Seed` and a generator of chance and returns a whole file.
"""

import struct
import zlib
from functools import cache

import numpy as np
from mutant_anatomy import (
    DEFLATED,
    EXPLICIT_LITTLE,
    META,
    PIXEL_DATA,
    UNDEFINED,
    Coding,
    Dicom,
    Seed,
    deflate,
    joined,
    patched,
    pick,
)

SYNTAXES = [f"1.2.840.10008.1.2{ending}" for ending in ("", ".1", ".2", ".1.99", ".5", ".1.98")]
SYNTAXES += [f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 100, 103, 201, 202, 203)]


def offset_table_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """Offsets beyond the end, pointing backwards, all equal, of an odd count; or an extended table of the same kind."""
    dicom, coding = seed.dicom, seed.dicom.coding
    frames = len(dicom.fragments) - 1
    size, wide = sum(map(len, dicom.fragments[1:])), int(rng.integers(3)) == 0
    tables = (
        [size + 1000] * frames,
        [8 * (frames - index) for index in range(frames + 1)],
        [0] * (frames + 1),
        [0, UNDEFINED, 2, 1],
        [int(offset) for offset in rng.integers(0, size + 8, frames)],
        list(range(0, 40_000, 4)),
    )
    table = b"".join(coding.number(offset, 8 if wide else 4) for offset in pick(rng, tables))
    table += rng.bytes(int(rng.integers(4))) if rng.integers(3) == 0 else b""
    if not wide:
        return dicom.with_fragments([table, *dicom.fragments[1:]]).written()
    lengths = b"".join(coding.number(int(length), 8) for length in rng.integers(0, 2**40, frames))
    dicom = dicom.with_element(0x7FE00001, "OV", table).with_element(0x7FE00002, "OV", lengths)
    return dicom.with_fragments([b"", *dicom.fragments[1:]]).written()


def fragments_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """Fragments split at odd places, empty, swapped, missing, with a wrong length or no delimiter."""
    dicom, coding, fragments = seed.dicom, seed.dicom.coding, list(seed.dicom.fragments)
    index = int(rng.integers(1, len(fragments)))
    chosen = fragments[index]
    cut = int(rng.integers(len(chosen)))
    small = [chosen[at : at + 7] for at in range(0, min(len(chosen), 7000), 7)]
    forms = (
        [*fragments[:index], chosen[:cut], chosen[cut:], *fragments[index + 1 :]],
        [*fragments[:index], *small, *fragments[index + 1 :]],
        [*fragments[:index], *([b""] * pick(rng, (1, 3, 2000))), *fragments[index:]],
        [*fragments[:index], *fragments[index + 1 :]],
        [*fragments, chosen],
        fragments[::-1],
        fragments[:1],
        [],
    )
    items = b"".join(map(coding.item, pick(rng, forms)))
    if rng.integers(4) == 0:
        items += coding.item(chosen, length=pick(rng, (0, UNDEFINED, len(chosen) + 1, 0x7FFFFFFE)))
    return dicom.with_items(items, delimiter=bool(rng.integers(3))).written()


def rle_header_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """The 64 bytes before RLE segments (PS3.5 G.5): a count or offsets that cannot be; or runs that never fit."""
    fragments = list(seed.dicom.fragments)
    index = int(rng.integers(1, len(fragments)))
    header, segments = list(struct.unpack("<16I", fragments[index][:64])), fragments[index][64:]
    how = pick(rng, ("count", "offset", "equal", "runs"))
    if how == "count":
        header[0] = pick(rng, (0, 2, 3, 5, 15, 16, 255, 2**31, UNDEFINED))
    elif how == "offset":
        header[int(rng.integers(1, max(2, min(16, header[0] + 1))))] = pick(
            rng, (0, 1, 63, 65, len(segments) + 65, UNDEFINED)
        )
    elif how == "equal":
        header[1:] = [pick(rng, (0, 64, 66))] * 15
    else:
        segments = pick(rng, (b"\x81\xff", b"\x80\x80", b"\x7f\x00", b"\x00\x01")) * max(1, len(segments) // 2)
    fragments[index] = struct.pack("<16I", *header) + segments
    return seed.dicom.with_fragments(fragments).written()


def meta_damaged(seed: Seed, rng: np.random.Generator) -> bytes:
    """A wrong group length; a transfer syntax missing, unknown or private; no preamble, no DICM, no group at all."""
    dicom = seed.dicom
    wrong_count = META.number(pick(rng, (0, 1, len(dicom.head), 0x7FFFFFFF, UNDEFINED)), 4)
    rest = joined([chunk for chunk in dicom.meta if chunk.tag != 0x00020000])
    heads = (
        dicom.preamble + META.element(0x00020000, "UL", wrong_count) + rest,
        dicom.preamble + rest,
        dicom.head_with_syntax(None),
        dicom.head_with_syntax(pick(rng, ("1.2.840.10008.1.2.999", "1.2.826.0.1.3680043.2.1", "1.2.840.113619.5.2"))),
        dicom.head_with_syntax(
            pick(rng, ("", "1", "one.two", "1." * 500, "\xe9\xff", "1.2.840.10008.1.2.1\\1.2.840.10008.1.2"))
        ),
        dicom.head[128:],
        dicom.head[132:],
        dicom.preamble,
        dicom.preamble + joined(dicom.meta[::-1]),
        dicom.head + joined(dicom.meta),
        patched(dicom.head, 128, b"DICO"),
    )
    return dicom.written(head=pick(rng, heads))


def syntax_swapped(seed: Seed, rng: np.random.Generator) -> bytes:
    """Another file's transfer syntax over these bytes."""
    dicom = seed.dicom
    return dicom.written(head=dicom.head_with_syntax(pick(rng, [known for known in SYNTAXES if known != dicom.syntax])))


def deflate_damaged(seed: Seed, rng: np.random.Generator) -> bytes:
    """A deflated data set whose stream is bitten, cut, of another container, doubled or empty."""
    dicom = seed.dicom
    stream, at = deflate(dicom.body), int(rng.integers(8, 200))
    streams = (
        patched(stream, int(rng.integers(len(stream))), rng.bytes(int(rng.integers(1, 17)))),
        stream[: int(rng.integers(len(stream)))],
        zlib.compress(dicom.body),
        stream + rng.bytes(int(rng.integers(1, 2000))),
        stream * 2,
        stream[:at] + stream[at + 1 :],
        deflate(stream),
        dicom.body,
        b"",
    )
    return dicom.head_with_syntax(DEFLATED) + pick(rng, streams)


def deflate_bomb(seed: Seed, rng: np.random.Generator) -> bytes:
    """Pixels of 300 million zeros in 300 thousand bytes; the header says so, or speaks of a small picture."""
    coding, frames = Coding("little", implicit=False), 75
    dicom = Dicom(seed.dicom.preamble, seed.dicom.meta, seed.dicom.dataset, coding, EXPLICIT_LITTLE)
    if rng.integers(2):
        dicom = dicom.with_element(0x00280010, "US", coding.number(2000, 2))
        dicom = dicom.with_element(0x00280011, "US", coding.number(2000, 2))
        dicom = dicom.with_element(0x00280008, "IS", str(frames).encode())
        dicom = dicom.with_element(0x00280100, "US", coding.number(8, 2))
    before = joined([chunk for chunk in dicom.dataset if chunk.tag < PIXEL_DATA])
    length = pick(rng, (frames * 2000 * 2000, UNDEFINED - 1))
    before += coding.element(PIXEL_DATA, "OB", b"", length=length)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH) + zeros_deflated() + b"\x03\x00"
    return dicom.head_with_syntax(DEFLATED) + stream


@cache
def zeros_deflated() -> bytes:
    """300 million zeros as raw deflate blocks to stand between others: whole bytes, none of them the last."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)) * 300
