"""Does an index find what it holds? Asked of a sample, and held against a comparison with every point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radsearch.index.base import Index
from radsearch.study import Hit, SearchFilter, Vectors

NEAREST = 10
_LEAST_RECALL = 0.99
_SAME = 1e-5  # scores of one vector, by different ways of computing them


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the truly nearest images the searches with one filter found.

    where: the filter in words. kept: images that pass it. queries: searches made. recall: the mean part found of the
        `NEAREST` nearest (of all, where fewer pass); an image as near as the last of them counts as one of them.
    """

    where: str
    kept: int
    queries: int
    recall: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one model: how many sampled images there were, how many found themselves, and the recall by filter."""

    model: str
    sampled: int
    found_themselves: int
    recalls: tuple[Recall, ...]

    @property
    def sound(self) -> bool:
        """Every image finds itself, and a search misses less than one in a hundred of the nearest, whatever filter.

        Of a model without vectors nothing is known, so it is not sound.
        """
        found = 0 < self.found_themselves == self.sampled
        return found and all(one.recall >= _LEAST_RECALL for one in self.recalls)


def verify(index: Index, model: str, samples: int, *, field: str = "modality") -> Verdict:
    """Search by sampled images, without a filter and with one for each value of a field.

    Args:
        index: to be looked at.
        model: whose vectors.
        samples: images to search by, at most.
        field: whose values the filters are, an indexed word.

    Raises:
        UnknownNameError: the index holds no vectors of that model, or one cannot filter by the field.
    """
    index.require_model(model)
    points = index.sample(model, samples)
    vectors = [point.vectors[model] for point in points]
    own = sum(_finds_itself(index, model, point.id, vector) for point, vector in zip(points, vectors, strict=True))
    filters = {"no filter": SearchFilter()}
    filters |= {
        f"{field} {value}": SearchFilter(any_of={field: (str(value),)})
        for value in index.facets(field, SearchFilter(any_of={"models": (model,)}))
    }
    recalls = tuple(_recall(index, model, vectors, words, where) for words, where in filters.items())
    return Verdict(model, len(points), own, recalls)


def _finds_itself(index: Index, model: str, point: str, vector: Vectors) -> bool:
    """The same picture may be there twice: one as near will do."""
    hits = index.nearest({model: vector}, SearchFilter(), NEAREST)
    return any(hit.id == point or hit.score >= 1 - _SAME for hit in hits)


def _recall(index: Index, model: str, vectors: Sequence[Vectors], words: str, where: SearchFilter) -> Recall:
    parts = []
    for vector in vectors:
        truth = index.nearest_of_all(model, vector, where, NEAREST)
        if truth:
            parts.append(_found(index.nearest({model: vector}, where, NEAREST), truth))
    return Recall(words, index.count(where), len(parts), float(np.mean(parts)) if parts else 1.0)


def _found(hits: Sequence[Hit], truth: Sequence[Hit]) -> float:
    least = truth[-1].score - _SAME
    return min(1.0, sum(hit.score >= least for hit in hits) / len(truth))
