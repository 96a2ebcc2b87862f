"""Tiny models in each library's own format, with that library's own recipe: what the loaders are held against.

Every builder writes a folder as the hub would hold it (random weights, the library's own `save`) and returns a case.
The recipe of a case goes the library's way from the picture to the features; ours is `largest_difference`'s.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from timm.models import save_for_hf
from tokenizers import Tokenizer, models, pre_tokenizers

from radsearch.models.inputs import Inputs, mean_of_map
from radsearch.models.loaders.transformers import mask_noise
from radsearch.models.network import Network
from radsearch.models.preprocessing import prepare
from radsearch.models.spec import ModelSpec, Preprocessing
from radsearch.models.table import NORMALISATIONS
from radsearch.models.weights import find_weights
from radsearch.study import Picture

SIZE = 32
TEXTS = ["chest radiograph with effusion", "normal", "mr image of the knee , a fracture"]
TOLERANCE = 1e-4
_WORDS = ["<pad>", "</s>", "<unk>", *" ".join(TEXTS).replace(",", "").split()]
_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_SMALL, "image_size": SIZE, "patch_size": 8}
_WITHOUT_PADDING = "mean of the last feature map without padding"

Recipe = Callable[[Sequence[Picture]], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One tiny model. recipe: pictures -> (n, dimension) by the library alone; texts: likewise, where it has them."""

    name: str
    spec: ModelSpec
    recipe: Recipe
    texts: Callable[[list[str]], torch.Tensor] | None = None
    tolerance: float = TOLERANCE

    @property
    def library(self) -> str:
        package = {"open_clip": "open_clip_torch"}.get(self.spec.library, self.spec.library)
        return f"{self.spec.library} {version(package)}"


def pictures() -> list[Picture]:
    """Grey and coloured, square and not; with sides that put the centre crop between pixels."""
    shapes = ((40, 30), (64, 64, 3), (60, 160, 3), (301, 224), (79, 131, 3), (140, 100), (1, 5))
    return [_picture(shape, seed) for seed, shape in enumerate(shapes)]


def largest_difference(case: Case) -> float:
    """The longest distance, over all pictures, between our unit vector and the library's."""
    network, how = loaded(case.spec), case.spec.preprocessing
    batch = Inputs(how, torch.device("cpu")).of_prepared([prepare(picture, how) for picture in pictures()])
    with torch.inference_mode():
        ours = network.images(batch.pixels)
        if ours.ndim == 4:
            ours = mean_of_map(ours, batch, without_padding=case.spec.pooling == _WITHOUT_PADDING)
    return _farthest(ours, _theirs(case))


def largest_text_difference(case: Case) -> float:
    """As `largest_difference`, for the texts."""
    network = loaded(case.spec)
    with torch.inference_mode():
        return _farthest(network.texts(TEXTS), case.texts(TEXTS))


def least_distance(case: Case) -> float:
    """Between the library's vectors of any two pictures: how much a fault can show."""
    return float(torch.pdist(_unit(_theirs(case))).min())


@functools.cache
def _theirs(case: Case) -> torch.Tensor:
    with torch.inference_mode():
        return case.recipe(pictures())


def loaded(spec: ModelSpec) -> Network:
    """By our loader, from the row's folder."""
    loader = import_module(f"radsearch.models.loaders.{spec.library}")
    network = loader.load(spec, find_weights(spec, None))
    network.module.eval()
    return network


def row(folder: Path, library: str, pooling: str, how: Preprocessing, **rest: Any) -> ModelSpec:
    named = {"name": folder.name, "family": "own", "revision": "", "dimension": 1}
    return ModelSpec(library=library, weights=f"path:{folder}", pooling=pooling, preprocessing=how, **{**named, **rest})


# --- transformers


def clip(folder: Path) -> Case:
    text = {**_SMALL, "vocab_size": len(_clip_vocabulary()), "max_position_embeddings": 16, "eos_token_id": 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)
    _save(transformers.CLIPModel(config), folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SIZE).save_pretrained(folder)
    transformers.CLIPTokenizer(vocab=_clip_vocabulary(), merges=[]).save_pretrained(folder)
    return _two_towers("CLIP", folder, _how("shortest", "bicubic", "clip"))


def siglip(folder: Path) -> Case:
    return _siglip("SigLIP", folder, "bicubic")


def siglip2(folder: Path) -> Case:
    """Of a fixed size, as most of its repositories are: SigLIP's architecture and a bilinear resize."""
    return _siglip("SigLIP 2", folder, "bilinear")


def _siglip(name: str, folder: Path, interpolation: str) -> Case:
    save_siglip(folder, len(_WORDS))
    resample = {"bilinear": 2, "bicubic": 3}[interpolation]
    transformers.SiglipImageProcessor(size=_square(SIZE), resample=resample).save_pretrained(folder)
    _word_tokenizer().save_pretrained(folder)
    return _two_towers(name, folder, _how("squash", interpolation, "half"))


def save_siglip(folder: Path, vocabulary: int) -> None:
    text = {**_SMALL, "vocab_size": vocabulary, "max_position_embeddings": 16}
    _save(transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=_VISION)), folder)


def dinov2(folder: Path, pooling: str = "class token") -> Case:
    _save(transformers.Dinov2Model(transformers.Dinov2Config(**_VISION)), folder)
    _bit_processor(folder)
    take = {"class token": lambda states: states[:, 0], "mean of the patches": lambda states: states[:, 1:].mean(1)}
    spec = row(folder, "transformers", pooling, _how("shortest", "bicubic", "imagenet", shortest_side=36))
    return _states("DINOv2", spec, transformers.Dinov2Model, take[pooling])


def dinov2_patches(folder: Path) -> Case:
    return dinov2(folder, "mean of the patches")


def dinov3(folder: Path) -> Case:
    """Its processor resizes on floats, where ours rounds to bytes as Pillow does: hence the wider tolerance."""
    spec = _dinov3(folder, transformers.DINOv3ViTImageProcessor, "class token")
    case = _states("DINOv3, own processor", spec, transformers.DINOv3ViTModel, lambda states: states[:, 0])
    return replace(case, tolerance=2e-2)


def dinov3_by_bytes(folder: Path) -> Case:
    spec = _dinov3(folder, transformers.ViTImageProcessor, "class token")
    return _states("DINOv3, bytes", spec, transformers.DINOv3ViTModel, lambda states: states[:, 0])


def dinov3_patches(folder: Path) -> Case:
    spec = _dinov3(folder, transformers.ViTImageProcessor, "mean of the patches")
    return _states("DINOv3, bytes", spec, transformers.DINOv3ViTModel, lambda states: states[:, 5:].mean(1))


def _dinov3(folder: Path, processor: Any, pooling: str) -> ModelSpec:
    _save(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**_VISION, num_register_tokens=4)), folder)
    mean, std = NORMALISATIONS["imagenet"]
    processor(size=_square(SIZE), image_mean=list(mean), image_std=list(std)).save_pretrained(folder)
    return row(folder, "transformers", pooling, _how("squash", "bilinear", "imagenet"))


def vit(folder: Path) -> Case:
    """From a classifier's checkpoint, which has no pooling layer."""
    _save(transformers.ViTForImageClassification(transformers.ViTConfig(**_VISION)), folder)
    return _states("ViT", _vit_row(folder, "class token"), transformers.ViTModel, lambda states: states[:, 0])


def vit_pooled(folder: Path) -> Case:
    _save(transformers.ViTModel(transformers.ViTConfig(**_VISION)), folder)
    model = transformers.ViTModel.from_pretrained(folder)
    return Case(
        "ViT", _vit_row(folder, "pooled"), lambda seen: model(pixel_values=_processed(folder, seen)).pooler_output
    )


def mae(folder: Path) -> Case:
    """The library's own way to see the whole picture: no mask, the patches in order."""
    return _mae(folder, 0.0, lambda pixels: torch.arange(16).expand(len(pixels), -1))


def mae_as_published(folder: Path) -> Case:
    return _mae(folder, 0.75, lambda pixels: mask_noise(pixels, 16))


def _mae(folder: Path, ratio: float, noise: Callable[[torch.Tensor], torch.Tensor]) -> Case:
    decoder = {f"decoder_{key}": value for key, value in _SMALL.items()}
    _save(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**_VISION, **decoder)), folder)
    spec = replace(_vit_row(folder, "class token"), config=(("mask_ratio", ratio),))
    model = transformers.ViTMAEModel.from_pretrained(folder, mask_ratio=ratio)

    def recipe(seen: Sequence[Picture]) -> torch.Tensor:
        pixels = _processed(folder, seen)
        return model(pixel_values=pixels, noise=noise(pixels)).last_hidden_state[:, 0]

    return Case(f"ViTMAE, {ratio:.0%} masked", spec, recipe)


def sam(folder: Path, pooling: str = "mean of the last feature map") -> Case:
    vision = {**_VISION, "image_size": 64, "patch_size": 16, "output_channels": 8, "window_size": 2}
    parts = {"prompt_encoder_config": {"hidden_size": 8, "image_size": 64}, "mask_decoder_config": _SMALL}
    parts["mask_decoder_config"] = {**_SMALL, "hidden_size": 8, "mlp_dim": 16, "iou_head_hidden_dim": 8}
    config = transformers.SamConfig(vision_config={**vision, "global_attn_indexes": [1]}, **parts)
    _save(transformers.SamModel(config), folder)
    transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size=_square(64)).save_pretrained(folder)
    model = transformers.SamModel.from_pretrained(folder)
    spec = row(
        folder, "transformers", pooling, replace(_how("longest", "bilinear", "imagenet"), size=64, shortest_side=64)
    )
    return Case(
        "SAM", spec, lambda seen: _mean_of_sam(model, folder, seen, without_padding=pooling == _WITHOUT_PADDING)
    )


def sam_without_padding(folder: Path) -> Case:
    return sam(folder, _WITHOUT_PADDING)


def resnet(folder: Path, pooling: str = "pooled") -> Case:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
    _save(transformers.ResNetForImageClassification(config), folder)
    mean, std = NORMALISATIONS["imagenet"]
    transformers.ConvNextImageProcessor(
        size={"shortest_edge": SIZE}, crop_pct=0.875, image_mean=list(mean), image_std=list(std)
    ).save_pretrained(folder)
    spec = row(folder, "transformers", pooling, _how("shortest", "bicubic", "imagenet", shortest_side=36))
    model = transformers.ResNetForImageClassification.from_pretrained(folder)
    if pooling == "logits":
        return Case("ResNet", spec, lambda seen: model(_processed(folder, seen)).logits)
    return Case("ResNet", spec, lambda seen: model.resnet(_processed(folder, seen)).pooler_output[:, :, 0, 0])


def resnet_logits(folder: Path) -> Case:
    return resnet(folder, "logits")


def swin(folder: Path) -> Case:
    config = transformers.SwinConfig(image_size=SIZE, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    _save(transformers.SwinModel(config), folder)
    mean, std = NORMALISATIONS["imagenet"]
    transformers.ViTImageProcessor(
        size=_square(SIZE), resample=3, image_mean=list(mean), image_std=list(std)
    ).save_pretrained(folder)
    model = transformers.SwinModel.from_pretrained(folder)
    spec = row(folder, "transformers", "pooled", _how("squash", "bicubic", "imagenet"))
    return Case("Swin", spec, lambda seen: model(_processed(folder, seen)).pooler_output)


# --- open_clip

OPEN_CLIP_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
_OPEN_CLIP_VISION = {"image_size": SIZE, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
_TEST_VIT = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 64}


def open_clip_clip(folder: Path, **changes: object) -> Case:
    config = {"embed_dim": 12, "vision_cfg": _OPEN_CLIP_VISION, "text_cfg": OPEN_CLIP_TEXT, **changes}
    save_open_clip(folder, config, {})
    return _open_clip("CLIP", folder, _how("shortest", "bicubic", "clip", crop="round"))


def open_clip_quickgelu(folder: Path) -> Case:
    return replace(open_clip_clip(folder, quick_gelu=True), name="CLIP, QuickGELU")


def open_clip_siglip(folder: Path) -> Case:
    text = {**OPEN_CLIP_TEXT, "vocab_size": len(_WORDS), "no_causal_mask": True, "pool_type": "last"}
    text |= {"hf_tokenizer_name": "nobody/words", "tokenizer_kwargs": {"clean": "canonicalize"}}
    _word_tokenizer().save_pretrained(folder)
    config = {"embed_dim": 12, "custom_text": True, "init_logit_bias": -10, "vision_cfg": _TEST_VIT, "text_cfg": text}
    stated = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    save_open_clip(folder, config, stated)
    return _open_clip("SigLIP", folder, replace(_how("squash", "bicubic", "half"), size=64, shortest_side=64))


def open_clip_text_tower(folder: Path) -> Case:
    """As BiomedCLIP: another repository describes its text tower; the recipe is told where that lies."""
    bert = transformers.BertConfig(**_SMALL, vocab_size=len(_WORDS), max_position_embeddings=16, pad_token_id=0)
    bert.save_pretrained(folder / "text")
    _word_tokenizer().save_pretrained(folder)
    text = {"hf_model_name": str(folder / "text"), "hf_tokenizer_name": "nobody/words", "context_length": 16}
    text |= {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    config = {"embed_dim": 12, "vision_cfg": _TEST_VIT, "text_cfg": text}
    mean, std = NORMALISATIONS["clip"]
    save_open_clip(folder, config, {"mean": mean, "std": std})
    how = replace(_how("shortest", "bicubic", "clip", crop="round"), size=64, shortest_side=64)
    case = _open_clip("CLIP, text tower of transformers", folder, how)
    text["hf_model_name"] = "nobody/bert"
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {"mean": mean, "std": std}})
    return replace(case, spec=replace(case.spec, text_tower="nobody/bert@0123"))


def save_open_clip(folder: Path, config: dict[str, Any], stated: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": stated})
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save_file(_scrambled(model).state_dict(), folder / "open_clip_model.safetensors")


def _open_clip(name: str, folder: Path, how: Preprocessing) -> Case:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    return Case(
        name,
        row(folder, "open_clip", "image features", how, text=True, context=16),
        lambda seen: model.encode_image(torch.stack([transform(image) for image in _images(seen)])),
        lambda texts: model.encode_text(tokenizer(texts)),
    )


# --- timm


def timm_vit(folder: Path, pooling: str = "pooled", architecture: str = "test_vit") -> Case:
    save_for_hf(_scrambled(timm.create_model(architecture, num_classes=5)), folder, safe_serialization=True)
    headless = 5 if pooling == "logits" else 0
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=headless).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    take = model.forward_features if pooling == "class token" else model

    def recipe(seen: Sequence[Picture]) -> torch.Tensor:
        features = take(torch.stack([transform(image) for image in _images(seen)]))
        return features[:, 0] if pooling == "class token" else features

    interpolation = "bicubic" if architecture == "test_vit" else "bilinear"
    how = Preprocessing(160, "shortest", 168, interpolation, *NORMALISATIONS["half"])
    return Case(architecture, row(folder, "timm", pooling, how), recipe)


def timm_vit_class_token(folder: Path) -> Case:
    return timm_vit(folder, "class token")


def timm_resnet(folder: Path) -> Case:
    return timm_vit(folder, "pooled", "test_resnet")


def timm_resnet_logits(folder: Path) -> Case:
    return timm_vit(folder, "logits", "test_resnet")


BUILDERS: tuple[Callable[[Path], Case], ...] = (
    *(clip, siglip, siglip2, dinov2, dinov2_patches, dinov3, dinov3_by_bytes, dinov3_patches, vit, vit_pooled),
    *(mae, mae_as_published, sam, sam_without_padding, resnet, resnet_logits, swin),
    *(open_clip_clip, open_clip_quickgelu, open_clip_siglip, open_clip_text_tower),
    *(timm_vit, timm_vit_class_token, timm_resnet, timm_resnet_logits),
)


# --- parts of the above


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def _how(
    resize: Any, interpolation: Any, normalise: str, *, shortest_side: int = SIZE, crop: Any = "floor"
) -> Preprocessing:
    return Preprocessing(SIZE, resize, shortest_side, interpolation, *NORMALISATIONS[normalise], crop=crop)


def _vit_row(folder: Path, pooling: str) -> ModelSpec:
    transformers.ViTImageProcessor(size=_square(SIZE)).save_pretrained(folder)
    return row(folder, "transformers", pooling, _how("squash", "bilinear", "half"))


def _two_towers(name: str, folder: Path, how: Preprocessing) -> Case:
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def texts(batch: list[str]) -> torch.Tensor:
        tokens = tokenizer(batch, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
        return model.get_text_features(**tokens).pooler_output

    return Case(
        name,
        row(folder, "transformers", "image features", how, text=True, context=16),
        lambda seen: model.get_image_features(_processed(folder, seen)).pooler_output,
        texts,
    )


def _states(name: str, spec: ModelSpec, kind: Any, take: Callable[[torch.Tensor], torch.Tensor]) -> Case:
    model = kind.from_pretrained(spec.folder)
    return Case(name, spec, lambda seen: take(model(_processed(spec.folder, seen)).last_hidden_state))


def _mean_of_sam(model: Any, folder: Path, seen: Sequence[Picture], *, without_padding: bool) -> torch.Tensor:
    """A position counts where any of its 16 x 16 pixels is picture."""
    processed = _processor(folder)(images=_images(seen), return_tensors="pt")
    features = model.get_image_embeddings(processed["pixel_values"])
    picture = torch.ones(len(seen), 1, 64, 64)
    for mask, (rows, columns) in zip(picture, processed["reshaped_input_sizes"].tolist(), strict=True):
        if without_padding:
            mask[:, rows:] = 0
            mask[:, :, columns:] = 0
    counts = torch.nn.functional.max_pool2d(picture, 16)
    return (features * counts).sum(dim=(2, 3)) / counts.sum(dim=(2, 3))


def _bit_processor(folder: Path) -> None:
    mean, std = NORMALISATIONS["imagenet"]
    transformers.BitImageProcessor(
        size={"shortest_edge": 36}, crop_size=SIZE, image_mean=list(mean), image_std=list(std)
    ).save_pretrained(folder)


def _processor(folder: Path | None) -> Any:
    return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)


def _processed(folder: Path | None, seen: Sequence[Picture]) -> torch.Tensor:
    return _processor(folder)(images=_images(seen), return_tensors="pt")["pixel_values"]


def _images(seen: Sequence[Picture]) -> list[Image.Image]:
    return [Image.fromarray(picture).convert("RGB") for picture in seen]


def _save(model: Any, folder: Path) -> None:
    _scrambled(model).save_pretrained(folder)


def _scrambled(model: Any, seed: int = 0) -> Any:
    """Random weights large enough that the features depend on the picture, in every tensor that there is."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim < 2:
                tensor.copy_(0.1 * noise + name.endswith(("weight", "lambda1")))
            else:
                tensor.copy_(1.5 * noise / math.sqrt(tensor[0].numel()))
    return model


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _word_tokenizer() -> Any:
    whole = Tokenizer(models.WordLevel({word: number for number, word in enumerate(dict.fromkeys(_WORDS))}, "<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, model_input_names=["input_ids"], **special)


def _clip_vocabulary() -> dict[str, int]:
    letters = sorted({letter for text in TEXTS for letter in text if letter != " "})
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return {word: number for number, word in enumerate(words)}


def _picture(shape: tuple[int, ...], seed: int) -> Picture:
    """Smooth, so that something is left of it at the size of the tiny models."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, *shape[2:]), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / features.norm(dim=1, keepdim=True)


def _farthest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((_unit(ours) - _unit(theirs)).norm(dim=1).max())
