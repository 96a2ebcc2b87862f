"""Vectors to places in the plane: the same vectors always get the same ones."""

import importlib.util
from collections.abc import Callable

import numpy as np

from radsearch.errors import SettingsError, UnknownNameError
from radsearch.study import Vectors

METHODS = ("pca", "umap")
LEAST_IMAGES = 3
_NEIGHBOURS = 15  # of an image in UMAP, its authors' choice
_SEED = 0


def methods_here() -> tuple[str, ...]:
    """Those that can be used: UMAP wants a library of its own."""
    return METHODS if importlib.util.find_spec("umap") else METHODS[:1]


def projected(method: str) -> Callable[[Vectors], Vectors]:
    """The function of a method: (images, dimension) vectors -> (images, 2) places, float32.

    Raises:
        UnknownNameError: there is no such method.
        SettingsError: its library is not installed.
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if method not in methods_here():
        raise SettingsError("UMAP is not installed; install it with: pip install umap-learn")
    return _umap if method == "umap" else _pca


def _pca(vectors: Vectors) -> Vectors:
    """Along the two directions in which the vectors vary most; of each the strongest number counts upwards."""
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, columns = np.linalg.eigh(centred.T @ centred)  # by rising variance; ten times as fast as an SVD of `centred`
    directions = np.zeros((2, centred.shape[1]))
    directions[: columns.shape[1]] = columns.T[::-1][:2]
    strongest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, np.newaxis], axis=1)
    return (centred @ (directions * np.where(strongest < 0, -1, 1)).T).astype(np.float32)


def _umap(vectors: Vectors) -> Vectors:
    """Neighbours by cosine stay neighbours (McInnes, Healy and Melville, arXiv 1802.03426)."""
    import umap

    neighbours = min(_NEIGHBOURS, len(vectors) - 1)
    few = len(vectors) <= _NEIGHBOURS  # its usual start wants more
    layout = umap.UMAP(
        n_neighbors=neighbours, metric="cosine", random_state=_SEED, n_jobs=1, init="random" if few else "spectral"
    )
    return np.asarray(layout.fit_transform(vectors), np.float32)
