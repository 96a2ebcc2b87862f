"""The loaders against the libraries themselves, on tiny models: the same vectors, or a refusal that says why."""

import functools
import json
import logging
import pickle
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loader_cases as cases
import pytest
import timm
import torch
import transformers
from loader_cases import Case, largest_difference, loaded, write_json
from safetensors.torch import load_file, save_file

from radsearch.errors import ModelUnavailableError
from radsearch.models import built_in_models
from radsearch.models.loaders import open_clip as open_clip_loader
from radsearch.models.loaders import timm as timm_loader
from radsearch.models.loaders.transformers import mask_noise
from radsearch.models.stated import refuse_disagreement, stated_preprocessing
from radsearch.models.weights import Weights, find_weights, fingerprint_of

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_model_with_text_whose_folder_holds_no_tokenizer_is_refused(
    case_of: Cases, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    """Transformers would make up one that knows no words, and all texts would be the same."""
    spec = copied(case_of(cases.clip), tmp_path / "clip")
    for file in spec.folder.iterdir():
        if file.name.startswith(("tokenizer", "vocab", "merges", "special")) and file.name not in kept:
            file.unlink()
    with pytest.raises(ModelUnavailableError, match=r"reads text, but .* holds no tokenizer \(tokenizer\.json"):
        loaded(spec)
    assert loaded(replace(spec, text=False)).texts is None


def test_another_description_of_the_architecture_is_another_fingerprint(case_of: Cases, tmp_path: Path) -> None:
    spec = copied(case_of(cases.dinov2), tmp_path / "dino")
    before = fingerprint_of(spec, find_weights(spec, None))
    description = spec.folder / "config.json"
    write_json(description, {**json.loads(description.read_text()), "hidden_act": "relu"})
    (difference,) = before.differences(fingerprint_of(spec, find_weights(spec, None)))
    assert difference.startswith("weights: sha256:")


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


def test_open_clip_is_not_blamed_for_what_another_thread_warns_of(case_of: Cases) -> None:
    spec = case_of(cases.open_clip_clip).spec
    elsewhere = threading.Thread(target=logging.warning, args=("of something else",))
    with open_clip_loader._WarningsAreErrors(spec):
        elsewhere.start()
        elsewhere.join()
    with pytest.raises(ModelUnavailableError, match="open_clip warned: of this"):  # noqa: SIM117 -- what is raised ends it
        with open_clip_loader._WarningsAreErrors(spec):
            logging.warning("of this")  # noqa: LOG015 -- as open_clip does


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
