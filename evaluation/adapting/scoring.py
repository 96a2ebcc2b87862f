"""What queries find under some vectors: the figures that heads are chosen by, and the scores of their hits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation import metrics
from evaluation.asking import first_neighbours, hits_of, macro_of
from evaluation.checks import Flags, Rows, Values
from evaluation.collection import Collection
from evaluation.protocols import Trial, available
from evaluation.settings import SearchSettings
from radsearch.study import Vectors

DEPTH = 10


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What queries found.

    queries: (m,) rows. classes: of each. scores, hits: (m, 10) cosine of each neighbour and whether it shares a label;
    of an absent one -1 and False. reachable: (m,) how many could be hits. found: (m, 10) rows of the neighbours, -1 of
    an absent one.
    """

    queries: Rows
    classes: Sequence[frozenset[str]]
    scores: Values
    hits: Flags
    reachable: Rows
    found: Rows

    @property
    def answerable(self) -> "Answers":
        """Those of queries for whom something could be found: what a precision is of."""
        there = np.flatnonzero(self.reachable > 0)
        classes = [self.classes[place] for place in there.tolist()]
        return Answers(
            self.queries[there], classes, self.scores[there], self.hits[there], self.reachable[there], self.found[there]
        )

    @property
    def values(self) -> dict[str, Values]:
        """P@1 and P@10 of every query, all answerable; where fewer could be hits, P@10 is their share of those."""
        return {f"P@{k}": metrics.capped_precision(self.hits, self.reachable, k=k) for k in (1, DEPTH)}

    @property
    def figures(self) -> dict[str, float]:
        """P@1, P@10 and macro P@1."""
        values = self.values
        means = {name: float(of_name.mean()) for name, of_name in values.items()}
        return {**means, "macro P@1": macro_of(values["P@1"], self.classes)}

    @staticmethod
    def joined(several: Sequence["Answers"]) -> "Answers":
        """Of several folds, one after the other."""
        return Answers(
            np.concatenate([one.queries for one in several]),
            [classes for one in several for classes in one.classes],
            np.concatenate([one.scores for one in several]),
            np.concatenate([one.hits for one in several]),
            np.concatenate([one.reachable for one in several]),
            np.concatenate([one.found for one in several]),
        )


def answers_of(  # noqa: PLR0913 -- who asks, among whom, under which vectors
    collection: Collection, vectors: Vectors, trial: Trial, queries: Rows, settings: SearchSettings, *, index: Rows
) -> Answers:
    """What some queries find among some images, none of them of the query's patient.

    Args:
        collection: the images.
        vectors: (images, dimension) of unit length, instead of the collection's own.
        trial: its labels count.
        queries: (m,) rows that ask, also those for whom nothing could be found.
        settings: device and memory of the search.
        index: (n,) rows that may be found, rising.
    """
    asked = replace(trial, queries=queries, index=index, own_patient=False)
    there = replace(collection, vectors=vectors)
    near = np.full((len(queries), DEPTH), -1, np.int64)
    scores = np.full(near.shape, -1.0)
    begin = 0
    for rows, found in first_neighbours(there, asked, DEPTH, settings) if len(queries) and len(index) else ():
        block = slice(begin, begin := begin + len(rows))
        near[block] = found
        cosines = np.einsum("ij,ikj->ik", vectors[rows], vectors[found])
        scores[block] = np.where(found < 0, -1.0, cosines)
    hits = hits_of(asked, queries, near)
    classes = [asked.labels["label"][row] for row in queries.tolist()]
    reachable = available(asked, collection, "label") if len(queries) else np.zeros(0, np.int64)
    return Answers(queries, classes, scores, hits, reachable, near)
