"""The protocols: which images are asked with, among which their neighbours are looked for, and what counts as a hit.

`denner2024`: Denner et al., arXiv 2403.06567, section 3 and their published code. `leave-patient-out`: every image asks
among all others but its own patient's, and images of several findings stay in.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from evaluation.checks import Rows
from evaluation.collection import Collection, Image
from evaluation.combinations import Combinations
from radsearch.errors import NothingToSearchError

Level = Literal["modality", "region", "label"]
LEVELS: tuple[Level, ...] = ("modality", "region", "label")
NO_FINDING = ("no finding", "normal")
_NOT_A_FINDING = "support devices"  # dropped by the paper's code before images are counted as single-label


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a protocol makes of a collection.

    queries: (m,) rows of the collection. index: (n,) rows of the collection, rising. own_patient: whether a query's
        patient may be among its neighbours. labels: by level, for every image of the collection the classes it has.
    dropped: reason -> number of images that are no queries, or in nothing at all. lost: class -> its dropped queries.
    shared_patients: patients with images among both, where they may meet. single_label: images of several findings are
    left out.
    """

    protocol: str
    queries: Rows
    index: Rows
    own_patient: bool
    labels: Mapping[Level, Sequence[frozenset[str]]]
    dropped: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    shared_patients: int = 0
    single_label: bool = False


def denner2024(collection: Collection, *, single_label: bool = True) -> Trial:
    """Queries of the split `test`, an index of the split `train`; images of exactly one finding.

    Args:
        collection: what there is.
        single_label: has no effect: the protocol knows no other images.

    Raises:
        NothingToSearchError: there are no such splits, or no query has its class in the index.
    """
    del single_label
    labels = _labels(collection, lambda image: tuple(one for one in image.findings if one.lower() != _NOT_A_FINDING))
    dropped: Counter[str] = Counter()
    single = _kept(collection, labels, dropped, single=True)
    splits = [collection.images[row].facts.get("split") for row in single]
    dropped["neither of the split train nor test"] = sum(split not in ("train", "test") for split in splits)
    index = [row for row, split in zip(single, splits, strict=True) if split == "train"]
    queries = [row for row, split in zip(single, splits, strict=True) if split == "test"]
    if not index or not queries:
        raise NothingToSearchError(
            f"{collection.source} has {len(index)} images of one finding in the split train and {len(queries)} in "
            "test: denner2024 needs both (name the splits at ingest: --split, or a column of the manifest)"
        )
    patients = {collection.images[row].patient for row in index}
    shared = len(patients & {collection.images[row].patient for row in queries})
    trial = Trial(
        "denner2024", _rows(queries), _rows(index), True, labels, dropped, shared_patients=shared, single_label=True
    )
    return _answerable(trial, collection)


def leave_patient_out(collection: Collection, *, single_label: bool = False) -> Trial:
    """Every image is a query, and all images but its patient's are the index.

    Args:
        collection: what there is.
        single_label: only images of exactly one finding, as queries and in the index.

    Raises:
        NothingToSearchError: fewer than two patients, or nobody shares a class with another one.
    """
    labels = _labels(collection, lambda image: image.findings)
    dropped: Counter[str] = Counter()
    rows = _kept(collection, labels, dropped, single=single_label)
    if len({collection.images[row].patient for row in rows}) < 2:  # noqa: PLR2004 -- one to ask, one to be found
        raise NothingToSearchError(f"{collection.source} has labelled images of fewer than two patients")
    trial = Trial("leave-patient-out", _rows(rows), _rows(rows), False, labels, dropped, single_label=single_label)
    return _answerable(trial, collection)


PROTOCOLS: Mapping[str, Callable[..., Trial]] = {"denner2024": denner2024, "leave-patient-out": leave_patient_out}


def combinations_of(trial: Trial, level: Level) -> Combinations:
    """The classes of a trial's images at a level."""
    return Combinations(trial.labels[level], np.union1d(trial.queries, trial.index).tolist(), trial.index)


def own_images(trial: Trial, collection: Collection, combinations: Combinations) -> list[Mapping[int, int]]:
    """Of each query, what it may not meet of the index, counted by combination: its own patient's images."""
    if trial.own_patient:
        return [{}] * len(trial.queries)
    of_patient: dict[str, list[int]] = {}
    for row in trial.index.tolist():
        of_patient.setdefault(collection.images[row].patient, []).append(row)
    counted = {patient: combinations.counted(_rows(rows)) for patient, rows in of_patient.items()}
    return [counted.get(collection.images[row].patient, {}) for row in trial.queries.tolist()]


def available(trial: Trial, collection: Collection, level: Level) -> Rows:
    """(m,) how many images of the index could be hits of each query: they share a class of that level with it."""
    combinations = combinations_of(trial, level)
    return combinations.reachable(trial.queries, own_images(trial, collection, combinations))


def _labels(
    collection: Collection, findings_of: Callable[[Image], tuple[str, ...]]
) -> dict[Level, list[frozenset[str]]]:
    """By level: `XR`, `XR/chest`, `XR/chest/Effusion`."""
    paths = [
        Image(image.id, image.patient, findings_of(image), image.facts).paths if image.findings else ()
        for image in collection.images
    ]
    return {
        level: [frozenset("/".join(path.split("/", 2)[:depth]) for path in of_image) for of_image in paths]
        for depth, level in enumerate(LEVELS, 1)
    }


def _rows(rows: Sequence[int]) -> Rows:
    return np.array(rows, np.int64)


def _kept(
    collection: Collection, labels: Mapping[Level, Sequence[frozenset[str]]], dropped: Counter[str], *, single: bool
) -> list[int]:
    rows = []
    for row, (image, classes) in enumerate(zip(collection.images, labels["label"], strict=True)):
        if not image.findings:
            dropped["no finding stated"] += 1
        elif not classes:
            dropped["no modality or region stated, or no finding that counts"] += 1
        elif single and len(classes) > 1:
            dropped["several findings"] += 1
        else:
            rows.append(row)
    return rows


def _answerable(trial: Trial, collection: Collection) -> Trial:
    """Without the queries whose class the index does not hold: nothing can be found for them."""
    there = available(trial, collection, "label") > 0
    if not there.any():
        raise NothingToSearchError(f"no query of {collection.source} has an image of its class to be found")
    lost = Counter(name for row in trial.queries[~there] for name in trial.labels["label"][row])
    dropped = {**trial.dropped, "class not in the index": int((~there).sum())}
    dropped = {reason: number for reason, number in dropped.items() if number}
    return replace(trial, queries=trial.queries[there], dropped=dropped, lost=dict(sorted(lost.items())))
