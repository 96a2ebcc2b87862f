"""Loader for RadImageNet's ResNet-50, saved as the numbered parts of torchvision's network without its classifier."""

from collections import OrderedDict

import timm
import torch

from radsearch.models.network import Network, fill, read_tensors
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the mean over the positions of the last feature map (2,048 channels). There is no classifier to be random.

    The file counts the parts: `backbone.0` is the first convolution, `backbone.4` to `backbone.7` are the stages.
    timm's network has the same parts in the same order as torchvision's.
    """
    backbone = torch.nn.Sequential(*timm.create_model("resnet50", pretrained=False, num_classes=0).children())
    network = torch.nn.Sequential(OrderedDict(backbone=backbone))
    (file,) = weights.files
    fill(network, read_tensors(file), spec)
    network.eval()
    return Network(network, network, maps=backbone[:-2])  # without the mean and what was the classifier
