"""Loader for MedCLIP with its Swin transformer and its ClinicalBERT: transformers' encoders, each with a projection."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizer, SwinConfig, SwinModel

from radsearch.errors import ModelUnavailableError
from radsearch.models.network import Network, fill, read_tensors, refuse_misfits
from radsearch.models.patches import as_map
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

# The temperature of the training, and tables of whole numbers that the encoders work out by themselves.
_NOT_USED = re.compile(
    r"logit_scale|text_model\.model\.embeddings\.position_ids|vision_model\..*\.relative_position_index"
)
_PATCHES = "vision_model.model.embeddings.patch_embeddings.projection.weight"
_BLOCK = re.compile(r"vision_model\.model\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.")
_DEPTHS = {96: (2, 2, 6, 2)}  # blocks of swin-tiny-patch4-window7-224 by width: none of them may be missing
_HEAD_WIDTH = 32  # channels, in every Swin transformer (arXiv 2103.14030, section 3.3)
# How transformers 5.23 names the parts of a Swin block, and how it did in 2022; in this order.
_NAMES = (
    ("attention.relative_position_bias.", "attention.self."),
    ("attention.q_proj.", "attention.self.query."),
    ("attention.k_proj.", "attention.self.key."),
    ("attention.v_proj.", "attention.self.value."),
    ("attention.o_proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the projected features: of images from Swin's pooled output, of texts as `_Towers.embed_text` says."""
    (file,) = weights.files
    tensors = {key: tensor for key, tensor in read_tensors(file).items() if not _NOT_USED.fullmatch(key)}
    folder = weights.text or weights.place
    words = BertConfig.from_pretrained(folder, local_files_only=True)  # nosec B615 # a folder
    towers = _Towers(_swin_sizes(tensors, spec), words, spec)
    fill(towers, tensors, spec, name_in_file=_name_in_file)
    towers.eval()
    tokenise = _tokeniser(folder, towers.words, spec)
    return Network(
        towers,
        towers.embed_images,
        lambda texts: torch.cat([towers.embed_text(**tokenise(text)) for text in texts]),
        towers.map_images,
    )


class _Towers(torch.nn.Module):
    def __init__(self, vision: SwinConfig, text: BertConfig, spec: ModelSpec) -> None:
        super().__init__()
        self.vision_model = _Tower(SwinModel(vision), spec.dimension)
        self.text_model = _Tower(BertModel(text), spec.dimension)
        self.words = text.vocab_size

    def embed_images(self, batch: torch.Tensor) -> torch.Tensor:
        tower = self.vision_model
        return tower.project(tower.model(pixel_values=batch).pooler_output)

    def map_images(self, batch: torch.Tensor) -> torch.Tensor:
        """Swin's pooled output is the mean over its patches, and the projection is linear."""
        tower = self.vision_model
        return as_map(tower.project(tower.model(pixel_values=batch).last_hidden_state), 0)

    def embed_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The tokens of one text -> (1, dimension): the mean over them and over the layers 1, 2 and last, projected.

        MedCLIP takes the mean over the padding too, of which there is more the longer the other texts of the batch are.
        A text that is embedded alone has none, so that its vector does not depend on its neighbours.
        """
        tower = self.text_model
        device = next(tower.parameters()).device
        ids, mask = input_ids.to(device), attention_mask.to(device)
        layers = tower.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return tower.project(torch.stack([layers[1], layers[2], layers[-1]]).mean(dim=(0, 2)))


class _Tower(torch.nn.Module):
    """An encoder and its projection, named as in the file."""

    def __init__(self, model: Any, dimension: int) -> None:
        super().__init__()
        self.model = model
        self.projection_head = torch.nn.Linear(model.config.hidden_size, dimension, bias=False)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projection_head(features)
        return projected


def _swin_sizes(tensors: dict[str, torch.Tensor], spec: ModelSpec) -> SwinConfig:
    """Those of swin-tiny-patch4-window7-224; tensors of another width say how deep their network is."""
    refuse_misfits(spec, missing={_PATCHES} - tensors.keys(), unexpected=[], misshapen=[])
    width = len(tensors[_PATCHES])
    blocks = sorted((int(found[1]), int(found[2])) for key in tensors if (found := _BLOCK.match(key)))
    depths = _DEPTHS.get(width, tuple({stage: block + 1 for stage, block in blocks}.values()))
    return SwinConfig(
        image_size=spec.preprocessing.size,
        patch_size=4,
        window_size=7,
        embed_dim=width,
        depths=depths,
        num_heads=tuple(width * 2**stage // _HEAD_WIDTH for stage in range(len(depths))),
    )


def _name_in_file(key: str) -> str:
    for ours, theirs in _NAMES:
        key = key.replace(ours, theirs)
    return key


def _tokeniser(folder: Path, words: int, spec: ModelSpec) -> Callable[[str], dict[str, torch.Tensor]]:
    """One text -> its tokens and mask, (1, tokens) each.

    ClinicalBERT's folder does not say whether case counts, so that MedCLIP got transformers' default: it does not.
    """
    tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True, do_lower_case=True)  # nosec B615 # a folder
    if len(tokenizer) != words:
        raise ModelUnavailableError(
            f"the tokenizer of {spec.name} in {folder} knows {len(tokenizer)} tokens, its text tower {words}"
        )
    how = {"truncation": True, "max_length": spec.context, "return_tensors": "pt"}
    return partial(tokenizer, return_token_type_ids=False, **how)
