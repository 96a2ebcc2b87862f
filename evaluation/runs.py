"""A run as it lies on the disk: `metrics.json` of the contract, every query's values as CSV, a summary, the report."""

import csv
import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.collection import Collection
from evaluation.contamination import Training
from evaluation.contract import check_metrics
from evaluation.figures import Figures
from evaluation.protocols import Trial
from evaluation.summary import Summary
from radsearch import __version__
from radsearch.errors import SettingsError

METRICS, QUERIES, SUMMARY, REPORT = "metrics.json", "queries.csv", "summary.txt", "report.html"
_DIGITS = 6
LISTED = "listed"  # the images that a study names
_NEEDED = frozenset({"P@1", "P@10", "mAP@10"})  # by reports and comparisons
_KNOWN = ("id", "group", "classes", "modality", "region", "dataset", "nearest", "nearest_classes")  # others: metrics
_LARGEST_FIELD = 1 << 27  # characters: ten names of files, each as long as a manifest's cell may be
_SHOWN = 5  # neighbours of whom the classes are written


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run that was read back.

    metrics: the contract's object. ids: (queries,) of the queries. groups: (queries,) numbers that tell patients apart,
    within this run. classes: of each query. values: metric -> (queries,). nearest: ids of its ten first neighbours.
    found: classes of the first five of these.
    """

    folder: Path
    metrics: Mapping[str, Any]
    ids: Sequence[str]
    groups: Sequence[str]
    classes: Sequence[tuple[str, ...]]
    values: Mapping[str, "np.ndarray"]
    nearest: Sequence[tuple[str, ...]]
    found: Sequence[tuple[tuple[str, ...], ...]]


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
        folder.mkdir(parents=True, exist_ok=True)
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


def read_run(folder: Path) -> Run:
    """A run that was written before.

    Raises:
        SettingsError: there is none, or it is damaged.
    """
    try:
        told = json.loads((folder / METRICS).read_text(encoding="utf-8"), parse_constant=_no_number)
        json.dumps(told, ensure_ascii=False).encode()  # half a character can be neither printed nor drawn
        check_metrics(told, _NEEDED)
        columns = _read_queries(folder / QUERIES, list(told["micro"]), told["queries"])
    except OSError as error:
        raise SettingsError(f"{folder} holds no run of an evaluation ({error.strerror})") from error
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise SettingsError(f"the run in {folder} is damaged ({type(error).__name__})") from error
    values = {name: np.array(of_query) for name, of_query in columns.values.items()}
    return Run(folder, told, columns.ids, columns.groups, columns.classes, values, columns.nearest, columns.found)


@dataclass(slots=True)
class _Columns:
    values: dict[str, "array[float]"]
    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    classes: list[tuple[str, ...]] = field(default_factory=list)
    nearest: list[tuple[str, ...]] = field(default_factory=list)
    found: list[tuple[tuple[str, ...], ...]] = field(default_factory=list)


def _read_queries(file: Path, metrics: Sequence[str], queries: int) -> _Columns:
    """The queries, row by row: of words that come again one copy is kept.

    Raises:
        ValueError or TypeError: a row is not all there, or holds something else.
    """
    csv.field_size_limit(_LARGEST_FIELD)
    columns = _Columns({name: array("d") for name in metrics})
    words: dict[Any, Any] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if set(row) != {*_KNOWN, *metrics} or None in row.values():
                raise ValueError("another number of cells")
            for name, of_query in columns.values.items():
                of_query.append(_part_of_one(row[name]))
            several = [_words(json.loads(row[name]), words) for name in ("classes", "nearest")]
            found = tuple(_words(one, words) for one in json.loads(row["nearest_classes"]))
            if not several[0] or not all(found) or len(found) > len(several[1]):
                raise ValueError("a query or a neighbour without a class, or classes of no neighbour")
            columns.ids.append(words.setdefault(row["id"], row["id"]))
            columns.groups.append(words.setdefault(row["group"], row["group"]))
            columns.classes.append(several[0])
            columns.nearest.append(several[1])
            columns.found.append(words.setdefault(found, found))
    if not len(columns.ids) == len(set(columns.ids)) == queries:
        raise ValueError("another number of queries, or one of them twice")
    return columns


def _words(several: Any, known: dict[Any, Any]) -> tuple[str, ...]:
    if not isinstance(several, list) or not all(isinstance(word, str) for word in several):
        raise TypeError("no list of words")
    "".join(several).encode()  # half a character can be neither printed nor drawn
    kept = tuple(known.setdefault(word, word) for word in several)
    return known.setdefault(kept, kept)  # type: ignore[no-any-return]  # it is the same tuple, or one that equals it


def _part_of_one(cell: str) -> float:
    value = float(cell)
    if not 0 <= value <= 1:
        raise ValueError("a value that is none")
    return value


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
    if unknown := unknown_training(told):
        lines.append(unknown)
    if told["index_recall"]["recall@10"] is not None:
        lines.append(f"the index's own search finds {told['index_recall']['recall@10']:.4f} of the ten nearest")
    if told["shared_patients"]:
        lines.append(f"{told['shared_patients']:,} patients have images among the queries and in the index")
    lines += [f"left out: {number:,} images: {reason}" for reason, number in told["dropped"].items()]
    lines += [f"  {name}: {number:,} without an image to be found" for name, number in told["lost_classes"].items()]
    return lines


def without_ids(found: Any) -> Any:
    """What a study found, to be shown: without the lists of images, as an id may be a file's name."""
    if isinstance(found, dict):
        return {name: without_ids(value) for name, value in found.items() if name != LISTED}
    return found


def unknown_training(told: Mapping[str, Any]) -> str | None:
    """What a reader has to be told where it is not known whether the model has seen these images in training."""
    if told["contaminated"] is None:
        return "it is not known what the model was trained on: it may have seen these images"
    if told["training_unknown"]:
        return f"the model may have seen {told['training_unknown']:,} of the images in training: it is not known"
    return None


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
        writer.writerow([*_KNOWN, *figures.values])
        for place, row in enumerate(trial.queries):
            image = collection.images[row]
            near = [other for other in figures.positions[place].tolist() if other >= 0]
            writer.writerow(
                [
                    image.id,
                    groups.setdefault(image.patient, len(groups)),  # a manifest's patients have names of their own
                    json.dumps(sorted(trial.labels["label"][row])),
                    *(image.facts.get(name, "") for name in ("modality", "region", "dataset")),
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
