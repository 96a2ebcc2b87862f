"""Loader for the models of timm, from a folder in the hub's own format."""

import logging
from collections.abc import Callable
from typing import Any

import timm
import torch

from radsearch.errors import ModelUnavailableError
from radsearch.models.loaders.alone import alone
from radsearch.models.network import Network
from radsearch.models.patches import as_map
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

_CONFIG = "config.json"
_USUAL_FILES = ("model.safetensors", "pytorch_model.bin")
_POOLINGS: dict[str, Callable[[Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "pooled": lambda model: model,
    "class token": lambda model: lambda pixels: model.forward_features(pixels)[:, 0],
    "logits": lambda model: model,
}


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the features that the row's `pooling` names; `pooled` are those that the classifier would get.

    The whole model is loaded first and the classifier taken off then: asked for a model without one, timm no longer
    minds tensors that are missing.

    Raises:
        ModelUnavailableError: tensors are missing or left over, or timm warned of something.
    """
    if spec.pooling not in _POOLINGS:
        raise ModelUnavailableError(
            f"{spec.name} has no pooling {spec.pooling!r} in timm; there are: {', '.join(_POOLINGS)}"
        )
    changes: dict[str, Any] = {key: value for key, value in spec.config if key != "architecture"}
    with alone(spec, weights, _CONFIG, _USUAL_FILES) as folder, _MisfitsAreErrors(spec):
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, **changes)
    if spec.pooling == "class token" and getattr(model, "cls_token", None) is None:
        raise ModelUnavailableError(f"{spec.name} has no class token; choose another pooling")
    if spec.pooling != "logits":
        model.reset_classifier(0)
    return Network(model, _POOLINGS[spec.pooling](model), maps=None if spec.pooling == "logits" else _maps(model))


def _maps(model: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The last feature map, where its mean is the vector; of a transformer its patches, which may only come near."""
    if getattr(model, "num_prefix_tokens", None) is not None and model.global_pool in ("token", "avg"):
        before: int = model.num_prefix_tokens
        return lambda pixels: as_map(model.forward_features(pixels), before)
    averaged = getattr(getattr(model, "global_pool", None), "pool_type", None) == "avg"
    return model.forward_features if averaged else None


class _MisfitsAreErrors(logging.Handler):
    """For a few families timm only says, in its log, that tensors are missing or left over."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(logging.INFO)
        self._spec = spec
        self._said: list[str] = []
        self._logger = logging.getLogger("timm.models._builder")
        self._before = self._logger.level, self._logger.propagate

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or record.getMessage().startswith("Missing keys"):
            self._said.append(record.getMessage())

    def __enter__(self) -> None:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)
        self._logger.removeHandler(self)
        if kind is None and self._said:
            raise ModelUnavailableError(f"{self._spec.name} was refused, as timm said: {'; '.join(self._said)}")
