"""The commands of `python -m radsearch`, a file each; what several of them share."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from radsearch.cells import printable
from radsearch.settings import Settings, load_settings


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings, with the index that the command line names."""
    settings = load_settings()
    return replace(settings, index=options.index) if getattr(options, "index", None) else settings


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in columns; the first row is the heading."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
