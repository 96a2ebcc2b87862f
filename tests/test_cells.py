"""Words of others: in a cell of a CSV no formula, and read back as they were; on a terminal no orders."""

import pytest

from radsearch.cells import as_cell, from_cell, printable


def test_what_begins_like_a_formula_is_quoted() -> None:
    assert as_cell("=1+1") == "'=1+1"
    assert as_cell("Edema") == "Edema"


@pytest.mark.parametrize(
    "text", ["", "'", "Edema", "'tis", "=1", "'=1", "''@x", "+1", "-1", "@a", "\tx", "\rx", "\nx", "a=1"]
)
def test_a_text_comes_back(text: str) -> None:
    assert from_cell(as_cell(text)) == text
    assert as_cell(text)[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}


def test_a_terminal_gets_no_orders() -> None:
    assert printable("Edema\x1b]0;title\x07 \x9b2J\u202e") == "Edema?]0;title? ?2J?"
    assert printable("a\tb\nc é 肺") == "a\tb\nc é 肺"
