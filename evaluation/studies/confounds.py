"""The study `confounds`: does an image find its finding, or its data set, machine, sex, view; or a copy of it?"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.asking import first_neighbours, hits_of
from evaluation.checks import Flags, Rows, Values
from evaluation.collection import Collection
from evaluation.protocols import Trial, available
from evaluation.settings import SearchSettings
from evaluation.studies.copies import Copies, find_copies

FACTS = ("dataset", "manufacturer", "sex", "view")


@dataclass(frozen=True, slots=True)
class Shared:
    """How often the first neighbour is like the query in one way.

    queries: that state the fact; an image that does not state it is like none. values: different ones among them.
    shared: part of them whose first neighbour has the same. chance: the same of an image of the index by lot, of those
    that the query may meet. lift: the first by the second. with_finding, without_finding: part of those whose first
    neighbour shares the finding, and of the others. What there is no query for, or no chance, is None.
    """

    queries: int
    values: int
    shared: float | None
    chance: float | None
    lift: float | None
    with_finding: float | None
    without_finding: float | None


@dataclass(frozen=True, slots=True)
class Confounds:
    """The study.

    finding: sharing a label path, to hold the facts against. facts: dataset, manufacturer, sex, view. exact, near:
    pairs of images that are not one patient's, or not of one split, and yet (almost) the same to the model; of a large
    trial those that a sample of its images is in.
    """

    queries: int
    index: int
    finding: Shared
    facts: Mapping[str, Shared]
    exact: Copies
    near: Copies


def study_confounds(collection: Collection, trial: Trial, settings: SearchSettings) -> Confounds:
    """First neighbours by exact search, and pairs of the trial's images: all of them up to 100,000 images."""
    blocks = list(first_neighbours(collection, trial, 1, settings))
    found = np.concatenate([near[:, 0] for _, near in blocks])
    hits = np.concatenate([hits_of(trial, rows, near)[:, 0] for rows, near in blocks])
    allowed = _allowed(trial, collection, lambda _: "")
    by_chance = available(trial, collection, "label") / np.maximum(allowed, 1)
    classes = {name for row in trial.queries for name in trial.labels["label"][row]}
    exact, near = find_copies(collection, trial, settings)
    return Confounds(
        queries=len(trial.queries),
        index=len(trial.index),
        finding=_shared(hits, by_chance, hits, len(classes)),
        facts={fact: _of_fact(collection, trial, fact, found, hits, allowed) for fact in FACTS},
        exact=exact,
        near=near,
    )


def _of_fact(  # noqa: PLR0913, PLR0917 -- private, and what was worked out once is handed on
    collection: Collection, trial: Trial, fact: str, found: Rows, hits: Flags, allowed: Rows
) -> Shared:
    def value(row: int) -> str | None:
        return collection.images[row].facts.get(fact)

    mine = [value(row) for row in trial.queries]
    theirs = [value(row) if row >= 0 else None for row in found]
    stated = np.array([one is not None for one in mine])
    same = np.array([one == other for one, other in zip(mine, theirs, strict=True)])
    by_chance = _allowed(trial, collection, value) / np.maximum(allowed, 1)
    return _shared(same[stated], by_chance[stated], hits[stated], len(set(mine) - {None}))


def _shared(same: Flags, by_chance: Values, hits: Flags, values: int) -> Shared:
    shared, chance = _mean(same), _mean(by_chance)
    return Shared(
        queries=len(same),
        values=values,
        shared=shared,
        chance=chance,
        lift=shared / chance if shared is not None and chance else None,
        with_finding=_mean(same[hits]),
        without_finding=_mean(same[~hits]),
    )


def _allowed(trial: Trial, collection: Collection, value_of: Callable[[int], str | None]) -> Rows:
    """(queries,) how many images of the index with the query's value it may meet."""
    of_value = Counter(value_of(row) for row in trial.index)
    own: Counter[tuple[str, str | None]] = Counter()
    if not trial.own_patient:
        own.update((collection.images[row].patient, value_of(row)) for row in trial.index)
    counts = (
        of_value[value_of(row)] - own[collection.images[row].patient, value_of(row)] for row in trial.queries.tolist()
    )
    return np.fromiter(counts, np.int64, len(trial.queries))


def _mean(values: Values | Flags) -> float | None:
    return float(values.mean()) if len(values) else None
