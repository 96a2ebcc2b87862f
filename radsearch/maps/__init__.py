"""Maps: a sample of an index's vectors, laid out in the plane, so that a person sees what is alike."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date

import numpy as np

from radsearch.errors import SettingsError, TooFewImagesError
from radsearch.index import Index
from radsearch.maps.files import Map, Maps, maps_of
from radsearch.maps.projection import LEAST_IMAGES, METHODS, methods_here, projected
from radsearch.study import SearchFilter, Vectors

__all__ = ["LEAST_IMAGES", "METHODS", "MOST", "USUAL", "Map", "Maps", "make_map", "maps_of", "methods_here"]

USUAL, MOST = 5_000, 20_000  # images of a map
_AT_ONCE = 500  # vectors come from the engine as lists, which take eight times their room

Opening = Callable[[], AbstractContextManager[Index]]


def make_map(opening: Opening, model: str, *, count: int = USUAL, method: str = "pca") -> Map:
    """Draw images by chance and lay them out.

    Args:
        opening: gives the index; it is held while vectors are read, and not while they are laid out.
        model: whose vectors.
        count: of images, at most.
        method: of `METHODS`.

    Raises:
        SettingsError: the count is out of range, or the method's library is not installed.
        UnknownNameError: the index holds no vectors of that model; there is no such method.
        TooFewImagesError: fewer than three images have vectors of it.
    """
    if not LEAST_IMAGES <= count <= MOST:
        raise SettingsError(f"a map has {LEAST_IMAGES} to {MOST:,} images, not {count:,}")
    lay_out = projected(method)
    with opening() as index:
        index.require_model(model)
        fingerprint = index.card.models[model]
        ids, vectors = _sampled(index, model, count)
    if len(ids) < LEAST_IMAGES:
        raise TooFewImagesError(f"{len(ids)} images have vectors of {model}; a map needs {LEAST_IMAGES}")
    return Map(method, fingerprint, ids, lay_out(vectors), date.today().isoformat())  # noqa: DTZ011 -- the user's day


def _sampled(index: Index, model: str, count: int) -> tuple[tuple[str, ...], Vectors]:
    """Ids by chance, in their order, and their (images, dimension) vectors."""
    drawn = index.drawn(SearchFilter(any_of={"models": (model,)}), count)
    wanted = sorted(point.id for point in drawn)
    rows: dict[str, Vectors] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        points = index.retrieve(wanted[start : start + _AT_ONCE], vectors_of=[model])
        rows |= {point.id: point.vectors[model] for point in points if model in point.vectors}
    ids = tuple(sorted(rows))
    return ids, np.stack([rows[point] for point in ids]) if ids else np.empty((0, 1), np.float32)
