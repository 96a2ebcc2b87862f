"""Loader for the models of timm, from a folder in the hub's own format."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch

from radsearch.errors import ModelUnavailableError
from radsearch.models.network import Network
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
    with _alone(_checkpoint(spec, weights), weights) as folder, _MisfitsAreErrors(spec):
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, **changes)
    if spec.pooling == "class token" and getattr(model, "cls_token", None) is None:
        raise ModelUnavailableError(f"{spec.name} has no class token; choose another pooling")
    if spec.pooling != "logits":
        model.reset_classifier(0)
    return Network(model, _POOLINGS[spec.pooling](model))


def _checkpoint(spec: ModelSpec, weights: Weights) -> Path:
    """The one file to load: what the fingerprint covers, and nothing else that lies in the folder."""
    if len(weights.files) == 1:
        return weights.files[0]
    names = {file.name: file for file in weights.files}
    for usual in _USUAL_FILES:
        if usual in names:
            return names[usual]
    raise ModelUnavailableError(
        f"{spec.name} has several weights ({', '.join(names)}): its row has to name one in files"
    )


@contextmanager
def _alone(checkpoint: Path, weights: Weights) -> Iterator[Path]:
    """A folder with that checkpoint only: timm chooses by an order of its own where there are several."""
    name = _USUAL_FILES[0] if checkpoint.suffix == ".safetensors" else _USUAL_FILES[-1]
    with TemporaryDirectory() as folder:
        (Path(folder) / _CONFIG).symlink_to((weights.place / _CONFIG).absolute())
        (Path(folder) / name).symlink_to(checkpoint.absolute())
        yield Path(folder)


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
