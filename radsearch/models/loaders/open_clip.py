"""Loader for the models of open_clip, from a folder in the hub's own format."""

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import open_clip
import torch

from radsearch.errors import ModelUnavailableError
from radsearch.models.loaders.alone import alone
from radsearch.models.network import Network
from radsearch.models.patches import as_map
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import TEXT_TOWER, Weights

_POOLING = "image features"
_CONFIG = "open_clip_config.json"
_USUAL_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the image features after the projection; texts go through the model's own tokenizer.

    Raises:
        ModelUnavailableError: open_clip warned of something, for instance of weights that are missing; or the text
            tower is described in another repository which the row does not name.
    """
    if spec.pooling != _POOLING:
        raise ModelUnavailableError(f"{spec.name} has no pooling {spec.pooling!r} in open_clip; there is: {_POOLING}")
    tower = _text_tower(spec, weights)
    with alone(spec, weights, _CONFIG, _USUAL_FILES) as folder, _WarningsAreErrors(spec):
        model = open_clip.create_model(f"local-dir:{folder}", precision="fp32", weights_only=True, **tower)
    return Network(model, model.encode_image, _texts(model, weights) if spec.text else None, _maps(model.visual))


def _maps(visual: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The patches of the last layer behind the projection, which come near to the vector; None for other poolings."""
    if isinstance(visual, open_clip.transformer.VisionTransformer) and visual.pool_type in ("tok", "avg"):
        return lambda pixels: as_map(_patches(visual, pixels) @ visual.proj, 0)
    trunk: Any = getattr(visual, "trunk", None)  # a vision tower of timm's
    if getattr(trunk, "num_prefix_tokens", None) is not None and trunk.global_pool in ("token", "avg"):
        return lambda pixels: as_map(
            visual.head(trunk.fc_norm(trunk.forward_features(pixels))), trunk.num_prefix_tokens
        )
    return None


def _patches(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    named = visual.forward_intermediates(
        pixels, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
    )
    (patches,) = named["image_intermediates"]
    last: torch.Tensor = patches
    return last


def _text_config(weights: Weights) -> dict[str, Any]:
    whole = json.loads((weights.place / _CONFIG).read_text(encoding="utf-8"))
    config: dict[str, Any] = whole["model_cfg"]["text_cfg"]
    return config


def _text_tower(spec: ModelSpec, weights: Weights) -> dict[str, Any]:
    """Have a text tower that another repository describes be built from here, with the numbers of these weights."""
    config = _text_config(weights)
    if "hf_model_name" not in config:
        return {}
    folder = weights.text or weights.place / TEXT_TOWER
    if not (folder / "config.json").is_file():
        name = config["hf_model_name"]
        raise ModelUnavailableError(
            f'the text tower of {spec.name} is described by {name}: its row needs text_tower = "{name}@COMMIT", '
            f"or the folder of its weights a folder {TEXT_TOWER!r} with that description (config.json)"
        )
    return {"text_cfg": {**config, "hf_model_name": str(folder), "hf_model_pretrained": False}}


def _texts(model: Any, weights: Weights) -> Callable[[list[str]], torch.Tensor]:
    """The configuration may ask for a tokenizer of transformers and pass it arguments, but none that run its code."""
    foreign = _text_config(weights).get("hf_tokenizer_name")
    closed = {"local_files_only": True, "trust_remote_code": False} if foreign else {}
    tokenizer = open_clip.get_tokenizer(f"local-dir:{weights.place}", **closed)

    def texts(batch: list[str]) -> torch.Tensor:
        features: torch.Tensor = model.encode_text(tokenizer(batch).to(next(model.parameters()).device))
        return features

    return texts


class _WarningsAreErrors(logging.Handler):
    """open_clip only warns when weights are missing, and goes on with random ones; or when the activation is wrong."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(logging.WARNING)
        self._spec = spec
        self._thread = threading.get_ident()
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:  # others load other models, or do something else
            self._said.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        if kind is None and self._said:
            raise ModelUnavailableError(f"{self._spec.name} was refused, as open_clip warned: {'; '.join(self._said)}")
