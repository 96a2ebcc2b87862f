"""A run as one HTML file that needs nothing else: tables, curves, bars, and pictures of the best and worst queries."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.comparison import Comparison, class_rows, headlines, name_of
from evaluation.drawing import Bar, bars, curves, table
from evaluation.intervals import interval_of
from evaluation.montage import montage, side_by_side
from evaluation.stored import REPORT, Run, read_run
from evaluation.telling import unknown_training, without_ids
from radsearch.errors import SettingsError

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; margin: .6rem 0 } th, td { padding: .15rem .8rem .15rem 0; text-align: right }
th { border-bottom: 1px solid #999; font-weight: 600 } th:first-child, td:first-child { text-align: left }
.note { color: #555 } .wrong { outline: 3px solid #c0392b } .right { outline: 3px solid #27864b }
figure { display: inline-block; margin: 4px; width: 144px; vertical-align: top; font-size: 13px; line-height: 1.3 }
figcaption { overflow-wrap: anywhere } img { width: 144px; height: 144px; object-fit: contain; background: #000 }
svg text { font: 12px system-ui, sans-serif }
"""


def write_report(folder: Path, pictures: Path | None = None) -> Path:
    """Draw a run's report into its folder.

    Args:
        folder: of the run.
        pictures: where the queries' ids are files, for the montage; None for a report without pictures.

    Raises:
        SettingsError: there is no such run, or the report cannot be written.
    """
    run = read_run(folder)
    file = folder / REPORT
    try:
        file.write_text(page_of(run, pictures), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the report {file} cannot be written ({error.strerror})") from error
    return file


def write_comparison(file: Path, runs: Sequence[Run], comparisons: Sequence[Comparison], pictures: Path | None) -> None:
    """Draw comparisons into one HTML file; the queries that differ most as pictures, where their ids are files.

    Raises:
        SettingsError: it cannot be written.
    """
    by_name = {name_of(run): run for run in runs}
    parts = ["<h1>Runs compared</h1>"]
    for one in comparisons:
        number = {point: place for place, point in enumerate(by_name[one.first].ids, 1)}  # an id may be a file's name
        apart = [[f"row {number[point]:,}", f"{delta:+.3f}"] for point, delta in one.apart]
        parts += [
            f"<h2>{escape(one.metric)}: {escape(one.second)} less {escape(one.first)}</h2>",
            f"<p>{'<br>'.join(escape(line) for line in headlines(one))}</p>",
            table(["class", "queries", "mean", "won", "lost"], class_rows(one)),
            "<h3>The queries that differ most</h3>",
            table(["query in queries.csv of the first run", "difference"], apart) if apart else "<p>None.</p>",
        ]
        if pictures is not None:
            ids = [point for point, _ in one.apart]
            parts.append(side_by_side(by_name[one.first], by_name[one.second], ids, pictures))
    try:
        file.write_text(_document("Runs compared", parts), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the comparison {file} cannot be written ({error.strerror})") from error


def page_of(run: Run, pictures: Path | None = None) -> str:
    """The page; every word that comes from data is escaped."""
    told = run.metrics
    recall = told["index_recall"]["recall@10"]
    model = escape(str(told["model"].get("model")))
    parts = [
        f"<h1>{model}: {escape(told['protocol'])}</h1>",
        _lead(told),
        _headline(run),
        "<h2>Precision at k</h2>",
        curves(_precisions(told), "precision at 1 to 10, micro and macro"),
        "<h2>Anatomy and finding</h2>",
        _levels(told),
        *(
            f"<h2>By {escape(facet)}</h2>{_parts_table(told['by'][facet])}"
            for facet in told["by"]
            if facet != "label" and len(told["by"][facet]) > 1
        ),
        "<h2>By class, P@1</h2>",
        bars(_class_bars(run), "P@1 by class"),
        _same_finding(told),
        "<h2>Where the nearest neighbour is from</h2>",
        _confusion(run),
        "<h2>What was left out</h2>",
        _left_out(told),
        *(
            f"<h2>Study: {escape(name)}</h2><pre>{escape(json.dumps(without_ids(found), indent=1))}</pre>"
            for name, found in told["studies"].items()
        ),
        montage(run, pictures) if pictures is not None else "",
        "<h2>How it was measured</h2>",
        '<p class="note">The neighbours are exact.'
        + ("" if recall is None else f" The index's own search finds {recall:.4f} of the ten nearest.")
        + "</p>",
        _fields({**told["model"], "source": told["source"], "radsearch": told["version"], "made": told["made"]}),
    ]
    return _document(f"{model}: {escape(told['protocol'])}", parts)


def _document(title: str, parts: Sequence[str]) -> str:
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _lead(told: Mapping[str, Any]) -> str:
    return (
        f"<p>{told['queries']:,} queries of {escape(str(told['classes']))} classes against {told['index']:,} images. "
        f"A random neighbour would reach P@1 {told['chance']['P@1']:.3f}. Micro: mean over queries; macro: mean over "
        "classes; "
        "in brackets the 95 % interval, patients drawn with replacement.</p>"
    ) + _warnings(told)


def _warnings(told: Mapping[str, Any]) -> str:
    words = []
    if told["contaminated"]:
        words.append(f"The model was trained on {', '.join(told['contaminated'])}: its figures there are too good.")
    if unknown := unknown_training(told):
        words.append(f"{unknown[0].upper()}{unknown[1:]}.")
    if told["shared_patients"]:
        words.append(f"{told['shared_patients']:,} patients have images among the queries and in the index.")
    return "".join(f"<p><strong>{escape(one)}</strong></p>" for one in words)


def _precisions(told: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    cuts = [int(name[2:]) for name in told["micro"] if name.startswith("P@")]
    return {name: {k: told[name][f"P@{k}"] for k in cuts} for name in ("micro", "macro")}


def _headline(run: Run) -> str:
    told, rows = run.metrics, []
    for name, micro in told["micro"].items():
        interval = told["interval"].get(name)
        bounds = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        leak = f"{told['leak'][name]:.3f}" if told["leak"] and name in told["leak"] else ""
        rows.append([name, f"{micro:.3f}", bounds, f"{told['macro'][name]:.3f}", leak])
    head = ["", "micro", "95 %", "macro", "own patient allowed"]
    return table(head if told["leak"] else head[:-1], rows if told["leak"] else [row[:-1] for row in rows])


def _levels(told: Mapping[str, Any]) -> str:
    words = {"modality": "the modality", "region": "modality and region", "label": "modality, region and finding"}
    rows = [
        [f"a hit shares {words[level]}", *(f"{one[name]['micro']:.3f}" for name in one), f"{one['P@1']['macro']:.3f}"]
        for level, one in told["levels"].items()
    ]
    return table(["", *told["levels"]["label"], "macro P@1"], rows)


def _parts_table(parts: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [value, f"{one['queries']:,}", f"{one['P@1']:.3f}", f"{one['macro P@1']:.3f}"] for value, one in parts.items()
    ]
    return table(["", "queries", "P@1", "macro P@1"], rows)


def _left_out(told: Mapping[str, Any]) -> str:
    rows = [[reason, f"{number:,}"] for reason, number in told["dropped"].items()]
    rows += [[f"no image to be found: {name}", f"{number:,}"] for name, number in told["lost_classes"].items()]
    return table(["", "images"], rows) if rows else "<p>Nothing.</p>"


def _fields(fields: Mapping[str, object]) -> str:
    return table(["", ""], [[name, str(value)] for name, value in fields.items()])


def _class_bars(run: Run) -> list[Bar]:
    """The most frequent class first."""
    values, rows = run.values["P@1"], []
    counts = Counter(name for several in run.classes for name in several)
    for name, number in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        members = np.array([name in several for several in run.classes])
        groups = [group for group, member in zip(run.groups, members, strict=True) if member]
        interval = interval_of(values[members], groups)
        rows.append(Bar(f"{name} ({number:,})", float(values[members].mean()), interval))
    return rows


def _same_finding(told: Mapping[str, Any]) -> str:
    """Of queries of several findings, what of a class's precision is the class itself."""
    rows = [
        [name, f"{one['queries']:,}", f"{one['P@1']:.3f}", f"{one['same finding']:.3f}"]
        for name, one in told["by"]["label"].items()
        if one["P@1"] != one["same finding"]
    ]
    if not rows:
        return ""
    words = "A hit shares any of a query's findings. So often the first neighbour has the very finding of the row:"
    return f'<p class="note">{words}</p>' + table(["", "queries", "P@1", "same finding"], rows)


def _confusion(run: Run) -> str:
    """Queries by modality and region against those of their first neighbour."""
    counts = Counter(
        (_site(classes), _site(found[0])) for classes, found in zip(run.classes, run.found, strict=True) if found
    )
    names = sorted({name for pair in counts for name in pair})
    rows = [[name, *(f"{counts[name, other] or '·'}" for other in names)] for name in names]
    return table(["query \\ first neighbour", *names], rows)


def _site(classes: Sequence[str]) -> str:
    return "/".join(classes[0].split("/", 2)[:2])  # a finding may have a slash in its name
