"""A protocol's trial measured: neighbours, the metrics of every query, and what they come to."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation import metrics
from evaluation.asking import first_neighbours
from evaluation.checks import Flags, Gains, Rows, Values
from evaluation.collection import Collection
from evaluation.combinations import Combinations
from evaluation.intervals import Interval, intervals_of
from evaluation.labels import label_overlap, majority_vote, share_label
from evaluation.protocols import LEVELS, NO_FINDING, Level, Trial, available, combinations_of, own_images
from evaluation.settings import SearchSettings
from evaluation.summary import Summary, summarise

CUTS = (1, 3, 5, 10)
_DEPTH = 10
_DEEPEST = 500  # R-precision looks at R neighbours, but at no more than so many
_VOTES = 5
_ORDER = (
    *(f"P@{k}" for k in CUTS), *(f"plain P@{k}" for k in CUTS[1:]), "R-precision", f"mAP@{_DEPTH}", f"nDCG@{_DEPTH}",
    f"mMV@{_VOTES}", "MRR",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What a trial came to.

    values: metric -> (queries,) of every query, at the level of whole label paths. summaries: the same, summed up.
    levels: level -> metric -> summary, P@k only. chance: what P@1 a random neighbour reaches. intervals: of the
    micro means, patients drawn with replacement; none where all queries are one patient's. by: facet -> value ->
    number of queries and summary of P@1. same_finding: class -> the part of its queries whose first neighbour has
    that very class (of queries of several classes P@1 counts any that is shared). leak: the micro means with the
    query's own patient allowed, None where the protocol allows him. positions: (queries, 10) rows of the
    collection, -1 where there is no more. r_depth: R of R-precision is at most this.
    """

    values: Mapping[str, Values]
    summaries: Mapping[str, Summary]
    levels: Mapping[Level, Mapping[str, Summary]]
    chance: float
    intervals: Mapping[str, Interval]
    by: Mapping[str, Mapping[str, tuple[int, Summary]]]
    same_finding: Mapping[str, float]
    leak: Mapping[str, float] | None
    positions: Rows
    r_depth: int


def measure(collection: Collection, trial: Trial, *, device: str = "auto", memory_mb: int = 512) -> Figures:
    """Search exactly, and work the figures out.

    Beside the vectors it holds some numbers a query for each metric and class, and `memory_mb` for the block at work;
    a copy of the index's vectors, too, where images that are not in it lie between them.

    Args:
        collection: the images.
        trial: what a protocol makes of them.
        device: for the search; "auto" takes a GPU where there is one.
        memory_mb: bound of the search's memory, in 10**6 bytes.
    """
    settings = SearchSettings(device, memory_mb)
    by_level = {level: combinations_of(trial, level) for level in LEVELS}
    own = {level: own_images(trial, collection, by_level[level]) for level in LEVELS}
    reachable = {level: by_level[level].reachable(trial.queries, own[level]) for level in LEVELS}
    r_depth = int(min(reachable["label"].max(), _DEEPEST))
    ideal = by_level["label"].ideal(trial.queries, own["label"], _DEPTH)
    positions = np.full((len(trial.queries), _DEPTH), -1, np.int64)
    values: dict[str, Values] = {}
    of_levels: dict[Level, dict[str, Values]] = {level: {} for level in LEVELS}
    start = 0
    for rows, found in first_neighbours(collection, trial, max(_DEPTH, r_depth), settings):
        block = slice(start, start := start + len(rows))
        near = positions[block] = found[:, :_DEPTH]
        deep = _hits(by_level["label"], rows, found)
        of_block = _values(by_level["label"], rows, near, deep[:, :_DEPTH], reachable["label"][block], ideal[block])
        of_block["R-precision"] = metrics.capped_precision(deep, reachable["label"][block], k=r_depth)
        _fill(values, of_block, block, len(positions))
        for level in LEVELS:
            hits = deep[:, :_DEPTH] if level == "label" else _hits(by_level[level], rows, near)
            _fill(of_levels[level], _precisions(hits, reachable[level][block]), block, len(positions))
    members = {level: by_level[level].of(trial.queries) for level in LEVELS}
    names = by_level["label"].names
    return Figures(
        values={name: values[name] for name in _ORDER},
        summaries={name: summarise(values[name], members["label"], names=names) for name in _ORDER},
        levels={
            level: {
                name: summarise(of_level, members[level], names=by_level[level].names)
                for name, of_level in of_levels[level].items()
            }
            for level in LEVELS
        },
        chance=float((reachable["label"] / _others(collection, trial)).mean()),
        intervals=intervals_of(
            {name: values[name] for name in _ORDER}, [collection.images[row].patient for row in trial.queries]
        ),
        by=_parts(collection, trial, values["P@1"], members["label"], names),
        same_finding=_same_finding(by_level["label"], trial, positions[:, 0]),
        leak=_leak(collection, trial, by_level["label"], values, settings),
        positions=positions,
        r_depth=r_depth,
    )


def _fill(table: dict[str, Values], of_block: Mapping[str, Values], block: slice, queries: int) -> None:
    for name, part in of_block.items():
        table.setdefault(name, np.empty(queries))[block] = part


def _hits(classes: Combinations, rows: Rows, found: Rows) -> Flags:
    """(queries, depth) whether query and neighbour share a class."""
    return share_label(classes.of(rows), classes.members, neighbours=classes.near(found))


def _values(  # noqa: PLR0913, PLR0917 -- private, and what was worked out once is handed on
    classes: Combinations, rows: Rows, near: Rows, hits: Flags, reachable: Rows, ideal: Gains
) -> dict[str, Values]:
    """Every metric but the R-precision, of a block of queries."""
    of_queries, neighbours = classes.of(rows), classes.near(near)
    gains = label_overlap(of_queries, classes.members, neighbours=neighbours)
    values = _precisions(hits, reachable)
    values |= {f"plain P@{k}": metrics.precision(hits, k=k) for k in CUTS[1:]}
    values[f"mAP@{_DEPTH}"] = metrics.average_precision(hits, reachable, k=_DEPTH)
    values[f"nDCG@{_DEPTH}"] = metrics.ndcg(gains, ideal, k=_DEPTH)
    values[f"mMV@{_VOTES}"] = majority_vote(of_queries, classes.members, neighbours=neighbours, k=_VOTES)
    values["MRR"] = metrics.reciprocal_rank(hits)
    return values


def _precisions(hits: Flags, reachable: Rows) -> dict[str, Values]:
    return {f"P@{k}": metrics.capped_precision(hits, reachable, k=k) for k in CUTS}


def _same_finding(classes: Combinations, trial: Trial, first: Rows) -> dict[str, float]:
    """By class of queries, how many of their first neighbours have that very class."""
    of_queries = classes.of(trial.queries)
    of_first = of_queries & classes.of(first) & (first >= 0)[:, None]
    counts = np.count_nonzero(of_queries, axis=0)
    hits = np.count_nonzero(of_first, axis=0)
    of_class = zip(classes.names, hits.tolist(), counts.tolist(), strict=True)
    return {name: hit / count for name, hit, count in of_class if count}


def _others(collection: Collection, trial: Trial) -> Rows:
    """(queries,) how many images of the index a query could meet at all."""
    if trial.own_patient:
        return np.full(len(trial.queries), len(trial.index))
    of_patient = Counter(collection.images[row].patient for row in trial.index)
    return np.array([len(trial.index) - of_patient[collection.images[row].patient] for row in trial.queries])


def _parts(
    collection: Collection, trial: Trial, values: Values, of_queries: Flags, names: Sequence[str]
) -> dict[str, dict[str, tuple[int, Summary]]]:
    """P@1 of the queries of each modality, region, data set, and of those that show something."""
    facets: dict[str, Callable[[int], Iterable[str]]] = {
        "modality": lambda row: trial.labels["modality"][row],
        "region": lambda row: trial.labels["region"][row],
        "dataset": lambda row: [collection.images[row].facts.get("dataset", "unknown")],
        "finding": lambda row: ["abnormal" if _is_abnormal(trial.labels["label"][row]) else "no finding"],
    }
    parts: dict[str, dict[str, tuple[int, Summary]]] = {}
    for facet, values_of in facets.items():
        places: dict[str, list[int]] = {}
        for place, row in enumerate(trial.queries.tolist()):
            for value in values_of(row):
                places.setdefault(value, []).append(place)
        parts[facet] = {
            value: (len(of_value), summarise(values[of_value], of_queries[of_value], names=names))
            for value, of_value in sorted(places.items())
        }
    return parts


def _is_abnormal(paths: frozenset[str]) -> bool:
    """Whether one of the label paths says another finding than that there is none; a finding may have a slash."""
    return any(path.split("/", 2)[2].lower() not in NO_FINDING for path in paths)


def _leak(
    collection: Collection, trial: Trial, classes: Combinations, values: Mapping[str, Values], settings: SearchSettings
) -> dict[str, float] | None:
    """The same precisions where a query may meet other images of its own patient.

    Only those of whom the index has another image are asked again: the others find the same.
    """
    if trial.own_patient:
        return None
    of_patient = Counter(collection.images[row].patient for row in trial.index.tolist())
    again = np.array([of_patient[collection.images[row].patient] > 1 for row in trial.queries.tolist()])
    leaked = {f"P@{k}": values[f"P@{k}"].copy() for k in CUTS}
    if again.any():
        asked = replace(trial, own_patient=True, queries=trial.queries[again])
        # A query is in the index itself and is not met: it does not count as available.
        reachable = available(asked, collection, "label") - 1
        blocks = list(first_neighbours(collection, asked, _DEPTH, settings))
        found = np.concatenate([near for _, near in blocks])
        for name, of_name in _precisions(_hits(classes, asked.queries, found), reachable).items():
            leaked[name][again] = of_name
    return {name: float(of_name.mean()) for name, of_name in leaked.items()}
