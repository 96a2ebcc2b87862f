"""The loaders against the libraries themselves, on tiny models: the same vectors, or a refusal that says why."""

import functools
import json
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loader_cases as cases
import numpy as np
import pytest
import timm
import torch
import transformers
from loader_cases import Case, largest_difference, loaded, write_json
from PIL import Image
from safetensors.torch import load_file, save_file

from radsearch.errors import ModelUnavailableError
from radsearch.models import built_in_models
from radsearch.models.loaders import open_clip as open_clip_loader
from radsearch.models.loaders import timm as timm_loader
from radsearch.models.loaders.transformers import mask_noise
from radsearch.models.preprocessing import prepare
from radsearch.models.stated import refuse_disagreement, stated_preprocessing
from radsearch.models.table import NORMALISATIONS
from radsearch.models.weights import Weights, find_weights

Builder = Callable[[Path], Case]
Cases = Callable[[Builder], Case]
WITH_TEXTS = [cases.clip, cases.siglip, cases.open_clip_clip, cases.open_clip_siglip, cases.open_clip_text_tower]
OF_EACH_LIBRARY = [cases.dinov2, cases.open_clip_clip, cases.timm_vit]
SAFETENSORS = {"transformers": "model", "open_clip": "open_clip_model", "timm": "model"}
PICKLES = {"transformers": "pytorch_model", "open_clip": "open_clip_pytorch_model", "timm": "pytorch_model"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """For networks so small, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Builds a case once for all tests."""
    folder = tmp_path_factory.mktemp("cases")
    return functools.cache(lambda builder: builder(folder / builder.__name__))


def every(builders: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("builder", builders, ids=lambda builder: builder.__name__)


# --- the same vectors


@every(cases.BUILDERS)
def test_a_picture_gets_the_library_s_own_vector(case_of: Cases, builder: Builder) -> None:
    assert largest_difference(case_of(builder)) < case_of(builder).tolerance


@every(cases.BUILDERS)
def test_the_pictures_are_told_apart_by_far_more_than_that(case_of: Cases, builder: Builder) -> None:
    assert cases.least_distance(case_of(builder)) > 10 * case_of(builder).tolerance


@every([cases.clip, cases.dinov2, cases.open_clip_clip, cases.timm_vit])
def test_a_centre_crop_rounded_the_other_way_would_show(case_of: Cases, builder: Builder) -> None:
    case = case_of(builder)
    other = {"round": "floor", "floor": "round"}[case.spec.preprocessing.crop]
    turned = replace(case.spec, preprocessing=replace(case.spec.preprocessing, crop=other))
    assert largest_difference(replace(case, spec=turned)) > 30 * case.tolerance


@every(WITH_TEXTS)
def test_a_text_gets_the_library_s_own_vector(case_of: Cases, builder: Builder) -> None:
    case = case_of(builder)
    assert cases.largest_text_difference(case) < case.tolerance
    with torch.inference_mode():
        assert float(torch.pdist(case.texts(cases.TEXTS)).min()) > 30 * case.tolerance


@every(cases.BUILDERS)
def test_the_folder_states_the_preprocessing_of_the_row(case_of: Cases, builder: Builder) -> None:
    spec = case_of(builder).spec
    assert {"size", "resize", "interpolation", "mean", "std"} <= stated_preprocessing(spec.folder).keys()
    refuse_disagreement(spec, spec.folder)


def test_siglip_s_own_tokenizer_is_used(case_of: Cases, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "words.txt").write_text("\n".join(cases.TEXTS * 20), encoding="utf-8")
    pieces = {"model_prefix": str(tmp_path / "spiece"), "vocab_size": 40, "hard_vocab_limit": False}
    special = {"bos_id": -1, "eos_id": 1, "unk_id": 2, "pad_id": 0, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=str(tmp_path / "words.txt"), **pieces, **special)
    tokenizer = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"), model_input_names=["input_ids"])
    spec = replace(case_of(cases.siglip).spec, weights=f"path:{tmp_path}")
    cases.save_siglip(tmp_path, len(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    model = transformers.SiglipModel.from_pretrained(tmp_path)
    tokens = tokenizer(cases.TEXTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(**tokens).pooler_output
        assert torch.allclose(loaded(spec).texts(cases.TEXTS), expected, atol=1e-5)


# --- a masked autoencoder


def test_a_masked_picture_keeps_its_vector_beside_any_other_and_in_any_order(case_of: Cases) -> None:
    network, pixels = loaded(case_of(cases.mae_as_published).spec), torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        together = network.images(pixels)
        torch.manual_seed(7)
        backwards = network.images(pixels.flip(0)).flip(0)
        alone = torch.cat([network.images(picture[None]) for picture in pixels])
    assert torch.allclose(together, backwards, atol=1e-5)
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_mask_is_the_picture_s_own() -> None:
    pixels = torch.randn(3, 3, 32, 32)
    noise = mask_noise(pixels, 16)
    assert noise.shape == (3, 16)
    assert len({tuple(row) for row in noise.argsort(dim=1).tolist()}) == 3
    assert torch.equal(noise, mask_noise(pixels.contiguous(memory_format=torch.channels_last), 16))
    moved = pixels.clone()
    moved[0, 0, 0, 0] += 0.02  # a step of one byte is 0.017
    assert [torch.equal(*pair) for pair in zip(noise, mask_noise(moved, 16), strict=True)] == [False, True, True]


def test_a_mask_of_large_pictures_is_summed_without_overflow() -> None:
    pixels = torch.full((1, 3, 64, 64), 2.7)
    factors = [place * 2654435761 % (1 << 24) for place in range(1, 3 * 64 * 64 + 1)]
    expected = torch.rand(9, generator=torch.Generator().manual_seed(2700 * sum(factors)))
    assert torch.equal(mask_noise(pixels, 9)[0], expected)
    assert 2700 * (1 << 24) * 3 * 1024 * 1024 < 1 << 63


# --- what is missing or too much


def copied(case: Case, folder: Path) -> Any:
    """The row of a copy of the case's folder."""
    copy = folder / "copy"
    shutil.copytree(case.spec.folder, copy)
    return replace(case.spec, weights=f"path:{copy}")


def rewritten(case: Case, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Any:
    """The row of a copy whose checkpoint was changed."""
    spec = copied(case, folder)
    file = spec.folder / f"{SAFETENSORS[spec.library]}.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    return spec


def last_layer(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in tensors if re.match(r"(?!decoder).*(layers?|blocks|stages)\.1\.", name)]


@every([cases.clip, cases.dinov2, cases.vit, cases.mae, cases.sam, cases.resnet, cases.swin])
def test_a_missing_tensor_is_refused_by_name(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    spec = rewritten(case_of(builder), tmp_path, lambda tensors: tensors.pop(last_layer(tensors)[0]))
    with pytest.raises(ModelUnavailableError, match=rf"the weights of {spec.name} do not fit.*1 missing \(.*\.1\."):
        loaded(spec)


@every([cases.clip, cases.dinov2, cases.vit, cases.mae, cases.sam, cases.resnet_logits, cases.swin])
def test_the_layers_of_a_deeper_model_are_refused(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    def deepen(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name.replace(".1.", ".7."): tensors[name] for name in last_layer(tensors)}

    with pytest.raises(ModelUnavailableError, match=r"unexpected \(.*\.7\."):
        loaded(rewritten(case_of(builder), tmp_path, deepen))


@every([cases.clip, cases.dinov2, cases.vit, cases.mae, cases.sam, cases.resnet, cases.swin])
def test_a_wider_tensor_is_refused_by_name(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    def widen(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in last_layer(tensors) if tensors[name].ndim > 0)
        tensors[name] = torch.cat([tensors[name]] * 2)

    with pytest.raises(ModelUnavailableError, match=r"1 of another shape \("):
        loaded(rewritten(case_of(builder), tmp_path, widen))


def test_a_pooling_layer_is_missed_only_where_its_output_is_the_vector(case_of: Cases, tmp_path: Path) -> None:
    spec = replace(copied(case_of(cases.vit), tmp_path), pooling="pooled")
    with pytest.raises(ModelUnavailableError, match=re.escape("2 missing (pooler.dense.bias, pooler.dense.weight)")):
        loaded(spec)


@every([cases.open_clip_clip, cases.timm_vit])
def test_open_clip_and_timm_refuse_a_missing_tensor(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    spec = rewritten(case_of(builder), tmp_path, lambda tensors: tensors.pop(last_layer(tensors)[0]))
    with pytest.raises(RuntimeError, match="Missing key"):
        loaded(spec)


@every([cases.open_clip_clip, cases.timm_vit])
def test_open_clip_and_timm_refuse_the_layers_of_a_deeper_model(
    case_of: Cases, builder: Builder, tmp_path: Path
) -> None:
    def deepen(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name.replace(".1.", ".7."): tensors[name] for name in last_layer(tensors)}

    with pytest.raises(RuntimeError, match="Unexpected key"):
        loaded(rewritten(case_of(builder), tmp_path, deepen))


def test_a_missing_classifier_is_no_reason_for_timm_to_mind_less(case_of: Cases, tmp_path: Path) -> None:
    """Asked for a model without classifier, timm itself loads this checkpoint and says nothing."""
    spec = rewritten(case_of(cases.timm_vit), tmp_path, lambda tensors: tensors.pop("norm.weight"))
    timm.create_model(f"local-dir:{spec.folder}", pretrained=True, num_classes=0)
    with pytest.raises(RuntimeError, match="Missing key"):
        loaded(spec)


def test_a_family_that_timm_loads_leniently_is_refused_too(tmp_path: Path) -> None:
    model = timm.create_model("dla46_c", num_classes=5)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    spec = cases.row(tmp_path, "timm", "pooled", built_in_models()["resnet50"].preprocessing)
    loaded(spec)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("level5.root.conv.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelUnavailableError, match=r"Missing keys \(level5\.root\.conv\.weight\)"):
        loaded(spec)


@every(OF_EACH_LIBRARY)
def test_a_folder_without_weights_never_gives_random_ones(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    spec = copied(case_of(builder), tmp_path)
    file = spec.folder / f"{SAFETENSORS[spec.library]}.safetensors"
    file.unlink()
    with pytest.raises(ModelUnavailableError, match="holds no weights"):
        find_weights(spec, None)
    loader = {"open_clip": open_clip_loader, "timm": timm_loader}.get(spec.library)
    if loader is not None:
        with pytest.raises(FileNotFoundError):
            loader.load(spec, Weights(spec.folder, (file,)))


def test_timm_s_own_addresses_are_not_asked(case_of: Cases, tmp_path: Path) -> None:
    spec = copied(case_of(cases.timm_vit), tmp_path)
    config = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))
    config["pretrained_cfg"] |= {"hf_hub_id": "nobody/else", "url": "https://nobody.invalid/x.pth", "file": "/nowhere"}
    write_json(spec.folder / "config.json", config)
    assert largest_difference(replace(case_of(cases.timm_vit), spec=spec)) < cases.TOLERANCE


# --- several files in a folder


@every(OF_EACH_LIBRARY)
def test_the_named_file_is_the_one_that_is_loaded(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    case = case_of(builder)
    spec = copied(case, tmp_path)
    preferred = spec.folder / f"{SAFETENSORS[spec.library]}.safetensors"
    tensors = load_file(preferred)
    torch.save(tensors, spec.folder / f"{PICKLES[spec.library]}.bin")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, preferred, metadata={"format": "pt"})
    named = replace(spec, files=(f"{PICKLES[spec.library]}.bin",))
    assert largest_difference(replace(case, spec=named)) < cases.TOLERANCE
    assert largest_difference(replace(case, spec=spec)) > 0.01


@every([cases.open_clip_clip, cases.timm_vit])
def test_a_file_of_any_name_can_be_named(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    case = case_of(builder)
    spec = copied(case, tmp_path)
    usual = spec.folder / f"{SAFETENSORS[spec.library]}.safetensors"
    for name in ("mine", "other"):
        shutil.copy(usual, spec.folder / f"{name}.safetensors")
    usual.unlink()
    with pytest.raises(ModelUnavailableError, match=r"several weights \(mine\.safetensors, other\.safetensors\)"):
        loaded(spec)
    named = replace(spec, files=("mine.safetensors",))
    assert largest_difference(replace(case, spec=named)) < cases.TOLERANCE


def test_a_file_that_transformers_would_pass_over_is_refused(case_of: Cases, tmp_path: Path) -> None:
    spec = copied(case_of(cases.dinov2), tmp_path)
    (spec.folder / "mine.safetensors").write_bytes((spec.folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelUnavailableError, match=r"would pass over mine\.safetensors"):
        loaded(replace(spec, files=("mine.safetensors",)))


# --- no code of a folder's is run


class Planted:
    """Once unpickled it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._trace,))


@every(OF_EACH_LIBRARY)
def test_a_pickle_of_more_than_tensors_is_refused(case_of: Cases, builder: Builder, tmp_path: Path) -> None:
    spec, trace = copied(case_of(builder), tmp_path), tmp_path / "trace"
    file = spec.folder / f"{SAFETENSORS[spec.library]}.safetensors"
    torch.save({**load_file(file), "planted": Planted(trace)}, spec.folder / f"{PICKLES[spec.library]}.bin")
    file.unlink()
    with pytest.raises((pickle.UnpicklingError, RuntimeError), match=r"(?i)weights.only"):
        loaded(spec)
    assert not trace.exists()


@pytest.mark.parametrize("model_type", ["dinov2", "nobody_knows"])
def test_code_that_a_folder_brings_is_not_run(case_of: Cases, tmp_path: Path, model_type: str) -> None:
    spec, trace = copied(case_of(cases.dinov2), tmp_path), tmp_path / "trace"
    (spec.folder / "mine.py").write_text(
        f"open({str(trace)!r}, 'w')\nclass Mine: pass\nConfig = Mine\n", encoding="utf-8"
    )
    config = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": model_type, "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Mine"}}
    write_json(spec.folder / "config.json", config)
    if model_type == "dinov2":
        assert largest_difference(replace(case_of(cases.dinov2), spec=spec)) < cases.TOLERANCE
    else:
        with pytest.raises(ValueError, match="custom code"):
            loaded(spec)
    assert not trace.exists()


def test_code_of_a_tokenizer_is_not_run_though_the_configuration_allows_it(case_of: Cases, tmp_path: Path) -> None:
    spec, trace = copied(case_of(cases.open_clip_siglip), tmp_path), tmp_path / "trace"
    (spec.folder / "mine.py").write_text(f"open({str(trace)!r}, 'w')\nclass Mine: pass\n", encoding="utf-8")
    asked = json.loads((spec.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    asked |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    write_json(spec.folder / "tokenizer_config.json", asked)
    config = json.loads((spec.folder / "open_clip_config.json").read_text(encoding="utf-8"))
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    write_json(spec.folder / "open_clip_config.json", config)
    with pytest.raises(ValueError, match="custom code"):
        loaded(spec)
    assert not trace.exists()


@every([cases.clip, cases.siglip, cases.open_clip_text_tower, cases.timm_vit])
def test_loading_and_embedding_ask_nobody(case_of: Cases, builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = case_of(builder).spec

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    network = loaded(spec)
    if network.texts is not None:
        network.texts(cases.TEXTS)


# --- what a row may ask for


@every(OF_EACH_LIBRARY)
def test_an_unknown_pooling_is_refused_and_the_known_ones_are_listed(case_of: Cases, builder: Builder) -> None:
    with pytest.raises(ModelUnavailableError, match=r"no pooling 'vibes' in \w+; there (is|are): .*features|pooled"):
        loaded(replace(case_of(builder).spec, pooling="vibes"))


@every([cases.siglip, cases.swin, cases.resnet, cases.timm_resnet])
def test_a_class_token_is_not_taken_from_a_model_that_has_none(case_of: Cases, builder: Builder) -> None:
    with pytest.raises(ModelUnavailableError, match="has no class token"):
        loaded(replace(case_of(builder).spec, pooling="class token", text=False))


def test_texts_ask_for_the_features_that_they_are_comparable_with(case_of: Cases) -> None:
    with pytest.raises(ModelUnavailableError, match="comparable with 'image features' only"):
        loaded(replace(case_of(cases.clip).spec, pooling="pooled"))


def test_a_siglip_for_pictures_of_any_shape_is_refused(tmp_path: Path) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Siglip2Config(text_config={**vision, "vocab_size": 9}, vision_config=vision)
    transformers.Siglip2Model(config).save_pretrained(tmp_path)
    spec = cases.row(tmp_path, "transformers", "image features", built_in_models()["medsiglip"].preprocessing)
    with pytest.raises(ModelUnavailableError, match="pictures of any shape"):
        loaded(spec)


def test_of_a_model_with_two_towers_one_can_be_taken(case_of: Cases) -> None:
    spec = replace(case_of(cases.clip).spec, pooling="pooled", text=False)
    model = transformers.CLIPVisionModel.from_pretrained(spec.folder)
    pixels = torch.randn(2, 3, 32, 32)
    network = loaded(spec)
    with torch.inference_mode():
        assert torch.allclose(network.images(pixels), model(pixels).pooler_output, atol=1e-5)
    assert type(network.module) is transformers.CLIPVisionModel


def test_only_the_part_that_runs_is_kept(case_of: Cases) -> None:
    assert not hasattr(loaded(case_of(cases.sam).spec).module, "mask_decoder")
    assert not hasattr(loaded(replace(case_of(cases.clip).spec, text=False)).module, "text_model")


def test_loading_says_nothing_of_what_is_left_out_on_purpose(case_of: Cases, capfd: pytest.CaptureFixture[str]) -> None:
    case = case_of(cases.mae)
    capfd.readouterr()
    loaded(case.spec)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == transformers.logging.WARNING


# --- a text tower of transformers in open_clip


def test_a_text_tower_that_lies_nowhere_is_asked_for(case_of: Cases, tmp_path: Path) -> None:
    spec = replace(copied(case_of(cases.open_clip_text_tower), tmp_path), text_tower="")
    shutil.rmtree(spec.folder / "text")
    with pytest.raises(
        ModelUnavailableError, match=r'needs text_tower = "nobody/bert@COMMIT", or .* a folder \'text\''
    ):
        loaded(spec)


def test_a_text_tower_beside_the_weights_needs_no_mention(case_of: Cases) -> None:
    case = case_of(cases.open_clip_text_tower)
    unnamed = replace(case, spec=replace(case.spec, text_tower=""))
    assert cases.largest_text_difference(unnamed) < cases.TOLERANCE


# --- what the files of a model state

PROCESSOR, OPEN_CLIP, CONFIG = "preprocessor_config.json", "open_clip_config.json", "config.json"
WHOLE = {"size", "resize", "interpolation", "mean", "std"}
NEW = {"do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 0.00392156862745098}
OLD = {"do_normalize": True, "do_resize": True, "size": 224}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def means(name: str) -> dict[str, list[float]]:
    mean, std = NORMALISATIONS[name]
    return {"image_mean": list(mean), "image_std": list(std)}


def of_processor(kind: str, **says: Any) -> dict[str, Any]:
    """As a hub's file has it: a processor's name, or that of the feature extractor that it was once."""
    key = "feature_extractor_type" if says.pop("old", False) else "image_processor_type"
    return {PROCESSOR: {key: kind, **says}}


def of_open_clip(side: int, **preprocess_cfg: Any) -> dict[str, Any]:
    config = {"embed_dim": 512, "vision_cfg": {"image_size": side}, "text_cfg": {}}
    return {OPEN_CLIP: {"model_cfg": config, "preprocess_cfg": preprocess_cfg}}


def of_timm(**pretrained_cfg: Any) -> dict[str, Any]:
    return {CONFIG: {"architecture": "test_vit", "pretrained_cfg": pretrained_cfg}}


MEAN, STD = NORMALISATIONS["clip"]
CLIP_MEANS = {"mean": MEAN, "std": STD}
CLIP = of_processor(
    "CLIPFeatureExtractor", old=True, **OLD, crop_size=224, do_center_crop=True, resample=3, **means("clip")
)
OPENAI = of_open_clip(224, **CLIP_MEANS)
SIGLIP2 = of_open_clip(384, mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash")
MEDSIGLIP = of_processor(
    "SiglipImageProcessor", **{**NEW, "rescale_factor": 0.00392156862}, size=square(448), resample=3, **means("half")
)
BIT = {**NEW, "do_center_crop": True, "do_convert_rgb": True, "resample": 3}
DINOV2 = of_processor(
    "BitImageProcessor", **BIT, size={"shortest_edge": 256}, crop_size=square(224), **means("imagenet")
)
RAD_DINO = of_processor(
    "BitImageProcessor", **BIT, size={"shortest_edge": 518}, crop_size=square(518),
    image_mean=[0.5307] * 3, image_std=[0.2583] * 3,
)  # fmt: skip
DINOV3 = of_processor(
    "DINOv3ViTImageProcessorFast", **NEW, size=square(224), crop_size=None, default_to_square=True, do_center_crop=None,
    resample=2, **means("imagenet"),
)  # fmt: skip
MAE = of_processor("ViTFeatureExtractor", old=True, **OLD, resample=2, **means("imagenet"))
VIT = of_processor("ViTFeatureExtractor", **NEW, size=square(224), resample=2, **means("half"))
RESNET = of_processor("ConvNextFeatureExtractor", old=True, **OLD, crop_pct=0.875, resample=3, **means("imagenet"))
SAM = of_processor(
    "SamImageProcessor", **NEW, do_pad=True, size={"longest_edge": 1024}, pad_size=square(1024), resample=2,
    **means("imagenet"),
)  # fmt: skip
# Row -> the files of its repository that state a preprocessing, as far as they were seen in public.
HUB: dict[str, dict[str, Any]] = {
    "biomedclip": OPENAI,
    "clip-vit-l14": OPENAI | of_timm(input_size=[3, 224, 224], crop_pct=1.0, interpolation="bicubic", **CLIP_MEANS),
    "clip-vit-b32": OPENAI,
    "openclip-vit-h14": OPENAI | CLIP,
    "siglip2-so400m": SIGLIP2,
    "pubmedclip": CLIP,
    "medsiglip": MEDSIGLIP,
    "rad-dino": RAD_DINO,
    "dinov2-vits14": DINOV2,
    "dinov2-vitb14": DINOV2,
    "dinov2-vitl14": DINOV2,
    "dinov3-vitb16": DINOV3,
    "dinov3-vitl16": DINOV3,
    "mae-vitb16": MAE,
    "mae-vitb16-as-published": MAE,
    "vit-b16": VIT,
    "resnet50": RESNET,
    "resnet50-as-published": RESNET,
    "sam-vitb": SAM,
    "sam-vitb-as-published": SAM,
}


def snapshot(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        write_json(folder / name, content)
    return folder


@pytest.fixture
def stated(tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Writes the files and gives what they state."""
    return lambda files: stated_preprocessing(snapshot(tmp_path, files))


Stated = Callable[[dict[str, Any]], dict[str, Any]]


def test_every_row_whose_files_state_a_preprocessing_is_held_against_them() -> None:
    read = ("transformers", "open_clip", "timm")
    rows = built_in_models().items()
    assert {name for name, spec in rows if spec.library in read and spec.own_preprocessing} == HUB.keys()


@pytest.mark.parametrize("name", HUB)
def test_a_row_states_what_its_repository_states(tmp_path: Path, name: str) -> None:
    spec = built_in_models()[name]
    folder = snapshot(tmp_path, HUB[name])
    assert stated_preprocessing(folder, spec.library).keys() >= WHOLE
    refuse_disagreement(spec, folder)


@pytest.mark.parametrize("files", [CLIP, DINOV2, RAD_DINO, MAE, RESNET, of_processor("ConvNextImageProcessor")])
def test_what_is_stated_is_what_the_processor_does_pixel_by_pixel(tmp_path: Path, files: dict[str, Any]) -> None:
    folder = snapshot(tmp_path, files)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    says: dict[str, Any] = stated_preprocessing(folder)
    how = replace(built_in_models()["vit-b16"].preprocessing, crop="floor", **{"shortest_side": says["size"], **says})
    picture = np.random.default_rng(0).integers(0, 256, (301, 224, 3), dtype=np.uint8)
    theirs = processor(images=[Image.fromarray(picture)], return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = (prepare(picture, how) / 255 - np.array(how.mean)) / np.array(how.std)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ViTImageProcessor", (224, "squash", "bilinear", 0.5)),
        ("SiglipImageProcessor", (224, "squash", "bicubic", 0.5)),
        ("CLIPImageProcessor", (224, "shortest", "bicubic", MEAN[0])),
        ("BitImageProcessor", (224, "shortest", "bicubic", MEAN[0])),
        ("ConvNextImageProcessor", (384, "squash", "bicubic", 0.5)),
        ("SamImageProcessor", (1024, "longest", "bilinear", 0.485)),
        ("DINOv3ViTImageProcessorFast", (224, "squash", "bilinear", 0.485)),
    ],
)
def test_a_processor_that_says_nothing_means_its_class_s_defaults(
    stated: Stated, kind: str, expected: tuple[object, ...]
) -> None:
    says = stated(of_processor(kind))
    assert (says["size"], says["resize"], says["interpolation"], says["mean"][0]) == expected


def test_a_size_of_one_number_is_a_square_or_the_shorter_side_as_the_class_has_it(stated: Stated) -> None:
    assert stated(of_processor("ViTImageProcessor", size=96)) == stated(
        of_processor("ViTImageProcessor", size=[96, 96])
    )
    says = stated(of_processor("CLIPFeatureExtractor", old=True, size=256, crop_size=240))
    assert (says["resize"], says["shortest_side"], says["size"]) == ("shortest", 256, 240)


def test_convnext_s_share_of_the_crop_makes_the_shorter_side_below_384(stated: Stated) -> None:
    assert stated(of_processor("ConvNextImageProcessor", size=224, crop_pct=0.95))["shortest_side"] == 235
    assert stated(of_processor("ConvNextImageProcessor", size={"shortest_edge": 224}))["shortest_side"] == 256
    assert "shortest_side" not in stated(of_processor("ConvNextImageProcessor", size=384, crop_pct=0.95))


def test_a_mean_of_one_number_is_meant_for_every_channel(stated: Stated) -> None:
    says = stated(of_processor("ViTImageProcessor", image_mean=0.4, image_std=[0.2]))
    assert (says["mean"], says["std"]) == ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("steps", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, 0.5, 0.2),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 1 / 255),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
    ],
)
def test_steps_left_out_are_said_as_mean_and_deviation(
    stated: Stated, steps: dict[str, Any], mean: float, std: float
) -> None:
    says = stated(of_processor("ViTImageProcessor", **steps))
    assert says["mean"] == pytest.approx((mean,) * 3)
    assert says["std"] == pytest.approx((std,) * 3)


def test_a_processor_that_does_not_resize_states_no_size(stated: Stated) -> None:
    assert stated(of_processor("ViTImageProcessor", do_resize=False)).keys() == {"mean", "std"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (of_processor("ViTImageProcessor", size={"height": 96, "width": 64}), "to {'height': 96, 'width': 64}"),
        (of_processor("CLIPImageProcessor", do_center_crop=False), "shortest to 224, not cropped"),
        (of_processor("SamImageProcessor", do_pad=False), "to {'longest_edge': 1024}"),
        (of_open_clip(224, resize_mode="longest"), "longest, centred in a square"),
        (of_timm(crop_mode="squash"), "squash to 256, then cropped to 224"),
        (of_timm(crop_mode="border"), "longest, with a border"),
        (of_timm(input_size=[3, 96, 64]), "to {'height': 96, 'width': 64}"),
    ],
)
def test_a_way_to_resize_that_no_row_can_have_is_said_in_words(
    tmp_path: Path, stated: Stated, files: dict[str, Any], words: str
) -> None:
    assert stated(files)["resize"] == words
    library = "transformers" if PROCESSOR in files else "open_clip" if OPEN_CLIP in files else "timm"
    with pytest.raises(ModelUnavailableError, match=re.escape(f"resize {words} (the row: ")):
        refuse_disagreement(replace(built_in_models()["vit-b16"], library=library), tmp_path)


def test_a_processor_of_a_name_unknown_is_taken_at_its_word(stated: Stated) -> None:
    says = stated(of_processor("NobodyKnows", image_mean=[0.1] * 3, image_std=[0.2] * 3))
    assert says == {"mean": (0.1,) * 3, "std": (0.2,) * 3}
    assert stated(of_processor("NobodyKnows", size=square(96))) == {"size": 96, "resize": "squash"}


def test_a_processor_without_a_name_is_the_one_of_its_model(stated: Stated) -> None:
    says = stated({PROCESSOR: {"size": 256}, CONFIG: {"model_type": "clip"}})
    assert (says["shortest_side"], says["size"], says["mean"]) == (256, 224, pytest.approx(MEAN))


def test_a_processor_inside_another_goes_first_as_in_transformers(stated: Stated) -> None:
    inner = {"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 96}}
    assert stated({"processor_config.json": inner, **CLIP})["size"] == 96


def test_what_open_clip_is_not_told_it_takes_from_its_own_defaults(stated: Stated) -> None:
    expected = {"size": 240, "shortest_side": 240, "resize": "shortest", "interpolation": "bicubic", **CLIP_MEANS}
    assert stated(of_open_clip(240)) == expected
    assert stated(of_open_clip(240, size=336, mean=None)) == expected  # the network's size counts


def test_timm_s_share_of_the_crop_makes_the_shorter_side_rounded_down(stated: Stated) -> None:
    says = stated(of_timm(input_size=[3, 224, 224], crop_pct=0.95, mean=[0.5] * 3, std=[0.5] * 3))
    assert (says["shortest_side"], says["resize"], says["interpolation"]) == (235, "shortest", "bicubic")
    assert says["mean"] == (0.5, 0.5, 0.5)


def test_the_older_form_of_timm_s_file_is_read_and_its_defaults_are_timm_s(stated: Stated) -> None:
    says = stated({CONFIG: {"architecture": "resnet50", "input_size": [3, 96, 96], "interpolation": "bilinear"}})
    assert (says["size"], says["shortest_side"], says["interpolation"]) == (96, 109, "bilinear")
    assert says["mean"] == NORMALISATIONS["imagenet"][0]


def test_a_folder_that_states_nothing_is_fine(tmp_path: Path) -> None:
    for name in ("pubmedclip", "clip-vit-b32"):
        refuse_disagreement(built_in_models()[name], tmp_path)
    assert stated_preprocessing(snapshot(tmp_path, {CONFIG: {"model_type": "vit"}})) == {}


def test_a_disagreement_is_refused_field_by_field_with_the_way_out(tmp_path: Path) -> None:
    spec = built_in_models()["pubmedclip"]
    snapshot(tmp_path, CLIP)
    other = {**CLIP[PROCESSOR], "size": 256, "crop_size": 240, "resample": 2, "image_mean": [0.5, *MEAN[1:]]}
    with pytest.raises(ModelUnavailableError) as refused:
        refuse_disagreement(spec, snapshot(tmp_path, {PROCESSOR: other}))
    for words in (
        "size 240 (the row: 224)",
        "shortest_side 256 (the row: 224)",
        "interpolation bilinear (the row: bicubic)",
        "mean 0.5/0.45783/0.40821 (the row: 0.48145/0.45783/0.40821)",
        'in a row of your own with like = "pubmedclip"',
        "own_preprocessing = false",
    ):
        assert words in str(refused.value)
    assert "std" not in str(refused.value)


def test_a_row_may_depart_on_purpose_and_a_user_s_own_row_can_be_mended(tmp_path: Path) -> None:
    spec = built_in_models()["pubmedclip"]
    snapshot(tmp_path, of_processor("CLIPImageProcessor", resample=2))
    refuse_disagreement(replace(spec, own_preprocessing=False), tmp_path)
    with pytest.raises(ModelUnavailableError, match=r"in models\.toml, in its row, give the right values"):
        refuse_disagreement(replace(spec, weights=f"path:{tmp_path}"), tmp_path)


def test_only_the_files_of_the_row_s_own_library_count(tmp_path: Path) -> None:
    spec = built_in_models()["clip-vit-b32"]
    refuse_disagreement(spec, snapshot(tmp_path, of_processor("CLIPImageProcessor", resample=2)))
    snapshot(tmp_path, of_open_clip(96))
    refuse_disagreement(replace(spec, library="medclip"), tmp_path)
    with pytest.raises(ModelUnavailableError, match=r"size 96 \(the row: 224\)"):
        refuse_disagreement(spec, tmp_path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / PROCESSOR).write_text("{", encoding="utf-8")
    with pytest.raises(ModelUnavailableError, match=r"preprocessor_config\.json is no JSON"):
        stated_preprocessing(tmp_path)


def test_reading_what_is_stated_needs_no_heavy_import() -> None:
    look = "import sys, radsearch.models.stated; print({'torch', 'transformers', 'timm', 'open_clip'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
