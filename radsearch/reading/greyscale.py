"""A DICOM header -> `Greyscale`: how the stored values of one frame are to be shown."""

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from radsearch.reading.elements import items_of, number_of, text_of, whole_number_of
from radsearch.reading.functional_groups import group_with
from radsearch.reading.opening import is_little_endian
from radsearch.reading.vocabulary import MODALITIES
from radsearch.study import Greyscale, LookupTable

GREYSCALE_TAGS = (
    "Modality", "BitsStored", "BitsAllocated", "PixelRepresentation", "PhotometricInterpretation",
    "PresentationLUTShape", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence",
    "VOILUTFunction", "WindowCenter", "WindowWidth", "PixelPaddingValue", "PixelPaddingRangeLimit",
)  # fmt: skip

_WHOLE_16_BITS = 1 << 16
_DESCRIPTOR_VALUES = 3
_MOST_TABLE_BITS = 16
_VOI_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def read_greyscale(header: Dataset, frame_index: int) -> Greyscale:
    """Take the steps of PS3.3 C.11 from the header, for one frame (index from 0) of a monochrome image.

    Enhanced objects keep rescale and window in the functional groups, per frame or shared (C.7.6.16).
    """
    modality = text_of(header, "Modality").upper()
    rescale = group_with(header, frame_index, "PixelValueTransformationSequence", "RescaleSlope")
    voi = group_with(header, frame_index, "FrameVOILUTSequence", "WindowCenter")
    stored_bits = whole_number_of(header, "BitsStored") or whole_number_of(header, "BitsAllocated") or 8
    voi_tables = group_with(header, frame_index, "FrameVOILUTSequence", "VOILUTSequence")
    modality_lut = _table(header, items_of(header, "ModalityLUTSequence"), may_be_negative=_is_signed(header))
    function = text_of(voi, "VOILUTFunction").upper()
    function = function if function in _VOI_FUNCTIONS else "LINEAR"
    slope, intercept = number_of(rescale, "RescaleSlope") or 1.0, number_of(rescale, "RescaleIntercept") or 0.0
    negative = modality_lut is None and (_is_signed(header) or intercept < 0 or slope < 0)
    return Greyscale(
        bits_stored=stored_bits,
        modality=modality if modality in MODALITIES else None,
        rescale_slope=slope,
        rescale_intercept=intercept,
        modality_lut=modality_lut,
        voi_lut=_table(header, items_of(voi_tables, "VOILUTSequence"), may_be_negative=negative),
        window=_window(voi, function),
        voi_function=function,
        inverted=_inverted(header),
        padding=_padding(header),
    )


def _window(header: Dataset, function: str) -> tuple[float, float] | None:
    """The first window, or None where there is none or its width is not allowed (real series have 0).

    LINEAR asks for a width of 1 at least (C.11.2.1.2.1), the others for one above 0 (C.11.2.1.3).
    """
    centre, width = number_of(header, "WindowCenter"), number_of(header, "WindowWidth")
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    return centre, width


def _inverted(header: Dataset) -> bool:
    shape = text_of(header, "PresentationLUTShape").upper()
    if shape in ("IDENTITY", "INVERSE"):
        return shape == "INVERSE"
    return text_of(header, "PhotometricInterpretation").upper() == "MONOCHROME1"


def _padding(header: Dataset) -> tuple[int, int] | None:
    """Stored values, first and last, that stand for no picture (PS3.3 C.7.5.1.1.2).

    A value written with the other sign than the pixels have (63536 for -2000) is put right.
    """
    value = number_of(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = number_of(header, "PixelPaddingRangeLimit")
    span = 1 << (whole_number_of(header, "BitsAllocated") or 16)
    lowest = -span // 2 if _is_signed(header) else 0
    low, high = sorted((int(end) - lowest) % span + lowest for end in (value, value if limit is None else limit))
    return low, high


def _is_signed(header: Dataset) -> bool:
    return whole_number_of(header, "PixelRepresentation") == 1


def _table(header: Dataset, sequence: list[Dataset], *, may_be_negative: bool) -> LookupTable | None:
    """The first table of a sequence, or None where it is no whole one.

    may_be_negative: whether what is looked up may be below 0, so that a first value above 32767 is a negative one.
    """
    if not sequence or "LUTDescriptor" not in sequence[0] or "LUTData" not in sequence[0]:
        return None
    item = sequence[0]
    if np.size(item.LUTDescriptor) != _DESCRIPTOR_VALUES:
        return None
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    if not 1 <= bits <= _MOST_TABLE_BITS:
        return None
    entries = entries % _WHOLE_16_BITS or _WHOLE_16_BITS  # PS3.3 C.11.1.1: 0 stands for 65536; a sign is the VR's doing
    values = _table_values(item.LUTData, entries, bits, "<" if is_little_endian(header) else ">")
    if values.size == 0:
        return None
    if may_be_negative and first >= _WHOLE_16_BITS // 2:
        first -= _WHOLE_16_BITS
    return LookupTable(first, values[:entries], bits)


def _table_values(stored: Any, entries: int, bits: int, order: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """LUT Data as numbers: it comes as a list of integers, or as words in bytes (VR OW)."""
    if isinstance(stored, bytes):
        width = np.uint8 if bits <= np.iinfo(np.uint8).bits and len(stored) <= entries + 1 else np.dtype(f"{order}u2")
        return np.frombuffer(stored, dtype=width).astype(np.float64)
    return np.atleast_1d(np.asarray(stored, dtype=np.float64))
