"""Loader for the models of open_clip, from a folder in the hub's own format."""

import logging

import open_clip
import torch

from radsearch.errors import ModelUnavailableError
from radsearch.models.base import Network
from radsearch.models.table import ModelSpec
from radsearch.models.weights import Weights


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the image features after the projection; texts go through the model's own tokenizer."""
    name = f"local-dir:{weights.place}"
    with _WarningsAreErrors(spec):
        model = open_clip.create_model(name, precision="fp32", weights_only=True)
    if not spec.text:
        return Network(model, model.encode_image)

    def texts(batch: list[str]) -> torch.Tensor:
        tokens = open_clip.get_tokenizer(name)(batch)
        features: torch.Tensor = model.encode_text(tokens.to(next(model.parameters()).device))
        return features

    return Network(model, model.encode_image, texts)


class _WarningsAreErrors(logging.Handler):
    """open_clip only warns when weights are missing, and goes on with random ones; or when the activation is wrong."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(logging.WARNING)
        self._spec = spec
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        if kind is None and self._said:
            raise ModelUnavailableError(f"{self._spec.name} was refused, as open_clip warned: {'; '.join(self._said)}")
