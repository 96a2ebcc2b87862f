"""Cells of a CSV: never a formula, and read back as they were."""

import pytest

from radsearch.cells import as_cell, from_cell


def test_what_begins_like_a_formula_is_quoted() -> None:
    assert as_cell("=1+1") == "'=1+1"
    assert as_cell("Edema") == "Edema"


@pytest.mark.parametrize(
    "text", ["", "'", "Edema", "'tis", "=1", "'=1", "''@x", "+1", "-1", "@a", "\tx", "\rx", "\nx", "a=1"]
)
def test_a_text_comes_back(text: str) -> None:
    assert from_cell(as_cell(text)) == text
    assert as_cell(text)[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}
