"""Two pictures and a model -> the evidence for their similarity, and how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from radsearch.evidence import Evidence, Pair, evidence
from radsearch.evidence.drawing import frame_patches, grey_of, overlay, side_by_side
from radsearch.evidence.placing import Box, Placing
from radsearch.study import Picture

if TYPE_CHECKING:
    from radsearch.models.base import Embedder

_ROUNDING = 1e-3  # of cosines in half precision; what differs by more is another vector than the patches' mean


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A query and a hit as one model sees them.

    cosine: of the model's own vectors, which is a search's score. pictures, placings: the query's and the hit's.
    base: the frozen model by whose patches a derived one is compared: its head is no sum over patches.
    """

    model: str
    cosine: float
    evidence: Evidence
    pictures: tuple[Picture, Picture]
    placings: tuple[Placing, Placing]
    base: str | None = None

    @property
    def beside_exact(self) -> str:
        """What has to be said where the patches do not add up to the model's cosine; empty where they do."""
        if self.base is not None:
            return f"The places are those of {self.base}, whose cosine is {self.evidence.cosine:.3f}"
        theirs = f"Its vector is not the mean of its patches: theirs is {self.evidence.cosine:.3f}"
        return "" if self.is_exact else theirs

    @property
    def is_exact(self) -> bool:
        """Whether the patches add up to the model's cosine, and not to one that comes near to it."""
        return abs(self.cosine - self.evidence.cosine) <= _ROUNDING

    @property
    def highest(self) -> float:
        """What a single patch of either adds at most."""
        return max(float(self.evidence.query.max()), float(self.evidence.hit.max()))

    @property
    def beside(self) -> tuple[float, float]:
        """What patches add that do not lie on the query's, on the hit's picture, but on what it was filled up with."""
        query, hit = self.placings
        return float(self.evidence.query[~query.seen].sum()), float(self.evidence.hit[~hit.seen].sum())

    def drawn(self, *, heat: bool = True) -> tuple[Image.Image, Image.Image]:
        """The query and the hit, RGB: with the heat and the best pairs framed, or as they are."""
        return self._draw(0, heat=heat), self._draw(1, heat=heat)

    def sheet(self) -> Image.Image:
        """Both side by side."""
        return side_by_side(*self.drawn(), self.highest)

    def boxes(self, pair: Pair) -> tuple[Box, Box]:
        """Where a pair lies: (left, top, right, bottom) in pixels of the query's, of the hit's rendered picture."""
        return self.placings[0].box(pair.query), self.placings[1].box(pair.hit)

    def _draw(self, side: int, *, heat: bool) -> Image.Image:
        picture, placing = self.pictures[side], self.placings[side]
        if not heat:
            return grey_of(picture).convert("RGB")
        image = overlay(picture, (self.evidence.query, self.evidence.hit)[side], placing, self.highest)
        frame_patches(image, [(pair.query, pair.hit)[side] for pair in self.evidence.pairs], placing, picture)
        return image


def compare(embedder: "Embedder", query: Picture, hit: Picture) -> Compared:
    """Compare two pictures as a model sees them.

    Args:
        embedder: the model.
        query: as rendered.
        hit: as rendered.

    Raises:
        EmbeddingError: the model has no features by patch.
    """
    pictures = query, hit
    maps = embedder.maps(pictures)
    vectors = embedder.embed_images(pictures)
    placings = _placings(embedder, pictures, maps.shape[1:3])
    found = evidence(maps[0], maps[1], query_seen=placings[0].seen, hit_seen=placings[1].seen)
    base = embedder.spec.base.name if embedder.spec.base is not None else None
    return Compared(embedder.spec.name, float(np.dot(vectors[0], vectors[1])), found, pictures, placings, base)


def _placings(embedder: "Embedder", pictures: Sequence[Picture], sides: Sequence[int]) -> tuple[Placing, Placing]:
    rows, columns = sides
    one, other = (
        Placing(picture.shape[0], picture.shape[1], (rows, columns), embedder.spec.preprocessing)
        for picture in pictures
    )
    return one, other
