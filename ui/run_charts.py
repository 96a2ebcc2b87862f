"""Runs as pictures: P@1 over time, side by side with its 95 % interval, and by class."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from ui.run_files import RunFigures

_COLOURS = ["#5aa9e6", "#f2a65a", "#6fcf97", "#d98bd1", "#e6d35a", "#d9705f", "#7fd6d6", "#a3a8f0"]
_MOST_CLASSES = 13
_TOOLTIP = [
    alt.Tooltip("series:N"), alt.Tooltip("when:N"), alt.Tooltip("p1:Q", title="P@1", format=".3f"),
    alt.Tooltip("low:Q", format=".3f"), alt.Tooltip("high:Q", format=".3f"), alt.Tooltip("queries:Q", format=","),
    alt.Tooltip("accepted:N"),
]  # fmt: skip


def over_time(runs: Sequence[RunFigures]) -> alt.LayerChart | alt.FacetChart:
    """P@1 by date, a colour a series (model, protocol, choice of images); a ring marks an accepted run."""
    base = alt.Chart(alt.InlineData(values=[_row(run) for run in runs])).encode(
        x=alt.X(
            "made:T", title=None, scale=alt.Scale(type="utc"),
            axis=alt.Axis(tickCount=4, format="%Y-%m-%d %H:%M", labelOverlap=True),
        ),
        color=alt.Color(
            "series:N", title=None, scale=alt.Scale(range=_COLOURS),
            legend=alt.Legend(orient="bottom", columns=2, labelLimit=280, symbolType="circle", offset=4),
        ),
        tooltip=_TOOLTIP,
    )  # fmt: skip
    value = alt.Y("p1:Q", title="P@1", scale=alt.Scale(zero=False, padding=12))
    return alt.layer(
        base.mark_line(opacity=0.5).encode(y=value),
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(y=alt.Y("low:Q", title="P@1"), y2="high:Q"),
        base.mark_circle(size=60, opacity=1).encode(y=value),
        base.transform_filter("datum.accepted").mark_point(size=260, filled=False, strokeWidth=2).encode(y=value),
    ).properties(height=240)


def side_by_side(runs: Sequence[RunFigures], names: Sequence[str]) -> alt.LayerChart | alt.FacetChart:
    """A line a run: P@1 with its interval, and what chance would reach as a tick."""
    rows = [_row(run) | {"name": name} for run, name in zip(runs, names, strict=True)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, labelOverlap=False)), tooltip=_TOOLTIP
    )
    value = alt.X("p1:Q", title="P@1", scale=alt.Scale(domain=[0, 1]))
    return alt.layer(
        base.mark_rule(strokeWidth=3, color="#3d7fb5").encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_tick(color="#a2acb8", thickness=2, height=14).encode(x="chance:Q"),
        base.mark_circle(size=90, color="#9fd0f7", opacity=1).encode(x=value),
    ).properties(height=alt.Step(30))


def by_class(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> alt.Chart:
    """A dot a class and run, of the classes with the most queries; the colour says which run.

    Args:
        rows: of `ui.run_tables.class_rows`.
        names: of the runs.
    """
    values = [
        {"class": next(iter(row.values())), "queries": row["queries"], "run": name, "p1": row[name]}
        for row in rows[:_MOST_CLASSES]
        for name in names
        if row[name] is not None
    ]
    chart: alt.Chart = alt.Chart(alt.InlineData(values=values)).mark_circle(size=80, opacity=1).encode(
        x=alt.X("p1:Q", title="P@1", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(labelLimit=220, labelOverlap=False, grid=True)),
        color=alt.Color(
            "run:N", title=None, sort=None, scale=alt.Scale(range=_COLOURS),
            legend=alt.Legend(orient="bottom", columns=2, labelLimit=280, offset=4) if len(names) > 1 else None,
        ),
        tooltip=[
            alt.Tooltip("class:N"), alt.Tooltip("run:N"), alt.Tooltip("p1:Q", title="P@1", format=".3f"),
            alt.Tooltip("queries:Q", format=","),
        ],
    )  # fmt: skip
    return chart.properties(height=alt.Step(24))


def _row(run: RunFigures) -> dict[str, Any]:
    p1 = run.micro["P@1"]
    low, high = run.interval or (p1, p1)
    return {
        "series": run.series, "when": run.when, "made": run.made, "p1": p1, "low": low, "high": high,
        "queries": run.queries, "accepted": run.accepted, "chance": run.chance,
    }  # fmt: skip
