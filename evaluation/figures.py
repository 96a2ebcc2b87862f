"""A protocol's trial measured: neighbours, the metrics of every query, and what they come to."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation import metrics
from evaluation.collection import Collection
from evaluation.intervals import Interval, interval_of
from evaluation.metrics import Summary, summarise
from evaluation.neighbours import nearest
from evaluation.protocols import LEVELS, NO_FINDING, Level, Trial, available

CUTS = (1, 3, 5, 10)
_DEPTH = 10
_DEEPEST = 1000  # R-precision looks at R neighbours, but at no more than so many
_VOTES = 5


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What a trial came to.

    values: metric -> (queries,) of every query, at the level of whole label paths. summaries: the same, summed up.
    levels: level -> metric -> summary, P@k only. chance: what P@1 a random neighbour reaches. intervals: of the micro
    means, patients drawn with replacement; none where all queries are one patient's. by: facet -> value -> number of
    queries and summary of P@1. leak: the micro means with the query's own patient allowed, None where the protocol
    allows him. positions: (queries, 10) rows of the collection, -1 where there is no more. r_depth: R of R-precision is
    at most this.
    """

    values: Mapping[str, "np.ndarray"]
    summaries: Mapping[str, Summary]
    levels: Mapping[Level, Mapping[str, Summary]]
    chance: float
    intervals: Mapping[str, Interval]
    by: Mapping[str, Mapping[str, tuple[int, Summary]]]
    leak: Mapping[str, float] | None
    positions: "np.ndarray"
    r_depth: int


@dataclass(frozen=True, slots=True, eq=False)
class _Classes:
    """Of one level: (queries, classes) and (index, classes) membership, and the classes' names."""

    of_queries: "np.ndarray"
    of_index: "np.ndarray"
    names: Sequence[str]


def measure(collection: Collection, trial: Trial, *, device: str = "auto", memory_mb: int = 512) -> Figures:
    """Search exactly, and work the figures out.

    Args:
        collection: the images.
        trial: what a protocol makes of them.
        device: for the search; "auto" takes a GPU where there is one.
        memory_mb: bound of the search's memory.
    """
    reachable = available(trial, collection, "label")
    r_depth = int(min(reachable.max(), _DEEPEST))
    found = _neighbours(collection, trial, max(_DEPTH, r_depth), device, memory_mb)
    by_level = {level: _classes(trial, level) for level in LEVELS}
    values = _values(collection, trial, by_level["label"], found, r_depth)
    classes = by_level["label"]
    summaries = {
        name: summarise(of_query, classes.of_queries, names=classes.names) for name, of_query in values.items()
    }
    patients = [collection.images[row].patient for row in trial.queries]
    intervals = {name: interval_of(of_query, patients) for name, of_query in values.items()}
    return Figures(
        values=values,
        summaries=summaries,
        levels={
            level: {
                f"P@{k}": summarise(of_level, by_level[level].of_queries, names=by_level[level].names)
                for k, of_level in _precisions(trial, collection, level, by_level[level], found).items()
            }
            for level in LEVELS
        },
        chance=float((reachable / _others(collection, trial)).mean()),
        intervals={name: interval for name, interval in intervals.items() if interval is not None},
        by=_parts(collection, trial, values["P@1"], classes),
        leak=_leak(collection, trial, device, memory_mb),
        positions=np.where(found[:, :_DEPTH] < 0, -1, trial.index[found[:, :_DEPTH]]),
        r_depth=r_depth,
    )


def _neighbours(collection: Collection, trial: Trial, depth: int, device: str, memory_mb: int) -> "np.ndarray":
    """(queries, depth) positions in the trial's index, -1 where there is no more."""
    codes = np.unique(np.array([image.patient for image in collection.images]), return_inverse=True)[1]
    own = np.full(len(trial.queries), -1, np.int64)
    places = np.searchsorted(trial.index, trial.queries).clip(max=len(trial.index) - 1)
    own = np.where(trial.index[places] == trial.queries, places, -1)
    groups = {} if trial.own_patient else {"query_groups": codes[trial.queries], "index_groups": codes[trial.index]}
    found = nearest(
        collection.vectors[trial.queries],
        collection.vectors[trial.index],
        min(depth, len(trial.index)),
        query_positions=own,
        device=device,
        memory_mb=memory_mb,
        **groups,
    )
    missing = depth - found.positions.shape[1]
    return np.pad(found.positions, ((0, 0), (0, max(0, missing))), constant_values=-1)


def _classes(trial: Trial, level: Level) -> _Classes:
    labels = trial.labels[level]
    names = sorted({name for row in (*trial.queries, *trial.index) for name in labels[row]})
    column = {name: place for place, name in enumerate(names)}
    tables = []
    for rows in (trial.queries, trial.index):
        table = np.zeros((len(rows), len(names)), bool)
        for place, row in enumerate(rows):
            table[place, [column[name] for name in labels[row]]] = True
        tables.append(table)
    return _Classes(tables[0], tables[1], names)


def _values(
    collection: Collection, trial: Trial, classes: _Classes, found: "np.ndarray", r_depth: int
) -> dict[str, "np.ndarray"]:
    reachable = available(trial, collection, "label")
    near = found[:, :_DEPTH]
    hits = metrics.share_label(classes.of_queries, classes.of_index, neighbours=found)
    gains = metrics.label_overlap(classes.of_queries, classes.of_index, neighbours=near)
    values = {f"P@{k}": metrics.capped_precision(hits[:, :_DEPTH], reachable, k=k) for k in CUTS}
    values |= {f"plain P@{k}": metrics.precision(hits[:, :_DEPTH], k=k) for k in CUTS[1:]}
    values["R-precision"] = metrics.capped_precision(hits, reachable, k=r_depth)
    values[f"mAP@{_DEPTH}"] = metrics.average_precision(hits[:, :_DEPTH], reachable, k=_DEPTH)
    ideal = _ideal(collection, trial)
    values[f"nDCG@{_DEPTH}"] = metrics.ndcg(gains, ideal, k=_DEPTH)
    values[f"mMV@{_VOTES}"] = metrics.majority_vote(classes.of_queries, classes.of_index, neighbours=near, k=_VOTES)
    values["MRR"] = metrics.reciprocal_rank(hits[:, :_DEPTH])
    return values


def _precisions(
    trial: Trial, collection: Collection, level: Level, classes: _Classes, found: "np.ndarray"
) -> dict[int, "np.ndarray"]:
    hits = metrics.share_label(classes.of_queries, classes.of_index, neighbours=found[:, :_DEPTH])
    reachable = available(trial, collection, level)
    return {k: metrics.capped_precision(hits, reachable, k=k) for k in CUTS}


def _ideal(collection: Collection, trial: Trial) -> "np.ndarray":
    """(queries, 10) the greatest overlaps of labels that each query could meet, falling."""
    labels = trial.labels["label"]
    combinations = Counter(labels[row] for row in trial.index)
    own: dict[str, Counter[frozenset[str]]] = {}
    if not trial.own_patient:
        for row in trial.index:
            own.setdefault(collection.images[row].patient, Counter())[labels[row]] += 1
    order: dict[frozenset[str], list[tuple[float, frozenset[str]]]] = {}
    ideal = np.zeros((len(trial.queries), _DEPTH), np.float32)
    for place, row in enumerate(trial.queries):
        wanted = labels[row]
        if wanted not in order:
            overlaps = [(len(wanted & other) / len(wanted | other), other) for other in combinations if wanted & other]
            order[wanted] = sorted(overlaps, key=lambda one: -one[0])
        mine = own.get(collection.images[row].patient, Counter())
        filled = 0
        for overlap, other in order[wanted]:
            more = min(_DEPTH - filled, combinations[other] - mine[other])
            ideal[place, filled : filled + more] = overlap
            filled += more
            if filled == _DEPTH:
                break
    return ideal


def _others(collection: Collection, trial: Trial) -> "np.ndarray":
    """(queries,) how many images of the index a query could meet at all."""
    if trial.own_patient:
        return np.full(len(trial.queries), len(trial.index))
    of_patient = Counter(collection.images[row].patient for row in trial.index)
    return np.array([len(trial.index) - of_patient[collection.images[row].patient] for row in trial.queries])


def _parts(
    collection: Collection, trial: Trial, values: "np.ndarray", classes: _Classes
) -> dict[str, dict[str, tuple[int, Summary]]]:
    """P@1 of the queries of each modality, region, data set, and of those that show something."""
    levels: dict[str, Callable[[int], Sequence[str]]] = {
        "modality": lambda row: sorted(trial.labels["modality"][row]),
        "region": lambda row: sorted(trial.labels["region"][row]),
        "dataset": lambda row: [collection.images[row].facts.get("dataset", "unknown")],
        "finding": lambda row: ["abnormal" if is_abnormal(trial.labels["label"][row]) else "no finding"],
    }
    parts: dict[str, dict[str, tuple[int, Summary]]] = {}
    for facet, values_of in levels.items():
        of_query = [values_of(int(row)) for row in trial.queries]
        parts[facet] = {}
        for value in sorted({value for several in of_query for value in several}):
            members = np.array([value in several for several in of_query])
            summary = summarise(values[members], classes.of_queries[members], names=classes.names)
            parts[facet][value] = int(members.sum()), summary
    return parts


def is_abnormal(paths: frozenset[str]) -> bool:
    """Whether one of the label paths says another finding than that there is none."""
    return any(path.rsplit("/", 1)[-1].lower() not in NO_FINDING for path in paths)


def _leak(collection: Collection, trial: Trial, device: str, memory_mb: int) -> dict[str, float] | None:
    """The same precisions where a query may meet other images of its own patient."""
    if trial.own_patient:
        return None
    open_trial = replace(trial, own_patient=True)
    found = _neighbours(collection, open_trial, _DEPTH, device, memory_mb)
    classes = _classes(trial, "label")
    hits = metrics.share_label(classes.of_queries, classes.of_index, neighbours=found)
    # A query is among the index itself and is not met: it does not count as available.
    reachable = available(open_trial, collection, "label") - 1
    return {f"P@{k}": float(metrics.capped_precision(hits, reachable, k=k).mean()) for k in CUTS}
