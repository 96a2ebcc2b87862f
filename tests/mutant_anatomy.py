"""The anatomy of a seed: where a DICOM file's elements, items, fragments and pixels lie, byte by byte.

Written by hand because pydicom refuses most of what a mutant has to say.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydicom.datadict import dictionary_VR

IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
# PS3.5 table 7.1-1: two reserved bytes, then a length of four.
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SYNTAX, PIXEL_DATA = 0x00020010, 0x7FE00010
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, PIXEL_DATA)


class Element(NamedTuple):
    """The header of one element or item in the data set; positions count from the data set's first byte."""

    tag: int
    vr: bytes
    start: int
    length_at: int
    value_at: int
    length: int
    depth: int


class Chunk(NamedTuple):
    """One outermost element as it is written, all its items with it."""

    tag: int
    content: bytes


@dataclass(frozen=True)
class Coding:
    order: Literal["little", "big"]
    implicit: bool

    def number(self, value: int, size: int) -> bytes:
        return (value % (1 << 8 * size)).to_bytes(size, self.order)

    def tag(self, tag: int) -> bytes:
        return self.number(tag >> 16, 2) + self.number(tag, 2)

    def element(self, tag: int, vr: str, value: bytes, *, length: int | None = None) -> bytes:
        """An element whose length may be a lie; an odd value is filled up."""
        value += b"" if len(value) % 2 == 0 else b" "
        length = len(value) if length is None else length
        if self.implicit:
            return self.tag(tag) + self.number(length, 4) + value
        letters = vr.encode()
        told = bytes(2) + self.number(length, 4) if letters in LONG_VRS else self.number(length, 2)
        return self.tag(tag) + letters + told + value

    def item(self, value: bytes, *, tag: int = ITEM, length: int | None = None) -> bytes:
        return self.tag(tag) + self.number(len(value) if length is None else length, 4) + value

    def sequence(self, tag: int, items: Sequence[bytes]) -> bytes:
        return self.element(tag, "SQ", b"".join(map(self.item, items)))

    def element_at(self, content: bytes, at: int, depth: int = 0) -> Element:
        def number(start: int, size: int) -> int:
            return int.from_bytes(content[start : start + size], self.order)

        tag = number(at, 2) << 16 | number(at + 2, 2)
        if self.implicit or tag >> 16 == 0xFFFE:
            return Element(tag, _known_vr(tag), at, at + 4, at + 8, number(at + 4, 4), depth)
        vr = content[at + 4 : at + 6]
        if vr in LONG_VRS:
            return Element(tag, vr, at, at + 8, at + 12, number(at + 8, 4), depth)
        return Element(tag, vr, at, at + 6, at + 8, number(at + 6, 2), depth)

    def elements(self, body: bytes) -> Iterator[Element]:
        """Every element, item, fragment and delimiter of a sound data set, in the file's order."""
        at, ends, in_fragments = 0, [], False
        while at + 8 <= len(body):
            while ends and ends[-1] <= at:
                ends.pop()
            element = self.element_at(body, at, len(ends))
            yield element
            at = element.value_at
            if element.tag in (ITEM_END, SEQUENCE_END):
                ends.pop()
                in_fragments = False
            elif element.tag == ITEM and in_fragments:
                at += element.length
            elif element.tag == ITEM or element.vr == b"SQ" or element.length == UNDEFINED:
                ends.append(len(body) + 1 if element.length == UNDEFINED else at + element.length)
                in_fragments = element.tag == PIXEL_DATA
            else:
                at += element.length


def _known_vr(tag: int) -> bytes:
    try:
        return dictionary_VR(tag)[:2].encode()
    except KeyError:
        return b"UN"


META = Coding("little", implicit=False)


@dataclass(frozen=True)
class Dicom:
    """A DICOM file in its parts; `preamble` and `meta` are empty where the file has none."""

    preamble: bytes
    meta: tuple[Chunk, ...]
    dataset: tuple[Chunk, ...]
    coding: Coding
    syntax: str

    @cached_property
    def body(self) -> bytes:
        return joined(self.dataset)

    @cached_property
    def head(self) -> bytes:
        return self.preamble + joined(self.meta)

    @cached_property
    def elements(self) -> tuple[Element, ...]:
        return tuple(self.coding.elements(self.body))

    @cached_property
    def pixels_at(self) -> int:
        """Where the pixel data's value starts in the data set."""
        return next((element.value_at for element in self.elements if element.tag in PIXEL_TAGS), len(self.body) // 2)

    @cached_property
    def fragments(self) -> tuple[bytes, ...]:
        """The fragments of encapsulated pixel data, offset table first; none where pixels lie bare."""
        return tuple(
            self.body[element.value_at : element.value_at + element.length]
            for element in self.elements
            if element.tag == ITEM and element.depth == 1 and element.start >= self.pixels_at
        )

    def written(self, body: bytes | None = None, head: bytes | None = None) -> bytes:
        body = self.body if body is None else body
        return (self.head if head is None else head) + (deflate(body) if self.syntax == DEFLATED else body)

    def with_chunks(self, chunks: Sequence[Chunk]) -> "Dicom":
        """Chunks put in the order of their tags, in the place of those of the same tag."""
        new = {chunk.tag for chunk in chunks}
        kept = [chunk for chunk in self.dataset if chunk.tag not in new]
        dataset = tuple(sorted([*kept, *chunks], key=lambda chunk: chunk.tag))
        return Dicom(self.preamble, self.meta, dataset, self.coding, self.syntax)

    def with_element(self, tag: int, vr: str, value: bytes) -> "Dicom":
        return self.with_chunks([Chunk(tag, self.coding.element(tag, vr, value))])

    def with_fragments(self, fragments: Sequence[bytes], *, delimiter: bool = True) -> "Dicom":
        return self.with_items(b"".join(map(self.coding.item, fragments)), delimiter=delimiter)

    def with_items(self, items: bytes, *, delimiter: bool = True) -> "Dicom":
        items += self.coding.item(b"", tag=SEQUENCE_END) if delimiter else b""
        header = self.coding.element(PIXEL_DATA, "OB", b"", length=UNDEFINED)
        return self.with_chunks([Chunk(PIXEL_DATA, header + items)])

    def head_with_syntax(self, syntax: str | None) -> bytes:
        """The head with another transfer syntax, or none, and a right group length."""
        meta = [chunk for chunk in self.meta if chunk.tag not in (0x00020000, SYNTAX)]
        if syntax is not None:
            padded = syntax.encode() + bytes(len(syntax) % 2)
            meta.append(Chunk(SYNTAX, META.element(SYNTAX, "UI", padded)))
        group = joined(sorted(meta))
        return self.preamble + META.element(0x00020000, "UL", META.number(len(group), 4)) + group


@dataclass(frozen=True)
class Seed:
    """A seed and, where it is compressed as a whole, what is inside and how that is packed again."""

    name: str
    content: bytes
    form: Literal["dicom", "png", "jpeg", "nifti"]
    pixels_at: int
    inside: bytes
    inside_pixels_at: int
    pack: Callable[[bytes], bytes]
    dicom: Dicom | None = None


def read_seed(path: Path) -> Seed:
    content = path.read_bytes()
    if path.name.endswith(".nii.gz"):
        return Seed(path.name, content, "nifti", 32, gzip.decompress(content), 352, lambda b: gzip.compress(b, mtime=0))
    for beginning, form, pixels_at in (
        (b"\x89PNG", "png", content.find(b"IDAT") + 4),
        (b"\xff\xd8", "jpeg", content.find(b"\xff\xda") + 2),
        (b"\x5c\x01\x00\x00", "nifti", 352),
    ):
        if content.startswith(beginning):
            return Seed(path.name, content, form, pixels_at, content, pixels_at, bytes)
    dicom = read_dicom(content)
    inside_at = dicom.pixels_at
    if dicom.syntax == DEFLATED:
        return Seed(path.name, content, "dicom", len(dicom.head), dicom.body, inside_at, dicom.written, dicom)
    at = len(dicom.head) + inside_at
    return Seed(path.name, content, "dicom", at, content, at, bytes, dicom)


def read_dicom(content: bytes) -> Dicom:
    """Take a sound DICOM file, with or without preamble and file meta, to its parts."""
    at = 132 if content[128:132] == b"DICM" else 0
    preamble, meta = content[:at], []
    while content[at : at + 2] == b"\x02\x00":
        element = META.element_at(content, at)
        end = element.value_at + element.length
        meta.append(Chunk(element.tag, content[at:end]))
        at = end
    written = next((chunk.content[8:] for chunk in meta if chunk.tag == SYNTAX), b"")
    syntax = written.rstrip(b"\0 ").decode() or (
        EXPLICIT_LITTLE if content[at + 4 : at + 6].isalpha() else IMPLICIT_LITTLE
    )
    body = zlib.decompress(content[at:], -15) if syntax == DEFLATED else content[at:]
    coding = Coding("big" if syntax == EXPLICIT_BIG else "little", implicit=syntax == IMPLICIT_LITTLE)
    outermost = [element for element in coding.elements(body) if element.depth == 0]
    ends = [*(element.start for element in outermost[1:]), len(body)]
    dataset = tuple(Chunk(element.tag, body[element.start : end]) for element, end in zip(outermost, ends, strict=True))
    return Dicom(preamble, tuple(meta), dataset, coding, syntax)


def joined(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(chunk.content for chunk in chunks)


def deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(body) + packer.flush()
    return packed + bytes(len(packed) % 2)


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def patched(content: bytes, at: int, new: bytes) -> bytes:
    """Bytes overwritten in their place."""
    return content[:at] + new + content[at + len(new) :]


def is_dicom(seed: Seed) -> bool:
    return seed.form == "dicom"


def is_png(seed: Seed) -> bool:
    return seed.form == "png"


def is_nifti(seed: Seed) -> bool:
    return seed.form == "nifti"


def is_gzip(seed: Seed) -> bool:
    return seed.name.endswith(".gz")


def has_meta(seed: Seed) -> bool:
    return is_dicom(seed) and bool(seed.dicom.meta)


def is_explicit(seed: Seed) -> bool:
    return is_dicom(seed) and not seed.dicom.coding.implicit


def is_encapsulated(seed: Seed) -> bool:
    return is_dicom(seed) and len(seed.dicom.fragments) > 1


def is_rle(seed: Seed) -> bool:
    return is_encapsulated(seed) and seed.dicom.syntax == RLE


def has_functional_groups(seed: Seed) -> bool:
    return is_dicom(seed) and any(chunk.tag == 0x52009230 for chunk in seed.dicom.dataset)


def may_be_deflated(seed: Seed) -> bool:
    return has_meta(seed) and seed.dicom.syntax in (EXPLICIT_LITTLE, DEFLATED)
