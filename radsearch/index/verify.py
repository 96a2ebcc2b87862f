"""Does an index find what it holds? Asked of a sample, and held against a comparison with every point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radsearch.errors import UnknownNameError
from radsearch.index.base import Index
from radsearch.index.records import Stored
from radsearch.index.schema import WORD_FIELDS
from radsearch.study import Hit, SearchFilter, Vectors
from radsearch.thumbnails import Thumbnails

NEAREST = 10
_LEAST_RECALL = 0.99
# By how vectors are stored: scores of one vector by different ways of computing them; lengths of a vector of length 1.
_TOLERANCES = {"float32": (1e-5, 1e-3), "float16": (1e-3, 1e-2)}


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
    """Of one model: how many sampled images there were, how many found themselves, and the recall by filter.

    misshapen: of the sampled vectors, those that are not of unit length: their bytes have changed on the disk.
    lost_thumbnails: of the thumbnails that the sampled images name, those that are missing or damaged; no search
        needs them.
    """

    model: str
    sampled: int
    found_themselves: int
    recalls: tuple[Recall, ...]
    misshapen: int = 0
    lost_thumbnails: int = 0

    @property
    def sound(self) -> bool:
        """Every image finds itself, and a search misses less than one in a hundred of the nearest, whatever filter.

        Of a model without vectors nothing is known, so it is not sound.
        """
        found = 0 < self.found_themselves == self.sampled and not self.misshapen
        return found and all(one.recall >= _LEAST_RECALL for one in self.recalls)


def verify(
    index: Index, model: str, samples: int, *, field: str = "modality", thumbnails: Thumbnails | None = None
) -> Verdict:
    """Search by sampled images, without a filter and with one for each value of a field.

    Args:
        index: to be looked at.
        model: whose vectors.
        samples: images to search by, at most.
        field: whose values the filters are, an indexed word.
        thumbnails: the index's, to be looked at, too.

    Raises:
        UnknownNameError: the index holds no vectors of that model, or one cannot filter by the field.
    """
    index.require_model(model)
    if field not in WORD_FIELDS:
        raise UnknownNameError("field", field, WORD_FIELDS)
    same, unit = _TOLERANCES[index.card.storage.datatype]
    points = index.sample(model, samples)
    vectors = [point.vectors[model] for point in points]
    misshapen = sum(abs(float(np.linalg.norm(vector)) - 1) > unit for vector in vectors)
    own = sum(_finds_itself(index, model, point, same) for point in points)
    filters = {"no filter": SearchFilter()}
    filters |= {
        f"{field} {value}": SearchFilter(any_of={field: (str(value),)})
        for value in index.facets(field, SearchFilter(any_of={"models": (model,)}))
    }
    recalls = tuple(_recall(index, (model, vectors), words, where, same=same) for words, where in filters.items())
    lost = _lost(index, points, thumbnails) if thumbnails else 0
    return Verdict(model, len(points), own, recalls, misshapen, lost)


def recall_of(index: Index, model: str, samples: int) -> float:
    """The mean part of the truly ten nearest that a search without a filter finds, by sampled images.

    Raises:
        UnknownNameError: the index holds no vectors of that model.
    """
    index.require_model(model)
    same, _ = _TOLERANCES[index.card.storage.datatype]
    vectors = [point.vectors[model] for point in index.sample(model, samples)]
    return _recall(index, (model, vectors), "no filter", SearchFilter(), same=same).recall


def _finds_itself(index: Index, model: str, point: Stored, same: float) -> bool:
    """The same picture may be there twice: one as near will do."""
    hits = index.nearest({model: point.vectors[model]}, SearchFilter(), NEAREST)
    return any(hit.id == point.id or hit.score >= 1 - same for hit in hits)


def _lost(index: Index, points: Sequence[Stored], thumbnails: Thumbnails) -> int:
    payloads = [point.payload for point in index.retrieve([point.id for point in points])]
    return sum("thumbnail" in payload and thumbnails.read(payload["thumbnail"]) is None for payload in payloads)


def _recall(
    index: Index, queries: tuple[str, Sequence[Vectors]], words: str, where: SearchFilter, *, same: float
) -> Recall:
    model, vectors = queries
    parts = []
    for vector in vectors:
        truth = index.nearest_of_all(model, vector, where, NEAREST)
        if truth:
            parts.append(_found(index.nearest({model: vector}, where, NEAREST), truth, same))
    return Recall(words, index.count(where), len(parts), float(np.mean(parts)) if parts else 1.0)


def _found(hits: Sequence[Hit], truth: Sequence[Hit], same: float) -> float:
    least = truth[-1].score - same
    return min(1.0, sum(hit.score >= least for hit in hits) / len(truth))
