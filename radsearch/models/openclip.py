"""Loader for the models of open_clip, from a folder in the hub's own format."""

import json
import logging
from typing import Any

import open_clip
import torch

from radsearch.errors import ModelUnavailableError
from radsearch.models.base import Network
from radsearch.models.table import ModelSpec
from radsearch.models.weights import Weights, fetch_text_tower


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the image features after the projection; texts go through the model's own tokenizer."""
    name = f"local-dir:{weights.place}"
    with _WarningsAreErrors(spec):
        model = open_clip.create_model(name, precision="fp32", weights_only=True, **_text_tower(weights))
    if not spec.text:
        return Network(model, model.encode_image)

    def texts(batch: list[str]) -> torch.Tensor:
        tokens = open_clip.get_tokenizer(name)(batch)
        features: torch.Tensor = model.encode_text(tokens.to(next(model.parameters()).device))
        return features

    return Network(model, model.encode_image, texts)


def _text_tower(weights: Weights) -> dict[str, Any]:
    """Have a text tower that another repository describes be built from here, with the numbers of these weights."""
    folder = fetch_text_tower(weights.place)
    if folder is None:
        return {}
    config = json.loads((weights.place / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    return {"text_cfg": {**config, "hf_model_name": str(folder), "hf_model_pretrained": False}}


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
