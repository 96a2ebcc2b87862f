"""Elements of a header as text and numbers: pydicom decodes late, and any element may hold anything."""

import math
import re
from functools import cache
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag


@cache
def tags_of(keywords: tuple[str, ...]) -> tuple[BaseTag, ...]:
    """The tags of these keywords."""
    return tuple(Tag(keyword) for keyword in keywords)


def text_of(header: Dataset, keyword: str) -> str:
    """The first value of an element as stripped text; empty where it is absent, empty or cannot be decoded."""
    return next(iter(texts_of(header, keyword)), "")


def texts_of(header: Dataset, keyword: str) -> list[str]:
    """All values of an element as stripped texts; none where it is absent, empty, a sequence or cannot be decoded."""
    value = _value(header, keyword)
    if value is None or isinstance(value, Sequence):
        return []
    several = isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue"
    return [_text(one) for one in (value if several else [value])]


def _text(value: Any) -> str:
    """Bytes are those of an element that claims to have no characters; a null is padding wherever it stands."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return "" if value is None else str(value).strip("\0").strip()


def number_of(header: Dataset, keyword: str) -> float | None:
    """The first value as a finite number; None where it is none."""
    try:
        number = float(text_of(header, keyword))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def whole_number_of(header: Dataset, keyword: str, *, default: int = 0) -> int:
    """The first value as a whole number of 0 or more (`12`, `+12`, `12.0`); the default where it is none."""
    found = re.fullmatch(r"\+?(\d+)(\.0*)?", text_of(header, keyword))
    return int(found[1]) if found else default


def items_of(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent, empty, no sequence at all or cannot be decoded."""
    value = _value(header, keyword)
    return list(value) if isinstance(value, Sequence) else []


def _value(header: Dataset, keyword: str) -> Any:
    try:
        tag = _tag(keyword)
        return header[tag].value if tag in header else None
    except Exception:  # noqa: BLE001 -- pydicom raises whatever the bytes lead it to
        return None


@cache
def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword  # noqa: S101 -- keywords are written here, not read
    return Tag(tag)
