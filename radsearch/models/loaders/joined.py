"""Loader for rows that join others: each network as its own loader makes it, on the same input."""

import importlib
from typing import cast

import torch

from radsearch.models.inputs import pooled_map
from radsearch.models.network import Loader, Network
from radsearch.models.patches import side_by_side
from radsearch.models.spec import ModelSpec
from radsearch.models.stated import refuse_disagreement
from radsearch.models.weights import Weights

_FOUR_AXES = 4


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the networks' vectors side by side; the base makes each block count alike."""
    networks = []
    for part, place in zip(spec.joins, weights.joined, strict=True):
        refuse_disagreement(part, place.place)
        loader = cast("Loader", importlib.import_module(f"radsearch.models.loaders.{part.library}"))
        networks.append(loader.load(part, place))

    def images(pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([pooled_map(network.images(pixels).float()) for network in networks], dim=1)

    def maps(pixels: torch.Tensor) -> torch.Tensor:
        found = [(network.maps or network.images)(pixels).float() for network in networks]
        if all(one.ndim == _FOUR_AXES for one in found):
            return side_by_side(found)
        return torch.cat([pooled_map(one) for one in found], dim=1)  # no map, which is refused as any other

    return Network(torch.nn.ModuleList([network.module for network in networks]), images, maps=maps)
