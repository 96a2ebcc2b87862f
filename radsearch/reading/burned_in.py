"""A DICOM header -> `TextRisk`: why names and dates may be burned into the pixels (docs/rendering.md)."""

import re
from collections.abc import Sequence

from pydicom.dataset import Dataset

from radsearch.reading.elements import items_of, text_of, texts_of
from radsearch.study import TextRisk

TEXT_TAGS = (
    "BurnedInAnnotation", "ImageType", "ConversionType", "Modality", "DeidentificationMethodCodeSequence",
)  # fmt: skip

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CAPTURES = frozenset(_STORAGE + last for last in ("7", "7.1", "7.2", "7.3", "7.4"))  # all of Secondary Capture
_ULTRASOUND = frozenset(_STORAGE + last for last in ("6", "6.1", "6.2", "3", "3.1"))  # 6 and 3: retired
_CAMERAS = frozenset(_STORAGE + last for last in ("77.1.1", "77.1.1.1", "77.1.4", "77.1.4.1"))
_ULTRASOUND_MODALITIES = ("US", "IVUS")
_CAMERA_MODALITIES = ("ES", "XC")
# Conversion Type, PS3.3 C.8.6.1: digitized video, film; digital interface, workstation; scanned document, image;
# drawing. SYN, a picture that a computer has made, is none of them.
_CONVERTED = ("DV", "DI", "DF", "WSD", "SD", "SI", "DRW")
_SCREEN = re.compile(r"SCREEN[ _-]?(SAVE|SHOT|SNAPSHOT|CAPTURE|DUMP)")
_FIRST_OF_ITS_OWN = 2  # Image Type's third value and those behind it say what the modality likes, PS3.3 C.7.6.1.1.2
_CLEANED = ("DCM", "113101")  # Clean Pixel Data Option, PS3.15 E.3.1


def read_text_risk(header: Dataset, sop_class: str, *, cut_to_regions: bool) -> TextRisk | None:
    """Why text may be burned in, the first reason of several; None where the header gives none, or clears it.

    Args:
        header: has the elements of `TEXT_TAGS`.
        sop_class: of the object, or of its file where the data set lacks it.
        cut_to_regions: whether the frames are cut to their Ultrasound Regions (C.8.5.5). This helps an object of
            ultrasound only: in a capture the regions may be those of the picture that was captured.
    """
    stated = frozenset(word.upper() for word in texts_of(header, "BurnedInAnnotation"))
    reason = _reason(header, sop_class, stated, cut_to_regions=cut_to_regions)
    if reason is None:
        return None
    return TextRisk(reason, cropped=cut_to_regions and _is_ultrasound(header, sop_class))


def _reason(header: Dataset, sop_class: str, stated: frozenset[str], *, cut_to_regions: bool) -> str | None:
    if "YES" in stated:  # the element has one value, but a damaged header may have any number
        return "its header says so"
    if _is_cleaned(header):
        return None
    if any(_SCREEN.search(word.upper()) for word in texts_of(header, "ImageType")[_FIRST_OF_ITS_OWN:]):
        return "screen save"  # whatever a header says that was written before the screen was saved
    return None if stated == {"NO"} else _kind(header, sop_class, cut_to_regions=cut_to_regions)


def _kind(header: Dataset, sop_class: str, *, cut_to_regions: bool) -> str | None:
    """What the object is, where objects of its kind often have text burned in."""
    kinds = {
        "secondary capture": sop_class in _CAPTURES,
        "copy of a film, a screen or a document": text_of(header, "ConversionType").upper() in _CONVERTED,
        "ultrasound" if cut_to_regions else "ultrasound without regions": _is_ultrasound(header, sop_class),
        "camera": _is_any(header, sop_class, _CAMERAS, _CAMERA_MODALITIES),
    }
    return next((kind for kind, it_is in kinds.items() if it_is), None)


def _is_ultrasound(header: Dataset, sop_class: str) -> bool:
    return sop_class not in _CAPTURES and _is_any(header, sop_class, _ULTRASOUND, _ULTRASOUND_MODALITIES)


def _is_any(header: Dataset, sop_class: str, classes: frozenset[str], modalities: Sequence[str]) -> bool:
    return sop_class in classes or text_of(header, "Modality").upper() in modalities


def _is_cleaned(header: Dataset) -> bool:
    """Whether somebody says to have cleaned the pixels themselves of what identifies (PS3.15 E.3.1)."""
    methods = items_of(header, "DeidentificationMethodCodeSequence")
    return any((text_of(one, "CodingSchemeDesignator"), text_of(one, "CodeValue")) == _CLEANED for one in methods)
