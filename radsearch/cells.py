"""Cells of a CSV that people open in a spreadsheet, where one that begins like a formula would be one (OWASP)."""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_QUOTED = re.compile(r"'+[=+\-@\t\r\n]")


def as_cell(text: str) -> str:
    """The text behind an apostrophe where a spreadsheet would take it for a formula; `from_cell` takes that off."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text that `as_cell` was given."""
    return cell[1:] if _QUOTED.match(cell) else cell
