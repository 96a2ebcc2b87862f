"""Words of others: in the cells of a CSV they may be a formula (OWASP), on a terminal an order."""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_QUOTED = re.compile(r"'+[=+\-@\t\r\n]")

_ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with a question mark for each character that a terminal obeys; tabs and line breaks stay."""
    return _ORDERS.sub("?", text)


def as_cell(text: str) -> str:
    """The text behind an apostrophe where a spreadsheet would take it for a formula; `from_cell` takes that off."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text that `as_cell` was given."""
    return cell[1:] if _QUOTED.match(cell) else cell
