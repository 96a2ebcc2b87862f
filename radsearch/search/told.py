"""A filter as the audit keeps it: what it asks for, as far as that says nothing of one patient."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from radsearch.study import SearchFilter, Span

# Of few values each, which a search checks to be the index's own: nobody's text, no pseudonym.
CHECKED_FIELDS = ("modality", "region", "pathology", "dataset", "split", "view", "laterality", "sex", "burned_in")
NOT_TOLD = "not told"


def told_of(where: SearchFilter) -> dict[str, Any]:
    """The conditions that are set, without the query's own images and patients. Ask it of a filter that was checked.

    Fields of any values (a patient's pseudonym, a manufacturer) are named without them.
    """
    told: dict[str, Any] = {}
    for field in fields(where):
        value = getattr(where, field.name)
        if isinstance(value, Span):
            told[field.name] = [value.low, value.high]
        elif isinstance(value, Mapping):
            told |= {field.name: _values(value)} if value else {}
        elif value and not field.name.startswith("without_"):
            told[field.name] = list(value)
    return told


def _values(by_field: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    return {name: list(values) if name in CHECKED_FIELDS else NOT_TOLD for name, values in by_field.items()}
