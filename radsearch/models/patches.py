"""A network's features by position, before their mean is the vector: what a similarity is made of, patch by patch."""

import math
from collections.abc import Sequence

import torch

from radsearch.errors import EmbeddingError
from radsearch.models.inputs import Batch, held_positions
from radsearch.models.network import Network
from radsearch.models.spec import ModelSpec
from radsearch.models.table import built_in_models

WITHOUT_PADDING = "mean of the last feature map without padding"
_MEANS = "mean of "
_FOUR_AXES = 4


def map_of(network: Network, spec: ModelSpec, batch: Batch) -> torch.Tensor:
    """A batch -> (n, rows, columns, dimension): the features of each patch; their mean is what the vector points along.

    Of a row of several blocks each is scaled as in its vector; of a derived one they are its base's. Where the row
    leaves the padding out of that mean, its patches are zeros here, and the others so much longer.

    Raises:
        EmbeddingError: the model has none; the message names models that have.
    """
    features = (network.maps or network.images)(batch.pixels)
    if features.ndim != _FOUR_AXES:
        raise EmbeddingError(f"{spec.name} gives no features by patch; these do: {', '.join(_with_maps())}")
    features = features.float()
    blocks = (spec.base or spec).blocks
    if blocks:
        features = torch.cat([_of_unit_mean(block) for block in features.split(blocks, dim=1)], dim=1)
    if spec.pooling == WITHOUT_PADDING and batch.extents is not None:
        held = held_positions(features.shape[2], features.shape[3], batch)
        features = features * held * (held[0].numel() / held.sum(dim=(2, 3), keepdim=True))
    return features.permute(0, 2, 3, 1)


def side_by_side(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """(n, channels, rows, columns) of several grids -> of the coarsest of them, side by side; the means stay."""
    rows, columns = min((one.shape[2], one.shape[3]) for one in maps)
    return torch.cat([torch.nn.functional.adaptive_avg_pool2d(one, (rows, columns)) for one in maps], dim=1)


def _of_unit_mean(block: torch.Tensor) -> torch.Tensor:
    lengths = block.mean(dim=(2, 3), keepdim=True).norm(dim=1, keepdim=True)
    scaled: torch.Tensor = block / lengths.where(lengths > 0, torch.ones_like(lengths))
    return scaled


def as_map(tokens: torch.Tensor, before: int) -> torch.Tensor:
    """(n, tokens, dimension), of which so many come before the patches -> (n, dimension, rows, columns) of a square."""
    patches = tokens[:, before:]
    side = math.isqrt(patches.shape[1])
    return patches.transpose(1, 2).reshape(len(patches), -1, side, patches.shape[1] // side)


def _with_maps() -> list[str]:
    """The rows whose vector is a mean over patches. Some others have patches too, which come close to it."""
    return [name for name, row in built_in_models().items() if row.pooling.startswith(_MEANS)]
