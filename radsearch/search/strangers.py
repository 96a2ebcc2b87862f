"""Whether an index holds anything that is like a query at all, or would show the least bad of what is not."""

from collections.abc import Mapping
from dataclasses import dataclass

from radsearch.index import Index
from radsearch.search.calibration import Calibration
from radsearch.study import SearchFilter, Vectors


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near the nearest image of another patient is.

    score: its cosine, by the frozen model. least: the least that is near enough. modality: of that image, where known.
    """

    score: float
    least: float
    modality: str | None

    @property
    def strange(self) -> bool:
        """Whether nothing is similar enough."""
        return self.score < self.least

    def __str__(self) -> str:
        """What was compared, in words."""
        kind = f"the nearest image, {self.modality}," if self.modality else "the nearest image"
        return f"{kind} is at a similarity of {self.score:.3f}, and {self.least:.3f} is the least"


def nearness_of(
    index: Index, vectors: Mapping[str, Vectors], others: SearchFilter, calibration: Calibration
) -> Nearness | None:
    """The nearness of one query; None where there is nobody else.

    Args:
        index: to be searched.
        vectors: of the query, by model; that of `calibration.space` is among them.
        others: which images count: all that are not of the query's own patient.
        calibration: says what is near enough.
    """
    space = calibration.space.model
    for hit in index.nearest({space: vectors[space]}, others, 1):
        modality = hit.facts.labels.modality
        return Nearness(hit.score, calibration.least_of(modality), modality)
    return None
