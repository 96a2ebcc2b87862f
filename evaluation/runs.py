"""A run as it lies on the disk: `metrics.json` of the contract, every query's values as CSV, a summary, the report."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.collection import Collection
from evaluation.figures import Figures
from evaluation.metrics import Summary
from evaluation.protocols import Trial
from radsearch import __version__
from radsearch.errors import SettingsError

METRICS, QUERIES, SUMMARY, REPORT = "metrics.json", "queries.csv", "summary.txt", "report.html"
_DIGITS = 6
_TOLD = (
    "protocol", "model", "queries", "index", "dropped", "lost_classes", "classes", "shared_patients", "micro", "macro",
    "chance", "interval", "levels", "leak", "by", "contaminated", "index_recall", "studies", "source", "version",
    "made",
)  # fmt: skip
_TABLES = ("model", "dropped", "lost_classes", "chance", "interval", "levels", "by", "index_recall", "studies")
_KNOWN = ("id", "group", "classes", "modality", "region", "dataset", "nearest")  # the others are metrics


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run that was read back.

    metrics: the contract's object. ids: (queries,) of the queries. groups: (queries,) numbers that tell patients apart,
    within this run. classes: of each query. values: metric -> (queries,). nearest: ids of its first neighbours.
    """

    folder: Path
    metrics: Mapping[str, Any]
    ids: Sequence[str]
    groups: Sequence[str]
    classes: Sequence[tuple[str, ...]]
    values: Mapping[str, "np.ndarray"]
    nearest: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not of the figures themselves, and what a reader has to know beside them.

    contaminated: data sets that the model has seen in training; None where that is not known. index_recall: the part of
    the truly ten nearest that the index's own search finds; None without an index. studies: name -> what it found.
    """

    contaminated: Sequence[str] | None = None
    index_recall: float | None = None
    studies: Mapping[str, Any] = field(default_factory=dict)


def metrics_of(collection: Collection, trial: Trial, figures: Figures, around: Surroundings) -> dict[str, Any]:
    """The object of `metrics.json`: the contract's keys, and what else a reader will ask for."""
    of_labels = figures.summaries["P@1"].per_class
    return {
        "protocol": trial.protocol,
        "model": dict(collection.model),
        "queries": len(trial.queries),
        "index": len(trial.index),
        "dropped": dict(trial.dropped),
        "lost_classes": dict(trial.lost),
        "classes": len(of_labels),
        "shared_patients": trial.shared_patients,
        "micro": {name: _rounded(one.micro) for name, one in figures.summaries.items()},
        "micro_sd": {name: _rounded(one.micro_sd) for name, one in figures.summaries.items()},
        "macro": {name: _rounded(one.macro) for name, one in figures.summaries.items()},
        "macro_sd": {name: _rounded(one.macro_sd) for name, one in figures.summaries.items()},
        "chance": {"P@1": _rounded(figures.chance)},
        "interval": {name: [_rounded(one.low), _rounded(one.high)] for name, one in figures.intervals.items()},
        "levels": {
            level: {name: _means(one) for name, one in of_level.items()} for level, of_level in figures.levels.items()
        },
        "leak": None if figures.leak is None else {name: _rounded(one) for name, one in figures.leak.items()},
        "r_precision_depth": figures.r_depth,
        "by": {
            **{facet: {value: _part(*one) for value, one in parts.items()} for facet, parts in figures.by.items()},
            "label": {name: {"queries": one.queries, "P@1": _rounded(one.mean)} for name, one in of_labels.items()},
        },
        "contaminated": None if around.contaminated is None else list(around.contaminated),
        "index_recall": {"recall@10": _rounded(around.index_recall)},
        "studies": dict(around.studies),
        "source": collection.source,
        "version": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_run(
    folder: Path, collection: Collection, trial: Trial, figures: Figures, around: Surroundings | None = None
) -> dict[str, Any]:
    """Write `metrics.json`, `queries.csv` and `summary.txt`.

    Raises:
        SettingsError: the folder cannot be written.
    """
    told = metrics_of(collection, trial, figures, around or Surroundings())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS).write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / SUMMARY).write_text("\n".join(summary_lines(told)) + "\n", encoding="utf-8")
        _write_queries(folder / QUERIES, collection, trial, figures)
    except OSError as error:
        raise SettingsError(f"the run cannot be written to {folder} ({error.strerror})") from error
    return told


def read_run(folder: Path) -> Run:
    """A run that was written before.

    Raises:
        SettingsError: there is none, or it is damaged.
    """
    try:
        told = json.loads((folder / METRICS).read_text(encoding="utf-8"), parse_constant=_no_number)
        with (folder / QUERIES).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        _check(told, rows)
    except OSError as error:
        raise SettingsError(f"{folder} holds no run of an evaluation ({error.strerror})") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise SettingsError(f"the run in {folder} is damaged ({type(error).__name__})") from error
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    values = {name: np.array(columns[name], float) for name in columns if name not in _KNOWN}
    classes = [tuple(json.loads(words)) for words in columns["classes"]]
    nearest = [tuple(json.loads(words)) for words in columns["nearest"]]
    return Run(folder, told, columns["id"], columns["group"], classes, values, nearest)


def _check(told: Any, rows: Sequence[Mapping[str | None, Any]]) -> None:
    """Raises ValueError, LookupError or TypeError where a run is not all there, or something else is."""
    if len(rows) != told["queries"]:
        raise ValueError("another number of queries")
    metrics = list(told["micro"])
    for row in rows:
        if set(row) != {*_KNOWN, *metrics} or None in row.values():
            raise ValueError("another number of cells")
        if not all(0 <= float(row[name]) <= 1 for name in metrics):
            raise ValueError("a value that is none")
        if not all(isinstance(word, str) for name in ("classes", "nearest") for word in json.loads(row[name])):
            raise ValueError("a word that is none")
    if not all(math.isfinite(told[kind][name]) for kind in ("micro", "macro") for name in metrics):
        raise ValueError("a figure that is none")
    if missing := [name for name in _TOLD if name not in told]:
        raise LookupError(missing[0])
    if not all(isinstance(told[name], dict) for name in _TABLES):
        raise TypeError("no table")


def _no_number(constant: str) -> float:
    raise ValueError(constant)


def summary_lines(told: Mapping[str, Any]) -> list[str]:
    """The run in a few lines of plain text."""
    lines = [
        f"{told['protocol']}, {told['model'].get('model')}",
        f"{told['queries']:,} queries of {told['classes']} classes against {told['index']:,} images",
        f"chance: P@1 {told['chance']['P@1']:.3f}",
    ]
    for name, micro in told["micro"].items():
        low_high = told["interval"].get(name)
        interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
        lines.append(f"{name}: {micro:.3f}{interval}, macro {told['macro'][name]:.3f}")
    lines += [
        f"{level}: P@1 {one['P@1']['micro']:.3f}, macro {one['P@1']['macro']:.3f}"
        for level, one in told["levels"].items()
    ]
    if told["leak"]:
        lines.append(f"with the query's own patient allowed: P@1 {told['leak']['P@1']:.3f}")
    if told["contaminated"]:
        lines.append(f"CONTAMINATED: the model was trained on {', '.join(told['contaminated'])}")
    if told["index_recall"]["recall@10"] is not None:
        lines.append(f"the index's own search finds {told['index_recall']['recall@10']:.4f} of the ten nearest")
    if told["shared_patients"]:
        lines.append(f"{told['shared_patients']:,} patients have images among the queries and in the index")
    lines += [f"left out: {number:,} images: {reason}" for reason, number in told["dropped"].items()]
    lines += [f"  {name}: {number:,} without an image to be found" for name, number in told["lost_classes"].items()]
    return lines


def _write_queries(file: Path, collection: Collection, trial: Trial, figures: Figures) -> None:
    groups: dict[str, int] = {}
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*_KNOWN, *figures.values])
        for place, row in enumerate(trial.queries):
            image = collection.images[row]
            near = [collection.images[other].id for other in figures.positions[place] if other >= 0]
            writer.writerow(
                [
                    image.id,
                    groups.setdefault(image.patient, len(groups)),  # a manifest's patients have names of their own
                    json.dumps(sorted(trial.labels["label"][row])),
                    *(image.facts.get(name, "") for name in ("modality", "region", "dataset")),
                    json.dumps(near),
                    *(f"{of_query[place]:.9g}" for of_query in figures.values.values()),
                ]
            )


def _part(queries: int, summary: Summary) -> dict[str, Any]:
    return {"queries": queries, "P@1": _rounded(summary.micro), "macro P@1": _rounded(summary.macro)}


def _means(summary: Summary) -> dict[str, float | None]:
    return {"micro": _rounded(summary.micro), "macro": _rounded(summary.macro)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
