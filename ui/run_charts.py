"""Runs as pictures: P@1 over time, and side by side, each with its 95 % interval."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from ui.run_files import RunFigures

_COLOURS = ["#5aa9e6", "#f2a65a", "#6fcf97", "#d98bd1", "#e6d35a", "#d9705f", "#7fd6d6", "#a3a8f0"]
_TOOLTIP = [
    alt.Tooltip("series:N"), alt.Tooltip("when:N"), alt.Tooltip("p1:Q", title="P@1", format=".3f"),
    alt.Tooltip("low:Q", format=".3f"), alt.Tooltip("high:Q", format=".3f"), alt.Tooltip("queries:Q", format=","),
    alt.Tooltip("accepted:N"),
]  # fmt: skip


def over_time(runs: Sequence[RunFigures]) -> alt.LayerChart | alt.FacetChart:
    """P@1 by date, a colour a series (model, protocol, choice of images); a ring marks an accepted run."""
    base = alt.Chart(alt.InlineData(values=[_row(run) for run in runs])).encode(
        x=alt.X("made:T", title=None, axis=alt.Axis(tickCount=6, labelOverlap=True)),
        color=alt.Color(
            "series:N", title=None, scale=alt.Scale(range=_COLOURS),
            legend=alt.Legend(orient="bottom", columns=1, labelLimit=420, symbolType="circle"),
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
    value = alt.X("p1:Q", title="P@1 with its 95 % interval; chance as a tick", scale=alt.Scale(domain=[0, 1]))
    return alt.layer(
        base.mark_rule(strokeWidth=3, color="#3d7fb5").encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_tick(color="#a2acb8", thickness=2, height=14).encode(x="chance:Q"),
        base.mark_circle(size=90, color="#9fd0f7", opacity=1).encode(x=value),
    ).properties(height=alt.Step(28))


def _row(run: RunFigures) -> dict[str, Any]:
    p1 = run.micro["P@1"]
    low, high = run.interval or (p1, p1)
    return {
        "series": run.series, "when": run.when, "made": run.made, "p1": p1, "low": low, "high": high,
        "queries": run.queries, "accepted": run.accepted, "chance": run.chance,
    }  # fmt: skip
