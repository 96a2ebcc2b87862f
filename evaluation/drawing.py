"""Pieces of a report: tables, a curve and bars, as HTML and SVG; every word is escaped here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from evaluation.intervals import Interval

_COLOURS = ("#1f5f99", "#b5651d")
_BAR = 22  # from one to the next
_LEFT, _WIDE = 300, 360


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from 0 to `value`, at most 1, with its interval where there is one."""

    name: str
    value: float
    interval: Interval | None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is words and whose others are numbers."""
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{heading}</tr>{body}</table>"


def curves(lines: Mapping[str, Mapping[int, float]], label: str) -> str:
    """Lines over a few whole numbers, from 0 to 1.

    Args:
        lines: name -> x -> y; all have the same x.
        label: for who does not see it.
    """
    cuts = list(next(iter(lines.values())))
    width, height, left, low = 460, 220, 40, 190
    across = {k: left + 30 + place * (width - left - 60) / max(1, len(cuts) - 1) for place, k in enumerate(cuts)}
    shapes = [_rule(value, left, width, low) for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    shapes += [f'<text x="{x}" y="{height - 8}" text-anchor="middle">{k}</text>' for k, x in across.items()]
    for (name, line), colour in zip(lines.items(), _COLOURS, strict=False):
        points = [(across[k], _up(line[k], low)) for k in cuts]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        shapes.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return _svg(width + 40, height, label, shapes)


def bars(rows: Sequence[Bar], label: str) -> str:
    """Bars below each other, with their names, values and intervals."""
    shapes = [_bar(row, place * _BAR + 4) for place, row in enumerate(rows)]
    return _svg(_LEFT + _WIDE + 60, len(rows) * _BAR + 8, label, shapes)


def _bar(row: Bar, y: int) -> str:
    shapes = (
        f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(row.name)}</text>'
        f'<rect x="{_LEFT}" y="{y}" width="{row.value * _WIDE:.1f}" height="16" fill="#8fb3d1"/>'
        f'<text x="{_LEFT + _WIDE + 14}" y="{y + 13}">{row.value:.2f}</text>'
    )
    if row.interval is None:
        return shapes
    low, high = (_LEFT + bound * _WIDE for bound in (row.interval.low, row.interval.high))
    line = f'x1="{low:.1f}" x2="{high:.1f}" y1="{y + 8}" y2="{y + 8}"'
    return f'{shapes}<line {line} stroke="#1f3f5f" stroke-width="2"/>'


def _rule(value: float, left: int, width: int, low: int) -> str:
    y = _up(value, low)
    line = f'<line x1="{left}" x2="{width - 10}" y1="{y}" y2="{y}" stroke="#ddd"/>'
    return f'{line}<text x="{left - 8}" y="{y + 4}" text-anchor="end">{value:.1f}</text>'


def _up(value: float, low: int) -> float:
    return round(low - value * (low - 15), 1)


def _svg(width: int, height: int, label: str, shapes: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(shapes)}</svg>'
