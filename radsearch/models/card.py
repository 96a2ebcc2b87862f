"""A test picture, and what is remembered of a model: the vector that it gave for it, and the hashes of its weights.

The memory lies beside the weights (`radsearch.json`), so that it travels with a fetched folder to a host without
network; of the models whose weights come in a Python package it comes with radsearch.
"""

import base64
import errno
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np

from radsearch.errors import ModelUnavailableError
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights, fingerprint_of
from radsearch.study import Picture, Vectors

RECORD = "radsearch.json"
_OURS = "recorded.json"
_HEIGHT, _WIDTH, _LINE = 480, 640, 2


@dataclass(frozen=True, slots=True)
class Record:
    """weights: their hash, as in the fingerprint. preprocessing: likewise. card: the vector of the test card."""

    weights: str
    preprocessing: str
    card: Vectors


def card_picture() -> Picture:
    """(480, 640) uint8: ramps, discs and a fine grid, by whole numbers only, so that it is the same everywhere."""
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    picture = (rows * 96 // _HEIGHT + columns * 64 // _WIDTH).astype(np.int64)
    for centre_row, centre_column, radius, grey in ((200, 220, 130, 70), (210, 430, 120, 55), (330, 330, 60, -60)):
        inside = (rows - centre_row) ** 2 + (columns - centre_column) ** 2 < radius**2
        picture[inside] += grey
    corner = (columns > _WIDTH * 3 // 4) & (rows > _HEIGHT * 3 // 4)
    picture[corner & (rows % 8 < _LINE)] += 80
    return cast("Picture", np.clip(picture, 0, 255).astype(np.uint8))


def recorded(spec: ModelSpec, weights: Weights) -> Record | None:
    """What is remembered of the model, if anything.

    Raises:
        ModelUnavailableError: the file beside the weights is damaged.
    """
    stored = _ours().get(spec.name) if spec.scheme == "package" else _beside(weights.place).get(spec.name)
    if stored is None:
        return None
    try:
        card = np.frombuffer(base64.b64decode(stored["card"]), "<f2").astype(np.float32)
        return Record(str(stored["weights"]), str(stored["preprocessing"]), card)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelUnavailableError(f"{weights.place / RECORD} is damaged; delete it and check again") from error


def record(spec: ModelSpec, weights: Weights, card: Vectors) -> dict[str, Any]:
    """A record as it is stored, of (dimension,) float32; half precision turns a vector by less than 0.0005."""
    fingerprint = fingerprint_of(spec, weights)
    stored = base64.b64encode(card.astype("<f2").tobytes()).decode("ascii")
    return {"weights": fingerprint.weights, "preprocessing": fingerprint.preprocessing, "card": stored}


def remember(spec: ModelSpec, weights: Weights, card: Vectors) -> None:
    """Store a record beside the weights.

    Raises:
        OSError: the folder cannot be written; or it is a Python package, which is no place for it.
    """
    if spec.scheme == "package":
        raise PermissionError(errno.EPERM, "it is a Python package")
    stored = {**_beside(weights.place), spec.name: record(spec, weights, card)}
    half = weights.place / f".{RECORD}"
    half.write_text(json.dumps(stored, indent=1), encoding="utf-8")
    half.replace(weights.place / RECORD)


def _ours() -> dict[str, Any]:
    content = json.loads((resources.files("radsearch.models") / _OURS).read_text(encoding="utf-8"))
    return cast("dict[str, Any]", content)


def _beside(place: Path) -> dict[str, Any]:
    file = place / RECORD
    try:
        stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict):
        raise ModelUnavailableError(f"{file} is damaged; delete it and check again")
    return stored
