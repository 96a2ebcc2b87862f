"""Pairs of images that are almost the same to the model, though they are another patient's or of another split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.studies.asking import Rows, patient_codes, trial_rows
from evaluation.studies.settings import StudySettings
from radsearch.models.devices import devices_of

EXACT, NEAR = 0.9999, 0.99
LISTED = 50
_TILE = 1024  # images on a side, at most
_SLACK = 1e-3  # more than a product in float32, or in TF32 on a GPU, is off
_TILE_BYTES = 64  # a pair of a tile takes less, in all its tables


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images by their ids, the lower first. across: "patient", "split", or both."""

    ids: tuple[str, str]
    cosine: float
    across: Sequence[str]


@dataclass(frozen=True, slots=True)
class Copies:
    """Pairs with a cosine of `at_least`, and `below` where there is a bound. listed: the first 50, by their ids.

    across_patients, across_splits: pairs of different patients, and of different splits where both state one.
    """

    at_least: float
    below: float | None
    pairs: int
    across_patients: int
    across_splits: int
    listed: Sequence[Pair]


@dataclass(slots=True)
class _Found:
    """What was counted so far of one kind; the pairs as (row, row, cosine, of other patients, of other splits)."""

    pairs: int = 0
    across_patients: int = 0
    across_splits: int = 0
    first: list[tuple[int, int, float, bool, bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """Pairs of a tile that are alike: rows of the trial's images, the lower first, and what tells the two apart."""

    rows: Rows
    others: Rows
    cosines: NDArray[np.float64]
    patients: NDArray[np.bool_]
    splits: NDArray[np.bool_]


def find_copies(collection: Collection, trial: Trial, settings: StudySettings) -> tuple[Copies, Copies]:
    """The exact ones, and those that are near without being exact, among queries and index of the trial.

    All pairs are compared, by products in float32; where one comes close to the bound, float64 decides.
    """
    rows = trial_rows(trial)
    exact, near = _Found(), _Found()
    for tile in _alike(collection, rows, settings):
        is_exact = tile.cosines >= EXACT
        _count(exact, tile, is_exact)
        _count(near, tile, ~is_exact)
    ids = [collection.images[row].id for row in rows]
    return _copies(exact, ids, EXACT, None), _copies(near, ids, NEAR, EXACT)


def _alike(collection: Collection, rows: Rows, settings: StudySettings) -> Iterator[_Tile]:
    device = torch.device(devices_of(settings.device)[0])
    images = [collection.images[row] for row in rows]
    patients, splits = patient_codes(images), _split_codes([image.facts.get("split") for image in images])
    of_row = 4 * 12 * collection.vectors.shape[1]  # both sides, in float32 and in float64, here and on the device
    bound = settings.memory_mb * 10**6 // 2
    side = max(1, min(_TILE, bound // 2 // of_row, int((bound / 2 / _TILE_BYTES) ** 0.5)))
    for top in range(0, len(rows), side):
        upper = torch.from_numpy(collection.vectors[rows[top : top + side]]).to(device)
        for left in range(top, len(rows), side):
            lower = torch.from_numpy(collection.vectors[rows[left : left + side]]).to(device)
            tile = _of_tile(upper, lower, (top, left), patients, splits)
            if tile is not None:
                yield tile


def _split_codes(splits: Sequence[str | None]) -> Rows:
    """(images,) whole numbers, the same for images of one split; -1 where none is stated."""
    names = sorted({split for split in splits if split is not None})
    return np.array([-1 if split is None else names.index(split) for split in splits], np.int64)


def _of_tile(upper: Tensor, lower: Tensor, at: tuple[int, int], patients: Rows, splits: Rows) -> _Tile | None:
    close = upper @ lower.T >= NEAR - _SLACK
    if not bool(close.any()):
        return None
    top, left = at
    high, low = slice(top, top + len(upper)), slice(left, left + len(lower))
    other_patient = patients[high, None] != patients[low]
    other_split = (splits[high, None] != splits[low]) & (splits[high, None] >= 0) & (splits[low] >= 0)
    wanted = np.triu(other_patient | other_split, top - left + 1) & close.cpu().numpy()  # each pair once, none alone
    if not wanted.any():
        return None
    cosines: NDArray[np.float64] = (upper.double() @ lower.double().T).cpu().numpy()
    rows, others = (wanted & (cosines >= NEAR)).nonzero()
    return _Tile(
        rows + top, others + left, cosines[rows, others], other_patient[rows, others], other_split[rows, others]
    )


def _count(found: _Found, tile: _Tile, chosen: NDArray[np.bool_]) -> None:
    found.pairs += int(chosen.sum())
    found.across_patients += int((chosen & tile.patients).sum())
    found.across_splits += int((chosen & tile.splits).sum())
    first = chosen.nonzero()[0][:LISTED]  # the tile's own order is that of the rows, which is that of the ids
    columns = (tile.rows, tile.others, tile.cosines, tile.patients, tile.splits)
    found.first = sorted([*found.first, *zip(*(column[first].tolist() for column in columns), strict=True)])[:LISTED]


def _copies(found: _Found, ids: Sequence[str], at_least: float, below: float | None) -> Copies:
    listed = [
        Pair(
            (ids[row], ids[other]),
            min(cosine, 1.0),
            [name for name, is_so in zip(("patient", "split"), apart, strict=True) if is_so],
        )
        for row, other, cosine, *apart in found.first
    ]
    return Copies(at_least, below, found.pairs, found.across_patients, found.across_splits, listed)
