"""The map as a chart of points that a lasso or a box takes, and its legend."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ui.cards import Shown
from ui.escaping import as_html
from ui.map_points import Group, Placed

HEIGHT = 540
CONFIG = {"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": ["toImage", "autoScale2d"]}
_LEFT_OUT = "#222932"
_LONGEST_WORDS = 80
_SIGNS = {
    "circle": "\u25cf",
    "diamond": "\u25c6",
    "square": "\u25a0",
    "triangle-up": "\u25b2",
    "cross": "\u271a",
    "star": "\u2605",
}


def chart_of(placed: Placed, groups: Sequence[Group], shown: NDArray[np.bool_]) -> dict[str, Any]:
    """The figure as Plotly reads it: a trace a group, below them faintly what the filter leaves out.

    A point names its image by its number in `placed`, as `customdata`.
    """
    size = 7 if len(placed.images) <= 2000 else 5  # noqa: PLR2004 -- fewer points have more room
    traces = [_trace(placed, np.flatnonzero(~shown), _LEFT_OUT, "circle", size) | {"hoverinfo": "skip"}]
    traces += [
        _trace(placed, group.members, group.colour, group.shape, size)
        | {
            "hoverinfo": "text",
            "hovertext": [hover_of(placed.images[number]) for number in group.members],
            "customdata": group.members,
        }
        for group in sorted(groups, key=lambda one: one.named)  # what has no colour of its own lies below
    ]
    axis = {"visible": False, "fixedrange": False}
    layout = {
        "height": HEIGHT,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#0a0d12",
        "xaxis": axis,
        "yaxis": axis | {"scaleanchor": "x"},
        "dragmode": "lasso",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#161c24", "bordercolor": "#2b323c", "font": {"color": "#e6ebf1", "size": 13}},
        "newselection": {"line": {"color": "#e6ebf1"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#a2acb8", "activecolor": "#e6ebf1"},
    }
    return {"data": traces, "layout": layout}


def _trace(placed: Placed, members: NDArray[np.int64], colour: str, shape: str, size: int) -> dict[str, Any]:
    return {
        "type": "scattergl",
        "mode": "markers",
        "x": placed.places[members, 0],
        "y": placed.places[members, 1],
        "marker": {"color": colour, "size": size, "symbol": shape, "opacity": 0.85},
        "unselected": {"marker": {"opacity": 0.2}},
    }


def hover_of(image: Shown) -> str:
    """Modality, region and finding. Plotly reads a part of HTML in it, and of entities only the first ones."""
    labels = image.facts.labels
    words = (labels.modality or "modality unknown", labels.region, ", ".join(labels.pathology))
    return "<br>".join(escape(_short(word), quote=False) for word in words if word)


def legend_of(groups: Sequence[Group]) -> str:
    """HTML of the groups with their signs, colours and numbers of images."""
    rows = (
        f'<li title="{as_html(group.words)}">'
        f'<b style="color: {group.colour}" aria-hidden="true">{_SIGNS[group.shape]}</b>'
        f" {as_html(_short(group.words))} <span>{len(group.members):,}</span></li>"
        for group in groups
    )
    return f'<ul class="rs-legend" aria-label="colours">{"".join(rows)}</ul>'


def spoken_of(groups: Sequence[Group], title: str) -> str:
    """What the chart shows, for those who do not see it."""
    counts = ", ".join(f"{_short(group.words)}: {len(group.members):,}" for group in groups)
    return f"Images as points, those alike near each other, coloured by {title}. {counts}."


def numbers_of(selection: Mapping[str, Any], count: int) -> list[int]:
    """The images of the points that were taken, in order, without those that the filter leaves out.

    Args:
        selection: as the browser has sent it, which may be anything.
        count: of the images of the map.
    """
    chosen = selection.get("selection")
    points = chosen.get("points") if isinstance(chosen, Mapping) else None
    named = [point.get("customdata") for point in points or () if isinstance(point, Mapping)]
    plain: list[Any] = [one[0] if isinstance(one, list) and one else one for one in named]
    whole = [one for one in plain if type(one) in (int, float) and one == one // 1 and 0 <= one < count]
    return sorted({int(one) for one in whole})


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_WORDS else f"{line[: _LONGEST_WORDS - 1]}\u2026"
