"""Loader for checkpoints in segment_anything's own layout (MedSAM): its image encoder, run by transformers."""

import re

import torch
from transformers import SamVisionConfig, SamVisionModel

from radsearch.models.network import Network, fill, read_tensors, refuse_misfits
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

_PATCHES = "image_encoder.patch_embed.proj.weight"
_POSITIONS = "image_encoder.pos_embed"
_NECK = "image_encoder.neck.0.weight"
_FIRST_DISTANCES = "image_encoder.blocks.0.attn.rel_pos_h"
_READ_OFF = {_PATCHES, _POSITIONS, _NECK, _FIRST_DISTANCES}
_DISTANCES = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_h")
_DEPTHS = {768: 12, 1024: 24, 1280: 32}  # layers of ViT-B, -L and -H by width: none of them may be missing
_WINDOW = 14  # positions a side, in all of segment_anything's models
# How transformers names the parts, and how segment_anything does; in this order.
_NAMES = (
    ("vision_encoder.", "image_encoder."),
    ("patch_embed.projection.", "patch_embed.proj."),
    ("neck.conv1.", "neck.0."),
    ("neck.layer_norm1.", "neck.1."),
    ("neck.conv2.", "neck.2."),
    ("neck.layer_norm2.", "neck.3."),
    (".layers.", ".blocks."),
    (".layer_norm", ".norm"),
)


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the map behind the neck: (n, 256, 64, 64). The prompt encoder and the mask decoder are not needed."""
    (file,) = weights.files
    tensors = {
        key: tensor
        for key, tensor in read_tensors(file).items()
        if not key.startswith(("prompt_encoder.", "mask_decoder."))
    }
    model = SamVisionModel(_sizes(tensors, spec))
    fill(model, tensors, spec, name_in_file=_name_in_file)
    model.eval()
    return Network(model, lambda batch: model(pixel_values=batch).last_hidden_state)


def _sizes(tensors: dict[str, torch.Tensor], spec: ModelSpec) -> SamVisionConfig:
    """ViT-B, -L or -H, or any other, as the tensors' shapes say; the rest is the same in all of them."""
    refuse_misfits(spec, missing=_READ_OFF - tensors.keys(), unexpected=[], misshapen=[])
    width, _, patch, _ = tensors[_PATCHES].shape
    side = tensors[_POSITIONS].shape[1]
    distances = {int(found[1]): len(tensors[key]) for key in tensors if (found := _DISTANCES.fullmatch(key))}
    return SamVisionConfig(
        hidden_size=width,
        num_hidden_layers=_DEPTHS.get(width, max(distances) + 1),
        num_attention_heads=width // tensors[_FIRST_DISTANCES].shape[1],
        output_channels=tensors[_NECK].shape[0],
        image_size=side * patch,
        patch_size=patch,
        window_size=_WINDOW,
        # A layer that attends to the whole map knows the distances between its first and its last row, both ways.
        global_attn_indexes=tuple(sorted(layer for layer, rows in distances.items() if rows == 2 * side - 1)),
    )


def _name_in_file(key: str) -> str:
    for ours, theirs in _NAMES:
        key = key.replace(ours, theirs)
    return key
