"""Pairs of images that are almost the same to the model, though they are another patient's or of another split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.asking import patient_codes, trial_rows
from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from radsearch.models.devices import devices_of
from radsearch.study import Vectors

EXACT, NEAR = 0.9999, 0.99
LOOKED_AT = 100_000  # images: a minute on two cores; 1.6 million take half an hour, and would take four
LISTED = 50
_TILE = 1024  # images on a side, at most
_SLACK = 1e-3  # more than a product in float32, or in TF32 on a GPU, is off
_TILE_BYTES = 128  # a pair of a tile takes less, in all its tables


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images by their ids, the lower first. across: "patient", "split", or both."""

    ids: tuple[str, str]
    cosine: float
    across: Sequence[str]


@dataclass(frozen=True, slots=True)
class Copies:
    """Pairs with a cosine of `at_least`, and `below` where there is a bound. listed: the first 50, by their ids.

    looked_at, of: images that were compared with all others, and how many there are; where they are fewer, a pair of
    two others is not counted. seed: of the draw. across_patients, across_splits: pairs of different patients, and of
    different splits where both state one.
    """

    at_least: float
    below: float | None
    looked_at: int
    of: int
    seed: int
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
    """Pairs of a tile that are alike: places among the trial's images, the lower first, and what tells two apart."""

    rows: Rows
    others: Rows
    cosines: NDArray[np.float64]
    patients: NDArray[np.bool_]
    splits: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """Columns of the trial's images. vectors: the collection's, and rows: which of them. looked_at: by lot with seed.

    patients, splits: codes, -1 of no split.
    """

    vectors: Vectors
    rows: Rows
    ids: Sequence[str]
    seed: int
    looked_at: NDArray[np.bool_]
    patients: Rows
    splits: Rows


def find_copies(collection: Collection, trial: Trial, settings: SearchSettings) -> tuple[Copies, Copies]:
    """The exact ones, and those that are near without being exact, among queries and index of the trial.

    All pairs of up to 100,000 images are compared; of more, the pairs of 100,000 that are drawn with the seed, with
    each other and with all others. Products in float32 tell which pairs come close to the bound: there float64 decides.
    """
    images = _images(collection, trial_rows(trial), settings.seed)
    exact, near = _Found(), _Found()
    for tile in _alike(images, settings):
        is_exact = tile.cosines >= EXACT
        _count(exact, tile, is_exact)
        _count(near, tile, ~is_exact)
    return _copies(exact, images, EXACT, None), _copies(near, images, NEAR, EXACT)


def _images(collection: Collection, rows: Rows, seed: int) -> _Images:
    images = [collection.images[row] for row in rows]
    looked_at = np.zeros(len(rows), bool)
    looked_at[np.random.default_rng(seed).permutation(len(rows))[:LOOKED_AT]] = True
    return _Images(
        vectors=collection.vectors,
        rows=rows,
        ids=[image.id for image in images],
        seed=seed,
        looked_at=looked_at,
        patients=patient_codes(images),
        splits=_split_codes([image.facts.get("split") for image in images]),
    )


def _split_codes(splits: Sequence[str | None]) -> Rows:
    """(images,) whole numbers, the same for images of one split; -1 where none is stated."""
    names = sorted({split for split in splits if split is not None})
    return np.array([-1 if split is None else names.index(split) for split in splits], np.int64)


def _alike(images: _Images, settings: SearchSettings) -> Iterator[_Tile]:
    """Each image that is looked at with those after it, and with those before it that are not looked at."""
    device = torch.device(devices_of(settings.device)[0])
    of_row = 4 * 12 * images.vectors.shape[1]  # both sides, in float32 and in float64, here and on the device
    bound = settings.memory_mb * 10**6 // 2
    side = max(1, min(_TILE, bound // 2 // of_row, int((bound / 2 / _TILE_BYTES) ** 0.5)))
    asked, everyone = images.looked_at.nonzero()[0], np.arange(len(images.rows))
    for top in range(0, len(asked), side):
        ones = asked[top : top + side]
        upper = torch.from_numpy(images.vectors[images.rows[ones]]).to(device)
        met = everyone[(everyone > ones[0]) | ~images.looked_at]
        for left in range(0, len(met), side):
            others = met[left : left + side]
            lower = torch.from_numpy(images.vectors[images.rows[others]]).to(device)
            tile = _of_tile(images, ones, others, (upper, lower))
            if tile is not None:
                yield tile


def _of_tile(images: _Images, ones: Rows, others: Rows, vectors: tuple[Tensor, Tensor]) -> _Tile | None:
    upper, lower = vectors
    close = (upper @ lower.T >= NEAR - _SLACK).nonzero().cpu().numpy()
    mine, theirs = ones[close[:, 0]], others[close[:, 1]]
    patients, splits = _apart(images.patients, mine, theirs), _apart(images.splits, mine, theirs)
    wanted = (theirs > mine) | ~images.looked_at[theirs]  # each pair once, and none of an image with itself
    wanted &= patients | splits
    if not wanted.any():
        return None
    cosines = _cosines(upper, lower, close[wanted])
    kept = cosines >= NEAR
    one, other, *apart = (column[wanted][kept] for column in (mine, theirs, patients, splits))
    return _Tile(np.minimum(one, other), np.maximum(one, other), cosines[kept], *apart)


def _apart(codes: Rows, ones: Rows, others: Rows) -> NDArray[np.bool_]:
    """Whether the codes of each pair differ; a negative one says nothing."""
    mine, theirs = codes[ones], codes[others]
    apart: NDArray[np.bool_] = (mine != theirs) & (mine >= 0) & (theirs >= 0)
    return apart


def _cosines(upper: Tensor, lower: Tensor, places: Rows) -> NDArray[np.float64]:
    """(pairs,) in float64, by a product of the rows that are in a pair only. places: (pairs, 2)."""
    above, beside = (np.bincount(places[:, side]) > 0 for side in (0, 1))
    product = upper[above.nonzero()[0]].double() @ lower[beside.nonzero()[0]].double().T
    rows, columns = (above.cumsum() - 1)[places[:, 0]], (beside.cumsum() - 1)[places[:, 1]]
    cosines: NDArray[np.float64] = product.cpu().numpy()[rows, columns]
    return cosines


def _count(found: _Found, tile: _Tile, chosen: NDArray[np.bool_]) -> None:
    found.pairs += int(chosen.sum())
    found.across_patients += int((chosen & tile.patients).sum())
    found.across_splits += int((chosen & tile.splits).sum())
    places = chosen.nonzero()[0]  # in order but where a partner comes before the image that is looked at
    by_id = np.argsort((tile.rows[places] << 32) + tile.others[places], kind="stable")
    first = places[by_id[:LISTED]]
    columns = (tile.rows, tile.others, tile.cosines, tile.patients, tile.splits)
    found.first = sorted([*found.first, *zip(*(column[first].tolist() for column in columns), strict=True)])[:LISTED]


def _copies(found: _Found, images: _Images, at_least: float, below: float | None) -> Copies:
    listed = [
        Pair(
            (images.ids[row], images.ids[other]),
            min(cosine, 1.0),
            [name for name, is_so in zip(("patient", "split"), apart, strict=True) if is_so],
        )
        for row, other, cosine, *apart in found.first
    ]
    return Copies(
        at_least=at_least,
        below=below,
        looked_at=int(images.looked_at.sum()),
        of=len(images.ids),
        seed=images.seed,
        pairs=found.pairs,
        across_patients=found.across_patients,
        across_splits=found.across_splits,
        listed=listed,
    )
