"""What passes the filter, as bars; a click on one takes its value into the filter."""

from collections.abc import Mapping
from typing import Any, Literal

import altair as alt
import streamlit as st

from ui import session
from ui.filters import TITLES, WORD_FACETS, Counts, Overview

_MOST_BARS = 8


def show_charts(overview: Overview) -> None:
    """One chart for each facet that is known of any image."""
    facets = {name: overview.by_facet[name] for name in WORD_FACETS if overview.by_facet[name]}
    with st.expander("What the index holds", expanded=True, key="charts"):
        grid = st.grid("auto", min_column_width=220)
        for name, counts in facets.items():
            with grid.cell():
                _chart(name, counts)


def _chart(name: str, counts: Counts) -> None:
    clicks = st.session_state.setdefault("clicks", 0)  # a chart forgets its selection with its key
    key = f"chart-{name}-{clicks}"
    more = len(counts) - _MOST_BARS
    st.caption(TITLES.get(name, name) + (f", the {_MOST_BARS} most frequent of {len(counts)}" if more > 0 else ""))
    st.altair_chart(
        bars_of(counts, getattr(session.current(), name)),
        key=key,
        on_select=lambda: _take(name, st.session_state[key]),
        selection_mode="bar",
        alt=f"Number of images by {TITLES.get(name, name)}",
    )


def bars_of(counts: Counts, chosen: tuple[str, ...], *, clickable: bool = True) -> alt.Chart:
    """A bar a value, most images first; those of the filter are lighter."""
    rows = [
        {"value": str(value), "images": count, "in filter": str(value) in chosen}
        for value, count in list(counts.items())[:_MOST_BARS]
    ]
    colour = alt.condition("datum['in filter']", alt.value("#9fd0f7"), alt.value("#3d7fb5"))
    cursor: Literal["pointer", "default"] = "pointer" if clickable else "default"
    chart: alt.Chart = alt.Chart(alt.InlineData(values=rows)).mark_bar(cursor=cursor, height={"band": 0.8}).encode(
        x=alt.X("images:Q", title=None, axis=alt.Axis(tickCount=3, format="~s")),
        y=alt.Y("value:N", sort=None, title=None, axis=alt.Axis(labelLimit=150, labelOverlap=False)),
        color=colour,
        tooltip=[alt.Tooltip("value:N"), alt.Tooltip("images:Q", format=",")],
    )  # fmt: skip
    chart = chart.properties(height=alt.Step(20))
    return chart.add_params(alt.selection_point(name="bar", fields=["value"])) if clickable else chart


def values_of(selection: Mapping[str, Any]) -> list[str]:
    """The values of the bars that were clicked."""
    points = selection.get("selection", {}).get("bar", [])
    return [str(point["value"]) for point in points if isinstance(point, Mapping) and "value" in point]


def _take(name: str, selection: Mapping[str, Any]) -> None:
    state = session.current()
    held = getattr(state, name)
    for value in values_of(selection):
        held = tuple(one for one in held if one != value) if value in held else (*held, value)
    session.change(state.having(**{name: held}))
    st.session_state["clicks"] += 1
