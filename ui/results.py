"""Hits -> the rows of the page's table."""

from collections.abc import Sequence
from typing import Any

from radsearch.study import Hit


def rows_of(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """A row a hit, in the words of the page; nothing in it tells who a patient is."""
    return [
        {
            "rank": hit.rank,
            "score": round(hit.score, 3),
            "modality": hit.facts.labels.modality,
            "region": hit.facts.labels.region,
            "pathology": ", ".join(hit.facts.labels.pathology),
            "data set": hit.facts.dataset,
            "frame": hit.frame,
            "id": hit.id,
        }
        for hit in hits
    ]
