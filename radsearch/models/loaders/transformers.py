"""Loader for the vision models of transformers, from a folder in the hub's own format."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModel, AutoModelForImageClassification, AutoTokenizer
from transformers.utils import logging

from radsearch.errors import ModelUnavailableError
from radsearch.models.network import Network, refuse_misfits
from radsearch.models.patches import as_map
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

_ITS_FILES = re.compile(r"(model(-\d+-of-\d+)?\.safetensors|pytorch_model(-\d+-of-\d+)?\.bin)")
_VISION_TOWERS = ("vision_model", "vision_encoder")
_TEXT_PARTS = ("text_model", "text_projection")
_CLASS_TOKENS = ("cls_token", "class_embedding", "distillation_token")
_IMAGE_FEATURES = "image features"
# Without any of these the library makes up a tokenizer that knows no words.
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_ANY_SHAPE = "siglip2"  # takes pictures of any shape, as lists of patches; those of a fixed size say "siglip"
_MASKED = "vit_mae"
# Knuth's multiplicative hash; the sums stay below 2 ** 63 for pictures of up to 1,024 pixels a side.
_HASH_FACTOR, _HASH_RANGE = 2654435761, 1 << 24
_STEPS_A_UNIT = 1000
_FOUR_AXES = 4


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the features that the row's `pooling` names. No code of the hub's is run: `trust_remote_code` stays off.

    Raises:
        ModelUnavailableError: weights are missing or have another shape than the architecture asks for; or there are
            some too many in a part that the model has (a deeper model's layers). Whole parts that it does not have (a
            decoder, a classifier that no vector comes from) are left out, and so is a pooling layer that only
            `pooled` needs.
    """
    if spec.pooling not in _POOLINGS:
        raise ModelUnavailableError(
            f"{spec.name} has no pooling {spec.pooling!r} in transformers; there are: {', '.join(_POOLINGS)}"
        )
    if spec.text and spec.pooling != _IMAGE_FEATURES:
        raise ModelUnavailableError(
            f"texts of {spec.name} are comparable with {_IMAGE_FEATURES!r} only: change its pooling"
        )
    model = _with_weights(spec, weights)
    if model.config.model_type.startswith(_ANY_SHAPE):
        raise ModelUnavailableError(f"{spec.name} takes pictures of any shape; use a SigLIP 2 of a fixed size instead")
    texts = _texts(model, spec, weights) if spec.text else None
    module = _part_that_runs(model, spec)
    if spec.pooling == "class token" and not _class_tokens(module):
        raise ModelUnavailableError(f"{spec.name} has no class token; choose another pooling")
    if spec.pooling == _IMAGE_FEATURES and not hasattr(module, "get_image_features"):
        raise ModelUnavailableError(f"{spec.name} has no {_IMAGE_FEATURES}: they are of models with two towers")
    features = _POOLINGS[spec.pooling]
    return Network(module, lambda pixels: features(module, pixels), texts, _maps(module, spec))


def mask_noise(pixels: torch.Tensor, patches: int) -> torch.Tensor:
    """Which patches a masked autoencoder hides of a picture: the same ones whenever and beside whatever it is seen.

    Args:
        pixels: (n, 3, size, size) float32, normalised.
        patches: of a picture.

    Returns:
        (n, patches) float32 of 0 to 1; the patches with the least stay visible. The generator's seed is a sum over the
        picture's own values as whole numbers, so that neither the order of the sum nor the batch has a say.
    """
    values = (pixels.float() * _STEPS_A_UNIT).round().long().flatten(1)
    factors = torch.arange(1, values.shape[1] + 1, device=pixels.device) * _HASH_FACTOR % _HASH_RANGE
    seeds = (values * factors).sum(dim=1).tolist()
    drawn = [torch.rand(patches, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(pixels.device)


def _with_weights(spec: ModelSpec, weights: Weights) -> Any:
    unread = [name for name in spec.files if not _ITS_FILES.fullmatch(name)]
    if unread:
        raise ModelUnavailableError(
            f"transformers reads model.safetensors or pytorch_model.bin and would pass over {unread[0]}, which the row "
            f"of {spec.name} names in files"
        )
    kind = AutoModelForImageClassification if spec.pooling == "logits" else AutoModel
    with _quietly():
        model, report = kind.from_pretrained(
            weights.place,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            use_safetensors=weights.files[0].suffix == ".safetensors",
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # so that they are named below
            output_loading_info=True,
            **{key: value for key, value in spec.config if key != "architecture"},
        )
    refuse_misfits(
        spec,
        missing={key for key in report["missing_keys"] if spec.pooling == "pooled" or not key.startswith("pooler.")},
        unexpected={key for key in report["unexpected_keys"] if _has_part_of(model, key)},
        misshapen={key for key, *_ in report["mismatched_keys"]},
    )
    return model


def _has_part_of(model: Any, key: str) -> bool:
    """Whether the model, or the one inside its head, has the part that a checkpoint's tensor lies in."""
    inner = key.removeprefix(f"{model.base_model_prefix}.")
    owner = model if inner == key else model.base_model
    return inner.split(".")[0] in {name.split(".")[0] for name in owner.state_dict()}


def _part_that_runs(model: Any, spec: ModelSpec) -> Any:
    if spec.pooling == "logits":
        return model
    if spec.pooling != _IMAGE_FEATURES:
        return next((getattr(model, name) for name in _VISION_TOWERS if hasattr(model, name)), model)
    for name in _TEXT_PARTS:
        if hasattr(model, name) and not spec.text:
            delattr(model, name)
    return model


def _texts(model: Any, spec: ModelSpec, weights: Weights) -> Callable[[list[str]], torch.Tensor]:
    if not any((weights.place / name).is_file() for name in _TOKENIZERS):
        raise ModelUnavailableError(
            f"{spec.name} reads text, but {weights.place} holds no tokenizer ({', '.join(_TOKENIZERS)}); save it there "
            "with the model's processor or tokenizer"
        )
    place = weights.place
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)  # nosec B615 # a folder

    def texts(batch: list[str]) -> torch.Tensor:
        tokens = tokenizer(
            batch, padding="max_length", max_length=spec.context, truncation=True, return_tensors="pt"
        ).to(model.device)
        features: torch.Tensor = model.get_text_features(**tokens).pooler_output
        return features

    return texts


def _run(module: Any, pixels: torch.Tensor) -> Any:
    """A masked autoencoder that hides nothing gets its patches in order, or else would shuffle them at random."""
    if module.config.model_type != _MASKED:
        return module(pixel_values=pixels)
    patches = module.embeddings.patch_embeddings.num_patches
    in_order = torch.arange(patches, device=pixels.device).expand(len(pixels), -1)
    masked = module.config.mask_ratio > 0
    return module(pixel_values=pixels, noise=mask_noise(pixels, patches) if masked else in_order)


def _class_tokens(module: Any) -> int:
    return sum(name.endswith(_CLASS_TOKENS) for name, _ in module.named_parameters())


def _before_patches(module: Any) -> int:
    registers: int = getattr(module.config, "num_register_tokens", 0)
    return _class_tokens(module) + registers


def _mean_of_patches(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = _run(module, pixels).last_hidden_state[:, _before_patches(module) :].mean(dim=1)
    return features


def _maps(module: Any, spec: ModelSpec) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The patches of the last layer, where they are in the space of the vector; of CLIP behind its projection.

    Their mean is the vector but for a class token, to which they only come near.
    """
    masked = module.config.model_type == _MASKED and module.config.mask_ratio > 0
    averaged = isinstance(getattr(module, "pooler", None), torch.nn.AdaptiveAvgPool1d | torch.nn.AdaptiveAvgPool2d)
    if spec.pooling == _IMAGE_FEATURES and hasattr(module, "visual_projection"):  # CLIP: Radford et al., 2103.00020
        return lambda pixels: as_map(_projected(module, pixels), 1)
    if (spec.pooling in ("class token", "mean of the patches") and not masked) or (
        spec.pooling == "pooled" and averaged
    ):
        return lambda pixels: _map_of_states(module, _run(module, pixels).last_hidden_state)
    return None


def _projected(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    tower = module.vision_model
    states = tower.post_layernorm(tower(pixel_values=pixels).last_hidden_state)
    projected: torch.Tensor = module.visual_projection(states)
    return projected


def _map_of_states(module: Any, states: torch.Tensor) -> torch.Tensor:
    return states if states.ndim == _FOUR_AXES else as_map(states, _before_patches(module))


_POOLINGS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "class token": lambda module, pixels: _run(module, pixels).last_hidden_state[:, 0],
    "pooled": lambda module, pixels: _run(module, pixels).pooler_output.flatten(1),
    "mean of the patches": _mean_of_patches,
    _IMAGE_FEATURES: lambda module, pixels: module.get_image_features(pixel_values=pixels).pooler_output,
    "logits": lambda module, pixels: _run(module, pixels).logits,
    "mean of the last feature map": lambda module, pixels: _run(module, pixels).last_hidden_state,
    "mean of the last feature map without padding": lambda module, pixels: _run(module, pixels).last_hidden_state,
}


@contextmanager
def _quietly() -> Iterator[None]:
    """The library prints a table of what did not fit; what matters of it is refused here by name."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
