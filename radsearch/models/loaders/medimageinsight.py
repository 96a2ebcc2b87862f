"""Loader for MedImageInsight: timm's DaViT and a small text transformer, filled from its authors' file."""

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from timm.models.davit import DaVit
from transformers import CLIPTokenizer

from radsearch.errors import ModelUnavailableError
from radsearch.models.network import Network, fill, read_tensors, refuse_misfits
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights

_WORDS = "lang_encoder.token_embedding.weight"
_STAGES = tuple(f"image_encoder.convs.{stage}.proj.weight" for stage in range(4))
_IMAGE_BLOCK = re.compile(r"image_encoder\.blocks\.(\d+)\.(\d+)\.")
_TEXT_BLOCK = re.compile(r"lang_encoder\.resblocks\.(\d+)\.")
# From its config.yaml (v20240927): layers by width, none of which may be missing; head widths in channels; the window
# in positions a side.
_IMAGE_DEPTHS = {256: (1, 1, 9, 1)}
_TEXT_DEPTHS = {1024: 16}
_WINDOW = 12
_IMAGE_HEAD_WIDTH = 32
_TEXT_HEAD_WIDTH = 64
# How timm names the parts of the image tower, and how the authors do; in this order.
_NAMES = tuple(
    (re.compile(ours), theirs)
    for ours, theirs in (
        (r"^image_encoder\.head\.norm\.", "image_encoder.norms."),
        (r"^image_encoder\.stem\.", "image_encoder.convs.0."),
        (r"^image_encoder\.stages\.(\d+)\.downsample\.", r"image_encoder.convs.\1."),
        (r"(\.convs\.\d+)\.conv\.", r"\1.proj."),
        (r"^image_encoder\.stages\.(\d+)\.blocks\.", r"image_encoder.blocks.\1."),
        (r"_block\.cpe(\d)\.proj\.", r"_block.conv\1.fn.dw."),
        (r"\.(spatial|channel)_block\.norm1\.", r".\1_block.\1_attn.norm."),
        (r"\.(spatial|channel)_block\.attn\.", r".\1_block.\1_attn.fn."),
        (r"\.spatial_attn\.", ".window_attn."),
        (r"_block\.norm2\.", "_block.ffn.norm."),
        (r"_block\.mlp\.", "_block.ffn.fn.net."),
    )
)


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the projected features of either tower."""
    (file,) = weights.files
    tensors = read_tensors(file)
    tensors.pop("logit_scale", None)  # the temperature of the training
    refuse_misfits(spec, missing={*_STAGES, _WORDS} - tensors.keys(), unexpected=[], misshapen=[])
    with torch.device("meta"):  # no memory and no random numbers for what the file replaces
        towers = _Towers(tensors, spec)
    fill(towers, tensors, spec, name_in_file=_name_in_file)
    towers.eval()
    tokenise = _tokeniser(weights.text or weights.place, len(tensors[_WORDS]), spec)
    return Network(towers, towers.embed_images, lambda texts: towers.embed_tokens(**tokenise(texts)))


class _Towers(torch.nn.Module):
    """Both towers with their projections, sized as the tensors' shapes say."""

    def __init__(self, tensors: dict[str, torch.Tensor], spec: ModelSpec) -> None:
        super().__init__()
        widths = tuple(len(tensors[key]) for key in _STAGES)
        blocks = sorted((int(found[1]), int(found[2])) for key in tensors if (found := _IMAGE_BLOCK.match(key)))
        depths = tuple({stage: block + 1 for stage, block in blocks}.values())
        self.image_encoder = DaVit(
            embed_dims=widths,
            depths=_IMAGE_DEPTHS.get(widths[0], depths),
            num_heads=tuple(width // _IMAGE_HEAD_WIDTH for width in widths),
            window_size=_WINDOW,
            down_kernel_size=3,
            channel_attn_v2=True,
            named_blocks=True,
            num_classes=0,
        )
        self.image_projection = torch.nn.Parameter(torch.empty(widths[-1], spec.dimension))
        words, width = tensors[_WORDS].shape
        layers = len({found[1] for key in tensors if (found := _TEXT_BLOCK.match(key))})
        self.lang_encoder = _TextTower(words, width, layers=_TEXT_DEPTHS.get(width, layers), context=spec.context)
        self.lang_projection = torch.nn.Parameter(torch.empty(width, spec.dimension))

    def embed_images(self, batch: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.image_encoder(batch) @ self.image_projection
        return features

    def embed_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        device = self.lang_projection.device
        features: torch.Tensor = self.lang_encoder(input_ids.to(device), attention_mask.to(device) == 0)
        return features @ self.lang_projection


class _TextTower(torch.nn.Module):
    """A transformer that looks both ways; the end token's features are the text's."""

    def __init__(self, words: int, width: int, *, layers: int, context: int) -> None:
        super().__init__()
        self.token_embedding = torch.nn.Embedding(words, width)
        self.positional_embedding = torch.nn.Parameter(torch.empty(context, width))
        self.resblocks = torch.nn.ModuleList(_TextBlock(width) for _ in range(layers))
        self.ln_final = torch.nn.LayerNorm(width, eps=1e-12)

    def forward(self, ids: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        """(n, context) tokens, and where they are padding -> (n, width).

        The end token has the highest number of all, and the first of several is taken: padding repeats it.
        """
        features = self.token_embedding(ids) + self.positional_embedding
        for block in self.resblocks:
            features = block(features, padding)
        end: torch.Tensor = self.ln_final(features)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        return end


class _TextBlock(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(width, max(1, width // _TEXT_HEAD_WIDTH), batch_first=True)
        self.ln_1 = torch.nn.LayerNorm(width, eps=1e-12)
        widen, narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.mlp = torch.nn.Sequential(OrderedDict(c_fc=widen, gelu=_QuickGelu(), c_proj=narrow))
        self.ln_2 = torch.nn.LayerNorm(width, eps=1e-12)

    def forward(self, features: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        normed = self.ln_1(features)
        attended, _ = self.attn(normed, normed, normed, key_padding_mask=padding, need_weights=False)
        features = features + attended
        widened: torch.Tensor = self.mlp(self.ln_2(features))
        return features + widened


class _QuickGelu(torch.nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * torch.sigmoid(1.702 * features)


def _name_in_file(key: str) -> str:
    for ours, theirs in _NAMES:
        key = ours.sub(theirs, key)
    return key


def _tokeniser(folder: Path, words: int, spec: ModelSpec) -> Callable[[list[str]], dict[str, torch.Tensor]]:
    """Texts -> tokens and mask, (n, context) each."""
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True, pad_token="<|endoftext|>")  # noqa: S106 -- a word of the vocabulary  # nosec B106 B615
    if len(tokenizer) != words:
        raise ModelUnavailableError(
            f"the tokenizer of {spec.name} in {folder} knows {len(tokenizer)} tokens, its text tower {words}"
        )
    return partial(tokenizer, padding="max_length", max_length=spec.context, truncation=True, return_tensors="pt")
