"""Two or more runs over the same queries, paired: what they differ by, and whether that is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.checks import Values
from evaluation.intervals import Difference, corrected, difference_of
from evaluation.stored import Run
from radsearch.cells import printable
from radsearch.commands import table
from radsearch.errors import NothingToSearchError, SettingsError

COMPARED = ("P@1", "P@10", "mAP@10")


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """Of one class: the mean difference, and how many queries the second run won and lost."""

    name: str
    queries: int
    mean: float
    won: int
    lost: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against the first one.

    metric: that was compared. common: queries that both have. only: queries of one of them alone. difference: second
    less first, its p corrected for the number of tests (Holm). by_class: classes, from the greatest loss to the
    greatest gain. apart: ids of the queries on which they differ most, with the difference. same_index: whether both
    searched the same images with the same classes.
    """

    first: str
    second: str
    metric: str
    common: int
    only: int
    difference: Difference
    by_class: Sequence[ClassDifference]
    apart: Sequence[tuple[str, float]]
    same_index: bool


def compare(runs: Sequence[Run], metrics: Sequence[str] = COMPARED, *, most_apart: int = 10) -> list[Comparison]:
    """Each run against the first one, by each metric.

    Raises:
        SettingsError: fewer than two runs, or runs of other protocols, or of one finding beside several.
        NothingToSearchError: two runs have no query in common, or only those of one patient.
    """
    if len(runs) < 2:  # noqa: PLR2004 -- one and another
        raise SettingsError("a comparison needs two runs or more")
    protocols = {run.metrics["protocol"] for run in runs}
    if len(protocols) > 1:
        raise SettingsError(f"the runs are of several protocols: {', '.join(sorted(protocols))}")
    if len({run.metrics["single_label"] for run in runs}) > 1:
        raise SettingsError("the runs are of several protocols: only some of them leave images of several findings out")
    pairs = [_pair(runs[0], run, metric, most_apart) for run in runs[1:] for metric in metrics]
    p_values = corrected([pair.difference.p for pair in pairs])
    return [replace(pair, difference=replace(pair.difference, p=p)) for pair, p in zip(pairs, p_values, strict=True)]


def comparison_lines(comparison: Comparison) -> list[str]:
    """A comparison in plain text, with its table of classes."""
    rows = table([("class", "queries", "mean", "won", "lost"), *class_rows(comparison)])
    return [*headlines(comparison), *(f"  {line}" for line in rows.split("\n"))]


def headlines(comparison: Comparison) -> list[str]:
    """The difference, and what a reader has to know of it."""
    one = comparison.difference
    interval = f"[{one.interval.low:+.4f}, {one.interval.high:+.4f}]"
    lines = [
        f"{comparison.metric}: {comparison.second} less {comparison.first}: {one.mean:+.4f} {interval}",
        f"  p = {one.p:.4f} (permutation of patients, corrected), {comparison.common:,} queries",
    ]
    if not comparison.same_index:
        lines.append("  THEY SEARCHED OTHER IMAGES, or other classes: the difference is not of the models alone")
    if comparison.only:
        lines.append(f"  {comparison.only:,} queries are in one of the two runs only and were left out")
    return [printable(line) for line in lines]


def class_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The win/loss table: class, queries, mean difference, queries that the second run won and lost."""
    return [
        (row.name, str(row.queries), f"{row.mean:+.4f}", str(row.won), str(row.lost)) for row in comparison.by_class
    ]


def _pair(first: Run, second: Run, metric: str, most_apart: int) -> Comparison:
    places = {point: place for place, point in enumerate(second.ids)}
    common = [(place, places[point]) for place, point in enumerate(first.ids) if point in places]
    if not common or metric not in first.values or metric not in second.values:
        raise NothingToSearchError(f"{first.folder} and {second.folder} have no query with {metric} in common")
    here, there = (np.array(side) for side in zip(*common, strict=True))
    if any(first.classes[here_] != second.classes[there_] for here_, there_ in common):
        raise NothingToSearchError(f"{first.folder} and {second.folder} give the same queries other classes")
    before, after = first.values[metric][here], second.values[metric][there]
    try:
        difference = difference_of(before, after, [first.groups[place] for place in here])
    except ValueError as error:
        raise NothingToSearchError(f"{first.folder} and {second.folder}: {error}") from error
    delta = after - before
    order = np.argsort(-np.abs(delta), kind="stable")[:most_apart]
    return Comparison(
        name_of(first),
        name_of(second),
        metric,
        len(common),
        len(first.ids) + len(second.ids) - 2 * len(common),
        difference,
        _by_class([first.classes[place] for place in here], delta),
        [(first.ids[here[place]], float(delta[place])) for place in order if delta[place]],
        first.metrics["index_state"] == second.metrics["index_state"],
    )


def name_of(run: Run) -> str:
    """What to call a run: its model and its folder, which no other one has."""
    return f"{run.metrics['model'].get('model', '?')} ({run.folder})"


def _by_class(classes: Sequence[tuple[str, ...]], delta: Values) -> list[ClassDifference]:
    rows = []
    for name in sorted({name for several in classes for name in several}):
        of_class = delta[[name in several for several in classes]]
        won, lost = int((of_class > 0).sum()), int((of_class < 0).sum())
        rows.append(ClassDifference(name, len(of_class), float(of_class.mean()), won, lost))
    return sorted(rows, key=lambda row: (row.mean, row.name))
