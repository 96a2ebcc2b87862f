"""A run is written: `metrics.json` of the contract, every query's values as CSV, a summary."""

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.collection import Collection
from evaluation.contamination import Training
from evaluation.figures import Figures
from evaluation.protocols import Trial
from evaluation.stored import KNOWN, METRICS, QUERIES, SUMMARY
from evaluation.summary import Summary
from evaluation.telling import summary_lines
from radsearch import __version__
from radsearch.cells import as_cell
from radsearch.errors import SettingsError

_DIGITS = 6
_SHOWN = 5  # neighbours of whom the classes are written


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not of the figures themselves, and what a reader has to know beside them.

    training: what is known of the model's. index_recall: the part of the truly ten nearest that the index's own search
    finds; None without an index.
    """

    training: Training = field(default_factory=Training)
    index_recall: float | None = None


def metrics_of(collection: Collection, trial: Trial, figures: Figures, around: Surroundings) -> dict[str, Any]:
    """The object of `metrics.json`: the contract's keys, and what else a reader will ask for."""
    of_labels = figures.summaries["P@1"].per_class
    return {
        "protocol": trial.protocol,
        "single_label": trial.single_label,
        "model": dict(collection.model),
        "queries": len(trial.queries),
        "index": len(trial.index),
        "index_state": _state_of(collection, trial),
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
            "label": {
                name: {
                    "queries": one.queries,
                    "P@1": _rounded(one.mean),
                    "same finding": _rounded(figures.same_finding[name]),
                }
                for name, one in of_labels.items()
            },
        },
        "contaminated": None if around.training.seen is None else list(around.training.seen),
        "training_unknown": around.training.unknown,
        "index_recall": {"recall@10": _rounded(around.index_recall)},
        "studies": {},
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
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_queries(folder / QUERIES, collection, trial, figures)
        (folder / SUMMARY).write_text("\n".join(summary_lines(told)) + "\n", encoding="utf-8")
        _write_metrics(folder, told)
    except OSError as error:
        raise SettingsError(f"the run cannot be written to {folder} ({error.strerror})") from error
    return told


def add_study(folder: Path, name: str, found: Mapping[str, Any]) -> None:
    """Write what a study found into the `metrics.json` of a run that `write_run` has written.

    Raises:
        SettingsError: the file cannot be written.
    """
    try:
        told = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        told["studies"][name] = found
        _write_metrics(folder, told)
    except OSError as error:
        raise SettingsError(f"the study {name} cannot be written to {folder} ({error.strerror})") from error


def _state_of(collection: Collection, trial: Trial) -> str:
    """A hash of the images that were searched and their classes: another one is another index."""
    state = hashlib.sha256()
    for row in trial.index.tolist():
        state.update(json.dumps([collection.images[row].id, sorted(trial.labels["label"][row])]).encode())
    return state.hexdigest()


def _write_metrics(folder: Path, told: Mapping[str, Any]) -> None:
    """All of it or, where that fails, what was there before."""
    content = json.dumps(told, indent=1, allow_nan=False) + "\n"
    unfinished = folder / f".{METRICS}.unfinished"
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(folder / METRICS)


def _write_queries(file: Path, collection: Collection, trial: Trial, figures: Figures) -> None:
    groups: dict[str, int] = {}
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*KNOWN, *figures.values])
        for place, row in enumerate(trial.queries):
            image = collection.images[row]
            near = [other for other in figures.positions[place].tolist() if other >= 0]
            writer.writerow(
                [
                    as_cell(image.id),
                    groups.setdefault(image.patient, len(groups)),  # a manifest's patients have names of their own
                    json.dumps(sorted(trial.labels["label"][row])),
                    *(as_cell(image.facts.get(name, "")) for name in ("modality", "region", "dataset")),
                    json.dumps([collection.images[other].id for other in near]),
                    json.dumps([sorted(trial.labels["label"][other]) for other in near[:_SHOWN]]),
                    *(f"{of_query[place]:.9g}" for of_query in figures.values.values()),
                ]
            )


def _part(queries: int, summary: Summary) -> dict[str, Any]:
    return {"queries": queries, "P@1": _rounded(summary.micro), "macro P@1": _rounded(summary.macro)}


def _means(summary: Summary) -> dict[str, float | None]:
    return {"micro": _rounded(summary.micro), "macro": _rounded(summary.macro)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
