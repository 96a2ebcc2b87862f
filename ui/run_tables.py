"""Runs as tables: their figures, and P@1 by class; rows of words and numbers that a sortable table takes."""

from collections.abc import Sequence

from ui.run_files import RunFigures
from ui.wording import told_apart

_METRICS = ("P@5", "P@10", "mAP@10")


def names_of(runs: Sequence[RunFigures]) -> list[str]:
    """What a run is called: `MODEL, 2026-11-26 14:19`, with as much more as tells it from the others."""
    for name in (_short, _long):
        names = [name(run) for run in runs]
        if len(set(names)) == len(names):
            return names
    return told_apart(map(_long, runs))


def _short(run: RunFigures) -> str:
    return f"{run.model}, {run.when}"


def _long(run: RunFigures) -> str:
    return f"{run.series}, {run.when}"


def figure_rows(runs: Sequence[RunFigures]) -> list[dict[str, object]]:
    """A row a run, in words and numbers."""
    return [
        {
            "model": run.model,
            "protocol": run.protocol + (", one finding" if run.single_label else ""),
            "date (UTC)": run.when,
            "queries": run.queries,
            "classes": run.classes,
            "P@1": run.micro["P@1"],
            "95 %": f"{run.interval[0]:.3f} to {run.interval[1]:.3f}" if run.interval else "",
            **{name: run.micro[name] for name in _METRICS},
            "macro P@1": run.macro["P@1"],
            "chance": run.chance,
            "note": ", ".join(_notes(run)),
        }
        for run in runs
    ]


def _notes(run: RunFigures) -> list[str]:
    return ["accepted"] * run.accepted + ["model was trained on these images"] * run.contaminated


def class_rows(runs: Sequence[RunFigures], names: Sequence[str], facet: str) -> list[dict[str, object]]:
    """A row a value of the facet, the most queries first: P@1 in each run, None where it has no such query.

    Args:
        runs: to be compared.
        names: of the runs, all different.
        facet: `label`, `modality`, `region` or `dataset`.
    """
    values = {value: 0 for run in runs for value in run.by[facet]}
    for value in values:
        values[value] = max(run.by[facet][value][0] for run in runs if value in run.by[facet])
    return [
        {
            "class" if facet == "label" else facet: value,
            "queries": queries,
            **{name: run.by[facet][value][1] if value in run.by[facet] else None
               for name, run in zip(names, runs, strict=True)},
        }
        for value, queries in sorted(values.items(), key=lambda one: (-one[1], one[0]))
    ]  # fmt: skip


def latest_of_each(runs: Sequence[RunFigures], most: int) -> list[RunFigures]:
    """The newest run of each model, of runs that are the newest first."""
    newest: dict[str, RunFigures] = {}
    for run in runs:
        newest.setdefault(run.model, run)
    return list(newest.values())[:most]
