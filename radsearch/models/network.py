"""What a loader gives: the module that runs, and which of its features are the vector."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from radsearch.errors import ModelUnavailableError
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

_NAMED_KEYS = 3


@dataclass(frozen=True, slots=True)
class Network:
    """What a loader returns.

    module: the part that runs, to be moved to the device.
    images: (n, 3, size, size) float32 normalised -> (n, dimension), or a feature map of (n, dimension, rows, columns),
        whose mean the base takes.
    texts: n texts -> (n, dimension), where the model has a text tower.
    maps: as images -> (n, dimension, rows, columns), where that gives no map and the model has features by patch, whose
        mean is the vector or comes near to it.
    """

    module: torch.nn.Module
    images: Callable[[torch.Tensor], torch.Tensor]
    texts: Callable[[list[str]], torch.Tensor] | None = None
    maps: Callable[[torch.Tensor], torch.Tensor] | None = None


class Loader(Protocol):
    """A loader module, `radsearch.models.loaders.LIBRARY`: one function."""

    def load(self, spec: ModelSpec, weights: Weights) -> Network:
        """Build the network with its weights; raise ModelUnavailableError where any is missing."""


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, on the CPU: safetensors, or a pickle of plain tensors and nothing else.

    Raises:
        pickle.UnpicklingError: the pickle holds something else than tensors and plain containers; it is not run.
    """
    with file.open("rb") as stream:
        head = stream.read(9)
    if file.suffix == ".safetensors" or head[8:9] == b"{":  # eight bytes of length, then the header's JSON
        from safetensors.torch import load_file

        return load_file(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelUnavailableError(f"{file.name} is no checkpoint of tensors by name")
    return dict(content)


def fill(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    spec: ModelSpec,
    *,
    name_in_file: Callable[[str], str] = str,
) -> None:
    """Put a checkpoint into an architecture, every tensor of both, in float32.

    Args:
        module: the architecture; one on the device `meta` takes the tensors over, without a copy.
        tensors: the checkpoint's, by name.
        spec: the row, for its name.
        name_in_file: what a tensor of the architecture is called in the checkpoint.

    Raises:
        ModelUnavailableError: tensors are missing, left over or of another shape; the first few are named as in it.
    """
    wanted = module.state_dict()
    names = {name_in_file(key): key for key in wanted}
    misshapen = [name for name, key in names.items() if name in tensors and tensors[name].shape != wanted[key].shape]
    missing, unexpected = names.keys() - tensors.keys(), tensors.keys() - names.keys()
    refuse_misfits(spec, missing=missing, unexpected=unexpected, misshapen=misshapen)
    whole = {key: _whole(tensors[name]) for name, key in names.items()}
    module.load_state_dict(whole, assign=any(tensor.is_meta for tensor in wanted.values()))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def refuse_misfits(
    spec: ModelSpec, *, missing: Collection[str], unexpected: Collection[str], misshapen: Collection[str]
) -> None:
    """Raise ModelUnavailableError where a checkpoint and its architecture do not fit, naming the first few tensors."""
    faults = [
        f"{len(names)} {words} ({', '.join(sorted(names)[:_NAMED_KEYS])}{', ...' if len(names) > _NAMED_KEYS else ''})"
        for words, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if faults:
        raise ModelUnavailableError(f"the weights of {spec.name} do not fit its architecture: {'; '.join(faults)}")
