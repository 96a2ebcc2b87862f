"""Damage to how a DICOM data set is built: lengths, order and VRs that lie, sequences that never end.

Every function takes a DICOM `Seed` and a generator of chance and returns a whole file.
"""

import numpy as np
from mutant_anatomy import ITEM_END, PIXEL_TAGS, SEQUENCE_END, UNDEFINED, Chunk, Seed, joined, patched, pick

NESTING_TAGS = (0x00081140, 0x00282112, 0x0040A730, 0x00091010)
WRONG_VRS = (b"US", b"SS", b"DS", b"IS", b"SQ", b"OB", b"OW", b"UN", b"FD", b"AT", b"PN", b"ZZ", b"\0\0")


def wrong_length(seed: Seed, rng: np.random.Generator) -> bytes:
    """The length of one element or item at any depth is 0, undefined, huge, one off or half."""
    dicom = seed.dicom
    element = pick(rng, dicom.elements)
    size = element.value_at - element.length_at
    lengths = (0, UNDEFINED, 0x7FFFFFF0, 0xFFFE, element.length + 1, element.length - 1, element.length // 2)
    length = dicom.coding.number(pick(rng, lengths), size)
    return dicom.written(patched(dicom.body, element.length_at, length))


def wrong_vr(seed: Seed, rng: np.random.Generator) -> bytes:
    """One to eight elements of an explicit file carry another VR's letters, or none that exist."""
    dicom = seed.dicom
    body = dicom.body
    for _ in range(int(rng.integers(1, 9))):
        element = pick(rng, dicom.elements)
        if element.tag >> 16 != 0xFFFE:
            body = patched(body, element.start + 4, pick(rng, WRONG_VRS))
    return dicom.written(body)


def elements_missing(seed: Seed, rng: np.random.Generator) -> bytes:
    """One to five elements are gone; half the time one of them describes the pixels."""
    chunks = list(seed.dicom.dataset)
    described = [index for index, chunk in enumerate(chunks) if chunk.tag >> 16 in (0x0028, 0x7FE0)]
    if rng.integers(2) and described:
        del chunks[pick(rng, described)]
    for _ in range(int(rng.integers(1, 5))):
        if len(chunks) > 1:
            del chunks[int(rng.integers(len(chunks)))]
    return seed.dicom.written(joined(chunks))


def elements_out_of_order(seed: Seed, rng: np.random.Generator) -> bytes:
    chunks = list(seed.dicom.dataset)
    how = pick(rng, ("shuffled", "pixels early", "two swapped", "stretch reversed"))
    one, other = sorted(int(index) for index in rng.choice(len(chunks), 2, replace=False))
    if how == "shuffled":
        chunks = [chunks[index] for index in rng.permutation(len(chunks))]
    elif how == "pixels early":
        last = max(index for index, chunk in enumerate(chunks) if chunk.tag in PIXEL_TAGS)
        chunks.insert(min(one, last), chunks.pop(last))
    elif how == "two swapped":
        chunks[one], chunks[other] = chunks[other], chunks[one]
    else:
        chunks[one : other + 1] = chunks[one : other + 1][::-1]
    return seed.dicom.written(joined(chunks))


def elements_repeated(seed: Seed, rng: np.random.Generator) -> bytes:
    """Elements stand twice, the second time with bytes of chance; a second PixelData among them."""
    chunks = list(seed.dicom.dataset)
    for _ in range(int(rng.integers(1, 4))):
        index = pick(rng, (int(rng.integers(len(chunks))), len(chunks) - 1))
        again = chunks[index].content
        chunks.insert(index + 1, Chunk(chunks[index].tag, patched(again, len(again) - 1, rng.bytes(1))))
    return seed.dicom.written(joined(chunks))


def deeply_nested(seed: Seed, rng: np.random.Generator) -> bytes:
    """500 to 3000 sequences, each in the one before: of defined length, of undefined length, or never closed."""
    coding, levels = seed.dicom.coding, int(rng.integers(500, 3001))
    tag, how = pick(rng, NESTING_TAGS), pick(rng, ("defined", "undefined", "unclosed"))
    if how == "defined":
        headers, inner = [], 0
        for _ in range(levels):
            header = coding.element(tag, "SQ", b"", length=inner + 8) + coding.item(b"", length=inner)
            headers.append(header)
            inner += len(header)
        nested = b"".join(reversed(headers))
    else:
        header = coding.element(tag, "SQ", b"", length=UNDEFINED) + coding.item(b"", length=UNDEFINED)
        closing = coding.item(b"", tag=ITEM_END) + coding.item(b"", tag=SEQUENCE_END)
        nested = header * levels + closing * (levels if how == "undefined" else 0)
    return seed.dicom.with_chunks([Chunk(tag, nested)]).written()


def self_containing(seed: Seed, rng: np.random.Generator) -> bytes:
    """An item that reaches over or back to its parent, or a sequence whose end is missing or in a wrong place."""
    coding, tag = seed.dicom.coding, pick(rng, NESTING_TAGS)

    def sequence(content: bytes, length: int | None = None) -> bytes:
        return coding.element(tag, "SQ", content, length=length)

    inner = coding.element(0x00081150, "UI", b"1.2.3.4\0")
    ended, item_ended = coding.item(b"", tag=SEQUENCE_END), coding.item(b"", tag=ITEM_END)
    forms = (
        sequence(coding.item(inner, length=len(inner) + int(rng.integers(1, 5000)))),  # over the parent's end
        sequence(coding.item(inner, length=pick(rng, (0xFFFFFFF0, 0xFFFFFFE8, 0x80000000)))),  # back to its parent
        sequence(coding.item(sequence(coding.item(inner), UNDEFINED))),  # an end that is missing, in a defined length
        sequence(coding.item(inner + ended, length=UNDEFINED), UNDEFINED),  # ends before its item
        sequence(coding.item(inner, length=UNDEFINED), UNDEFINED),  # never ends
        sequence(coding.item(coding.item(coding.item(inner))) + ended, UNDEFINED),  # items in items
        sequence(coding.item(inner), 0x7FFFFFFE),  # swallows all that follows
        sequence(item_ended * 3 + ended * 3, UNDEFINED),  # nothing but ends
        sequence(inner, len(inner)),  # no item
        sequence(coding.item(sequence(coding.item(inner), 4000)) * 2),  # a child longer than its parent
        coding.item(inner) + ended + item_ended,  # items without a sequence
    )
    return seed.dicom.with_chunks([Chunk(tag, pick(rng, forms))]).written()
