"""Damage to what a DICOM header says: values that contradict the pixels, each other or sense.

Every function takes a DICOM `Seed` and a generator of chance and returns a whole file.
"""

import struct

import numpy as np
from mutant_anatomy import PIXEL_DATA, Chunk, Coding, Seed, patched, pick

TEXT_VRS = {b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UI", b"UT"}
# What the pixels are said to be: tag, VR, values.
DESCRIPTIONS = (
    (0x00280010, "US", (0, 1, 2, 3, 7, 513, 4096, 65535)),  # Rows
    (0x00280011, "US", (0, 1, 2, 3, 7, 513, 4096, 65535)),  # Columns
    (0x00280100, "US", (0, 1, 7, 8, 12, 16, 24, 32, 64, 65535)),  # BitsAllocated
    (0x00280101, "US", (0, 1, 7, 8, 12, 16, 17, 32, 65535)),  # BitsStored
    (0x00280102, "US", (0, 3, 7, 11, 15, 16, 31, 65535)),  # HighBit
    (0x00280103, "US", (0, 1, 2, 65535)),  # PixelRepresentation
    (0x00280002, "US", (0, 1, 2, 3, 4, 65535)),  # SamplesPerPixel
    (0x00280006, "US", (0, 1, 2, 65535)),  # PlanarConfiguration
    (0x00280008, "IS", ("0", "-1", "2", "7", "1000000", "2147483647", "1.5", "many", "", "1\\2")),  # NumberOfFrames
    (
        0x00280004,
        "CS",
        (
            "MONOCHROME1",
            "RGB",
            "YBR_FULL",
            "YBR_FULL_422",
            "YBR_RCT",
            "PALETTE COLOR",
            "XYB",
            "HSV",
            "",
            "RGB\\YBR_FULL",
        ),
    ),
)
NUMBERS = ("0", "-1", "nan", "inf", "-inf", "1e400", "1e-320", "0.5", "wide", "", "1\\2\\3", "9" * 60)
# How pixels are measured, scaled and shown.
SCALES = (
    (
        0x00280030,
        "DS",
        ("0\\0", "-1\\1", "wide\\tall", "1", "1e308\\1e-308", "nan\\nan", "1\\1\\1", ""),
    ),  # PixelSpacing
    (0x00181164, "DS", ("0\\0", "-1\\1", "1\\inf", "x")),  # ImagerPixelSpacing
    (0x00280034, "IS", ("0\\1", "1\\0", "-4\\3", "99999999\\1", "1\\99999999", "4", "a\\b")),  # PixelAspectRatio
    (0x00281050, "DS", NUMBERS),  # WindowCenter
    (0x00281051, "DS", NUMBERS),  # WindowWidth
    (0x00281056, "CS", ("SIGMOID", "LINEAR_EXACT", "CUBIC")),  # VOILUTFunction
    (0x00281053, "DS", NUMBERS),  # RescaleSlope
    (0x00281052, "DS", NUMBERS),  # RescaleIntercept
    (0x00280120, "SS", (-32768, 0, 40000)),  # PixelPaddingValue
    (0x00280120, "FD", (float("nan"), 1e300)),
    (0x00280120, "LO", ("none", "")),
    (0x00280121, "US", (0, 65535)),  # PixelPaddingRangeLimit
    (0x20500020, "CS", ("INVERSE", "SIDEWAYS")),  # PresentationLUTShape
)


def contradictory_description(seed: Seed, rng: np.random.Generator) -> bytes:
    return _contradicting(seed, rng, DESCRIPTIONS)


def contradictory_scale(seed: Seed, rng: np.random.Generator) -> bytes:
    return _contradicting(seed, rng, SCALES)


def _contradicting(seed: Seed, rng: np.random.Generator, table: tuple) -> bytes:
    dicom = seed.dicom
    for _ in range(int(rng.integers(1, 4))):
        tag, vr, values = pick(rng, table)
        dicom = dicom.with_element(tag, vr, encoded(dicom.coding, vr, pick(rng, values)))
    return dicom.written()


def encoded(coding: Coding, vr: str, value: float | str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if vr == "FD":
        return struct.pack("<d" if coding.order == "little" else ">d", value)
    return coding.number(int(value), {"US": 2, "SS": 2, "UL": 4}[vr])


def huge_declared(seed: Seed, rng: np.random.Generator) -> bytes:
    """65535 x 65535, 2**31 - 1 frames, or both, with the pixels of a small picture."""
    dicom, which = seed.dicom, int(rng.integers(1, 4))
    rows, columns = (dicom.coding.number(pick(rng, (65535, int(rng.integers(50_000, 65535)))), 2) for _ in range(2))
    if which & 1:
        dicom = dicom.with_element(0x00280010, "US", rows).with_element(0x00280011, "US", columns)
    if which & 2:
        frames = pick(rng, (b"2147483647", str(rng.integers(10**6, 2**31)).encode(), b"4294967297"))
        dicom = dicom.with_element(0x00280008, "IS", frames)
    if rng.integers(2):
        dicom = dicom.with_element(0x00280100, "US", dicom.coding.number(64, 2))
    return dicom.written()


def charset_damaged(seed: Seed, rng: np.random.Generator) -> bytes:
    """Bytes of chance in text elements, and half the time a character set that no one knows."""
    dicom = seed.dicom
    if rng.integers(2):
        names = (
            b"ISO 2022 IR 87\\ISO_IR 192",
            b"GB18030\\x",
            b"latin-9",
            b"\xff\xfe",
            b"\\" * 50,
            b"idna",
            b"zlib",
            b"",
        )
        dicom = dicom.with_element(0x00080005, "CS", pick(rng, names))
    body = dicom.body
    texts = [element for element in dicom.elements if element.vr in TEXT_VRS and element.length]
    for _ in range(int(rng.integers(1, 11))):
        element = pick(rng, texts)
        body = patched(body, element.value_at, rng.bytes(element.length))
    return dicom.written(body)


def lut_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """A modality or VOI LUT whose descriptor and values have nothing to do with each other."""
    coding = seed.dicom.coding
    item = coding.element(0x00283002, "US", _descriptor(coding, rng))
    if rng.integers(5):
        item += coding.element(0x00283006, "OW", rng.bytes(2 * int(rng.integers(300))))
    tags = pick(rng, ((0x00283000,), (0x00283010,), (0x00283000, 0x00283010)))
    return seed.dicom.with_chunks([Chunk(tag, coding.sequence(tag, [item])) for tag in tags]).written()


def palette_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """Palettes shorter than they say, of unlike sizes, segmented into nonsense, or missing."""
    dicom, coding = seed.dicom, seed.dicom.coding
    if rng.integers(4):
        dicom = dicom.with_element(0x00280004, "CS", b"PALETTE COLOR").with_element(
            0x00280002, "US", coding.number(1, 2)
        )
    for colour in range(3):
        if rng.integers(6):
            dicom = dicom.with_element(0x00281101 + colour, "US", _descriptor(coding, rng))
        if rng.integers(6):
            tag = pick(rng, (0x00281201, 0x00281201, 0x00281221)) + colour
            dicom = dicom.with_element(tag, "OW", rng.bytes(2 * int(rng.integers(300))))
    return dicom.written()


def _descriptor(coding: Coding, rng: np.random.Generator) -> bytes:
    """Entries, first value, bits (PS3.3 C.11.1.1.1): some right, most not."""
    entries, first, bits = (0, 1, 2, 256, 65535), (0, 1, 32768, 65535), (0, 7, 8, 16, 17, 99, 65535)
    values = [pick(rng, entries), pick(rng, first), pick(rng, bits)][: pick(rng, (0, 1, 2, 3, 3, 3))]
    return b"".join(coding.number(value, 2) for value in values)


def ultrasound_regions_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """Regions outside of the picture, inverted, negative, empty or too many; units and deltas that cannot be."""
    coding = seed.dicom.coding
    edges = (0, 1, 10, 40, 65535, -1, -(2**31), 2**31 - 1, 2**32 - 1)
    items = []
    for _ in range(pick(rng, (0, 1, 1, 2, 3, 500))):
        parts = [coding.element(0x00186018 + 2 * side, "UL", coding.number(pick(rng, edges), 4)) for side in range(4)]
        parts += [
            coding.element(tag, "US", coding.number(pick(rng, (0, 1, 3, 65535)), 2)) for tag in (0x00186024, 0x00186026)
        ]
        deltas = (0.0, -0.05, 1e-320, 1e308, float("nan"), float("inf"))
        parts += [
            coding.element(tag, "FD", encoded(coding, "FD", pick(rng, deltas))) for tag in (0x0018602C, 0x0018602E)
        ]
        items.append(b"".join(part for part in parts if rng.integers(12)))
    return seed.dicom.with_chunks([Chunk(0x00186011, coding.sequence(0x00186011, items))]).written()


def frame_pointer_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """FrameIncrementPointer to a tag that is missing, to itself, to the pixels, or to vectors of another length."""
    dicom, coding = seed.dicom, seed.dicom.coding
    target = pick(rng, (0x00181065, 0x00280009, PIXEL_DATA, 0x00540010, 0x00091001, 0xFFFEE000))
    dicom = dicom.with_element(0x00280009, "AT", coding.tag(target) * pick(rng, (1, 2, 100)))
    dicom = dicom.with_element(0x00280008, "IS", pick(rng, (b"1", b"2", b"3", b"40")))
    if rng.integers(2):
        dicom = dicom.with_element(0x00181065, "DS", pick(rng, (b"0\\-5", b"nan", b"1\\" * 300 + b"1", b"")))
    return dicom.written()


def functional_groups_nonsense(seed: Seed, rng: np.random.Generator) -> bytes:
    """Functional groups of too few, too many or empty frames, or with a spacing and window that cannot be."""
    coding = seed.dicom.coding
    spacing = coding.element(0x00280030, "DS", pick(rng, (b"0\\0", b"-1\\1", b"x", b"1e400\\1")))
    measures = coding.sequence(0x00289110, [spacing])
    width = coding.element(0x00281051, "DS", pick(rng, (b"0", b"nan", b"-5", b"1e400")))
    window = coding.sequence(0x00289132, [coding.element(0x00281050, "DS", b"1") + width])
    scale = coding.sequence(0x00289145, [coding.element(0x00281053, "DS", pick(rng, (b"0", b"inf", b"x")))])
    group = b"".join(part for part in (measures, window, scale) if rng.integers(3))
    items = pick(rng, ([], [group], [b""] * 10, [b""] * 20_000, [group] * 10, [group, b""] * 5))
    tag = pick(rng, (0x52009229, 0x52009230, 0x52009230))
    return seed.dicom.with_chunks([Chunk(tag, coding.sequence(tag, items))]).written()
