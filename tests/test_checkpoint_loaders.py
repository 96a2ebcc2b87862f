"""Checkpoints in their authors' own layouts give their authors' vectors; what does not fit is refused by name.

The models are tiny and random. They are written as the authors' files are, and compared with segment_anything,
transformers, torchvision and timm themselves; MedImageInsight's text tower with its definition, worked out here.
"""

import json
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from segment_anything.modeling import ImageEncoderViT
from timm.models.davit import _convert_florence2
from transformers import BertConfig, BertModel, SwinConfig, SwinModel

from radsearch.errors import ModelUnavailableError
from radsearch.models import ModelSpec, built_in_models
from radsearch.models.loaders import medclip, medimageinsight, radimagenet, segment_anything
from radsearch.models.network import Network
from radsearch.models.weights import Weights

pytestmark = pytest.mark.slow

Tensors = dict[str, torch.Tensor]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "left", "lung", "clear", "effusion"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Checkpoint:
    """A file in its authors' layout.

    expected: (n, 3, size, size) normalised -> (n, dimension) or a map, by the authors' own code.
    """

    loader: object
    spec: ModelSpec
    tensors: Tensors
    expected: Callable[[torch.Tensor], torch.Tensor]
    text: Path | None = None

    def load(self, folder: Path, tensors: Tensors | None = None) -> Network:
        file = folder / "weights.pt"
        save = save_file if self.loader is medimageinsight else torch.save  # whose file is safetensors, named .pt
        save(self.tensors if tensors is None else tensors, file)
        return self.loader.load(self.spec, Weights(folder, (file,), self.text))


def medsam(_: Path) -> Checkpoint:
    """Of three layers the middle one attends to the whole map of 16 x 16, the others to windows of 14 x 14."""
    encoder = ImageEncoderViT(
        img_size=64,
        patch_size=4,
        embed_dim=32,
        depth=3,
        num_heads=2,
        out_chans=12,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    )
    scramble(encoder)
    others = {"prompt_encoder.no_mask_embed.weight": torch.ones(1, 12), "mask_decoder.iou_token.weight": torch.ones(12)}
    tensors = {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    return Checkpoint(segment_anything, tiny("medsam-vitb", 64, 12), tensors | others, encoder)


def radimagenet_resnet50(_: Path) -> Checkpoint:
    """As in BMEII-AI's notebook: the parts of torchvision's network by number, without the classifier."""
    network = torchvision.models.resnet50(weights=None).eval()
    scramble(network)
    parts = torch.nn.Sequential(*list(network.children())[:9])
    network.fc = torch.nn.Identity()
    tensors = {f"backbone.{key}": value for key, value in parts.state_dict().items()}
    return Checkpoint(radimagenet, tiny("radimagenet-resnet50", 64, 2048), tensors, network)


def medclip_vit(folder: Path) -> Checkpoint:
    """As MedCLIP 0.0.3 put it together and transformers 4.24 named it: `save_pretrained` keeps those names."""
    swin = SwinModel(SwinConfig(image_size=56, embed_dim=32, depths=(2, 1), num_heads=(1, 2))).eval()
    bert = BertModel(tiny_bert(folder)).eval()
    heads = {"vision_model": torch.nn.Linear(64, 24, bias=False), "text_model": torch.nn.Linear(32, 24, bias=False)}
    tensors = {
        "logit_scale": torch.ones(()),
        "text_model.model.embeddings.position_ids": torch.arange(16)[None],
        "vision_model.model.encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.zeros(49, 49),
    }
    for (name, head), model in zip(heads.items(), (swin, bert), strict=True):
        scramble(model)
        model.save_pretrained(folder / name)
        saved = load_file(folder / name / "model.safetensors")
        tensors |= {f"{name}.model.{key}": value for key, value in saved.items()}
        tensors[f"{name}.projection_head.weight"] = head.weight.data

    def expected(batch: torch.Tensor) -> torch.Tensor:
        return heads["vision_model"](swin(batch).pooler_output)

    return Checkpoint(medclip, tiny("medclip", 56, 24, context=8), tensors, expected, folder / "text")


def medimageinsight_davit(folder: Path) -> Checkpoint:
    """The names of its authors' davit_v1.py and transformer.py; timm itself reads them, as those of Florence-2."""
    tensors = image_tower((32, 64, 64, 96), (1, 1, 2, 1)) | text_tower(len(LETTERS) * 2 + 2, 128, layers=2, context=12)
    tensors |= {"image_projection": torch.randn(96, 20), "lang_projection": torch.randn(128, 20)}
    sizes = {"embed_dims": (32, 64, 64, 96), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 3)}
    davit = timm.create_model("davit_huge_fl", pretrained=False, num_classes=0, **sizes).eval()
    converted = _convert_florence2(tensors, davit, prefix="image_encoder.")
    davit.load_state_dict({key.replace("norms.", "head.norm."): value for key, value in converted.items()})
    spec = tiny("medimageinsight", 96, 20, context=12)
    tensors["logit_scale"] = torch.ones(())
    return Checkpoint(
        medimageinsight, spec, tensors, lambda batch: davit(batch) @ tensors["image_projection"], tiny_clip(folder)
    )


MAKERS = [medsam, medclip_vit, radimagenet_resnet50, medimageinsight_davit]


Maker = Callable[[Path], Checkpoint]
Made = Callable[[Maker], Checkpoint]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each checkpoint once for all tests, which only read it."""
    return cache(lambda maker: make(maker, tmp_path_factory.mktemp(maker.__name__)))


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def checkpoint(request: pytest.FixtureRequest, made: Made) -> Checkpoint:
    return made(request.param)


def test_images_get_the_vectors_of_the_authors_code(checkpoint: Checkpoint, tmp_path: Path) -> None:
    pixels = pictures(checkpoint)
    with torch.inference_mode():
        ours, theirs = checkpoint.load(tmp_path).images(pixels), checkpoint.expected(pixels)
    assert ours.shape == theirs.shape
    assert ours.shape[1] == checkpoint.spec.dimension
    assert difference(ours, theirs) < 1e-5


def test_a_loaded_model_leaves_nothing_to_chance(checkpoint: Checkpoint, tmp_path: Path) -> None:
    network = checkpoint.load(tmp_path)
    assert not any(part.training for part in network.module.modules())
    with torch.inference_mode():
        assert torch.equal(network.images(pictures(checkpoint)), network.images(pictures(checkpoint)))


def test_medsam_gives_the_map_that_the_base_takes_the_mean_of(made: Made, tmp_path: Path) -> None:
    checkpoint = made(medsam)
    with torch.inference_mode():
        assert checkpoint.load(tmp_path).images(pictures(checkpoint)).shape == (3, 12, 16, 16)


def test_medclip_text_is_the_mean_over_layers_1_2_and_last_and_its_tokens(made: Made, tmp_path: Path) -> None:
    checkpoint = made(medclip_vit)
    bert = BertModel.from_pretrained(checkpoint.text.parent / "text_model").eval()
    tokens = torch.tensor([[2, 5, 6, 9, 1, 3]])  # [CLS] no left effusion [UNK] [SEP]
    with torch.inference_mode():
        layers = bert(tokens, torch.ones_like(tokens), output_hidden_states=True).hidden_states
        features = torch.stack([layers[1], layers[2], layers[-1]]).permute(1, 0, 2, 3).mean(2).mean(1)
        theirs = features @ checkpoint.tensors["text_model.projection_head.weight"].T
        ours = checkpoint.load(tmp_path).texts(["no LEFT Effusion seen"])
    assert difference(ours, theirs) < 1e-5


def test_medclip_text_is_cut_after_as_many_tokens_as_the_row_says(made: Made, tmp_path: Path) -> None:
    network = made(medclip_vit).load(tmp_path)
    with torch.inference_mode():
        cut, whole = network.texts(["lung clear " * 9, "lung clear lung clear lung clear"])
    assert torch.equal(cut, whole)


def test_medimageinsight_text_follows_its_definition(made: Made, tmp_path: Path) -> None:
    checkpoint = made(medimageinsight_davit)
    letters = [[7, 0, 27], [*range(7), 33], list(range(10))]  # "hab", "abcdefgh" and the first ten of "abc...xyz"
    with torch.inference_mode():
        theirs = torch.stack([text_by_definition(checkpoint.tensors, [52, *ids, 53]) for ids in letters])
        ours = checkpoint.load(tmp_path).texts(["hab", "abcdefgh", LETTERS])
    assert difference(ours, theirs @ checkpoint.tensors["lang_projection"]) < 1e-5


@pytest.mark.parametrize("maker", [medclip_vit, medimageinsight_davit])
def test_a_text_has_one_vector_alone_beside_others_and_in_any_thread(made: Made, maker: Maker, tmp_path: Path) -> None:
    network = made(maker).load(tmp_path)
    texts = ["clear", "no effusion", "no left lung effusion clear"]

    def embedded(batch: list[str]) -> torch.Tensor:
        with torch.inference_mode():
            return network.texts(batch)

    with ThreadPoolExecutor(4) as threads:
        alone = torch.cat(list(threads.map(embedded, [[text] for text in texts] * 8)))
    assert difference(alone, embedded(texts).repeat(8, 1)) < 1e-6


TENSORS = {
    medsam: ["image_encoder.pos_embed", "image_encoder.blocks.1.attn.qkv.weight", "image_encoder.neck.3.bias"],
    medclip_vit: [
        "vision_model.model.embeddings.patch_embeddings.projection.weight",
        "vision_model.model.encoder.layers.0.blocks.1.attention.self.query.weight",
        "vision_model.model.encoder.layers.1.blocks.0.attention.self.relative_position_bias_table",
        "vision_model.projection_head.weight",
        "text_model.model.encoder.layer.2.attention.output.dense.bias",
        "text_model.projection_head.weight",
    ],
    radimagenet_resnet50: ["backbone.5.1.bn2.running_var"],
    medimageinsight_davit: [
        "image_encoder.convs.2.proj.weight",
        "image_encoder.blocks.2.1.channel_block.channel_attn.fn.qkv.weight",
        "image_projection",
        "lang_encoder.positional_embedding",
        "lang_encoder.resblocks.1.attn.in_proj_weight",
        "lang_projection",
    ],
}


@pytest.mark.parametrize(("maker", "key"), [(maker, key) for maker, keys in TENSORS.items() for key in keys])
def test_a_file_with_a_hole_is_refused_by_the_tensors_name(made: Made, maker: Maker, key: str, tmp_path: Path) -> None:
    checkpoint = made(maker)
    rest = {name: tensor for name, tensor in checkpoint.tensors.items() if name != key}
    with pytest.raises(ModelUnavailableError, match=rf"1 missing \({key}\)"):
        checkpoint.load(tmp_path, rest)


@pytest.mark.parametrize(("maker", "key"), [(maker, keys[-1]) for maker, keys in TENSORS.items()])
def test_a_tensor_of_another_shape_is_refused_by_name(made: Made, maker: Maker, key: str, tmp_path: Path) -> None:
    checkpoint = made(maker)
    with pytest.raises(ModelUnavailableError, match=rf"1 of another shape \({key}\)"):
        checkpoint.load(tmp_path, checkpoint.tensors | {key: checkpoint.tensors[key][:-1].clone()})


@pytest.mark.parametrize(
    ("maker", "key"),
    [
        (medsam, "image_encoder.blocks.0.attn.more"),
        (medsam, "pixel_mean"),
        (medclip_vit, "vision_model.model.encoder.layers.0.blocks.1.more"),
        (medclip_vit, "text_model.more"),
        (medclip_vit, "more"),
        (radimagenet_resnet50, "fc.weight"),
        (medimageinsight_davit, "image_encoder.head.weight"),
        (medimageinsight_davit, "text_projection"),
    ],
)
def test_a_tensor_that_is_left_over_is_refused_by_name(made: Made, maker: Maker, key: str, tmp_path: Path) -> None:
    checkpoint = made(maker)
    with pytest.raises(ModelUnavailableError, match=rf"1 unexpected \({key}\)"):
        checkpoint.load(tmp_path, checkpoint.tensors | {key: torch.ones(1)})


@pytest.mark.parametrize(
    ("maker", "known"),
    [
        (medsam, ("_DEPTHS", {32: 4}, "image_encoder.blocks.3.")),
        (medclip_vit, ("_DEPTHS", {32: (2, 2)}, "vision_model.model.encoder.layers.1.blocks.1.")),
        (medimageinsight_davit, ("_IMAGE_DEPTHS", {32: (1, 1, 3, 1)}, "image_encoder.blocks.2.2.")),
        (medimageinsight_davit, ("_TEXT_DEPTHS", {128: 3}, "lang_encoder.resblocks.2.")),
    ],
)
def test_a_known_size_without_its_last_layer_does_not_pass_for_a_smaller_model(
    made: Made, maker: Maker, known: tuple[str, object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, depths, layer_name = known
    monkeypatch.setattr(made(maker).loader, table, depths)
    with pytest.raises(ModelUnavailableError, match=rf"missing \({layer_name}"):
        made(maker).load(tmp_path)


def test_code_in_a_pickle_is_not_run(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file, trace = tmp_path / "model.pth", tmp_path / "code-has-run"
    torch.save(checkpoint.tensors | {"more": Code(trace)}, file)
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        checkpoint.loader.load(checkpoint.spec, Weights(tmp_path, (file,), checkpoint.text))
    assert not trace.exists()


@pytest.mark.parametrize("maker", [medclip_vit, medimageinsight_davit])
def test_a_tokenizer_of_another_vocabulary_is_refused(maker: Maker, tmp_path: Path) -> None:
    checkpoint = make(maker, tmp_path)
    words = checkpoint.text / ("vocab.txt" if maker is medclip_vit else "vocab.json")
    if maker is medclip_vit:
        words.write_text("\n".join([*WORDS, "heart"]), encoding="utf-8")
    else:
        words.write_text(json.dumps(json.loads(words.read_text(encoding="utf-8")) | {"é": 54}), encoding="utf-8")
    tokens = len(WORDS) if maker is medclip_vit else 54
    with pytest.raises(ModelUnavailableError, match=f"knows {tokens + 1} tokens, its text tower {tokens}"):
        checkpoint.load(tmp_path)


class Code:
    """An object whose unpickling makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def make(maker: Maker, folder: Path) -> Checkpoint:
    torch.manual_seed(0)
    with torch.no_grad():
        return maker(folder)


def tiny(name: str, size: int, dimension: int, *, context: int = 0) -> ModelSpec:
    spec = built_in_models()[name]
    how = replace(spec.preprocessing, size=size)
    return replace(spec, preprocessing=how, dimension=dimension, context=context)


def scramble(module: torch.nn.Module) -> None:
    """Numbers that all count: a fresh network has zeros, ones, and weights that hardly tell two inputs apart."""
    for tensor in module.state_dict().values():
        if tensor.ndim > 1:
            tensor.copy_(drawn(tensor.shape))
        elif tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.2)
    module.eval()


def pictures(checkpoint: Checkpoint) -> torch.Tensor:
    side = checkpoint.spec.preprocessing.size
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest one of any element, of unit vectors."""
    assert ours.shape == theirs.shape
    along = torch.nn.functional.normalize
    return float((along(ours, dim=1) - along(theirs, dim=1)).abs().max())


def tiny_bert(folder: Path) -> BertConfig:
    """A text tower's folder as ClinicalBERT's is: a configuration and a vocabulary, and no word about the tokenizer."""
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=16,
    )
    config.save_pretrained(folder / "text")
    (folder / "text" / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return config


def tiny_clip(folder: Path) -> Path:
    """CLIP's tokenizer with letters only: a to z are 0 to 25, at a word's end 26 to 51, then the start and the end."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), START, END]
    text = folder / "text"
    text.mkdir()
    (text / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (text / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return text


def image_tower(widths: tuple[int, ...], depths: tuple[int, ...]) -> Tensors:
    """DaViT's tensors: four stages, each an embedding and pairs of a window's and a channel's attention."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        before, kernel = (widths[stage - 1], 3) if stage else (3, 7)
        shapes |= layer(f"convs.{stage}.proj", width, before, kernel, kernel)
        shapes |= layer(f"convs.{stage}.norm", before if stage else width)
        for block in range(depth):
            for kind, attention in (("spatial_block", "window_attn"), ("channel_block", "channel_attn")):
                name = f"blocks.{stage}.{block}.{kind}"
                shapes |= layer(f"{name}.conv1.fn.dw", width, 1, 3, 3) | layer(f"{name}.conv2.fn.dw", width, 1, 3, 3)
                shapes |= layer(f"{name}.{attention}.norm", width) | layer(f"{name}.ffn.norm", width)
                shapes |= layer(f"{name}.{attention}.fn.qkv", 3 * width, width)
                shapes |= layer(f"{name}.{attention}.fn.proj", width, width)
                shapes |= layer(f"{name}.ffn.fn.net.fc1", 4 * width, width)
                shapes |= layer(f"{name}.ffn.fn.net.fc2", width, 4 * width)
    return {f"image_encoder.{key}": drawn(shape) for key, shape in (shapes | layer("norms", widths[-1])).items()}


def text_tower(words: int, width: int, *, layers: int, context: int) -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (words, width),
        "positional_embedding": (context, width),
    }
    for number in range(layers):
        name = f"resblocks.{number}"
        shapes |= {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
        shapes |= (
            layer(f"{name}.attn.out_proj", width, width) | layer(f"{name}.ln_1", width) | layer(f"{name}.ln_2", width)
        )
        shapes |= layer(f"{name}.mlp.c_fc", 4 * width, width) | layer(f"{name}.mlp.c_proj", width, 4 * width)
    return {f"lang_encoder.{key}": drawn(shape) for key, shape in (shapes | layer("ln_final", width)).items()}


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def drawn(shape: tuple[int, ...]) -> torch.Tensor:
    """Random numbers that neither fade nor explode from layer to layer."""
    return torch.randn(shape) / math.prod(shape[1:]) ** 0.5


def text_by_definition(tensors: Tensors, tokens: list[int]) -> torch.Tensor:
    """The end token's features: pre-norm layers, attention both ways, x sigmoid(1.702 x), heads of 64 channels.

    There is no padding here, which no token attends to.
    """
    own = {key.removeprefix("lang_encoder."): tensor for key, tensor in tensors.items()}

    def normed(features: torch.Tensor, name: str) -> torch.Tensor:
        centred = features - features.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-12)
        return own[f"{name}.weight"] * scaled + own[f"{name}.bias"]

    def linear(features: torch.Tensor, name: str) -> torch.Tensor:
        return features @ own[f"{name}.weight"].T + own[f"{name}.bias"]

    features = own["token_embedding.weight"][tokens] + own["positional_embedding"][: len(tokens)]
    for number in range(2):
        name = f"resblocks.{number}"
        mixed = (
            normed(features, f"{name}.ln_1") @ own[f"{name}.attn.in_proj_weight"].T + own[f"{name}.attn.in_proj_bias"]
        )
        queries, keys, values = (part.reshape(len(tokens), 2, 64).transpose(0, 1) for part in mixed.chunk(3, dim=-1))
        shares = (queries @ keys.transpose(1, 2) / 8).softmax(-1)
        features = features + linear(
            (shares @ values).transpose(0, 1).reshape(len(tokens), 128), f"{name}.attn.out_proj"
        )
        wide = linear(normed(features, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        features = features + linear(wide * torch.sigmoid(1.702 * wide), f"{name}.mlp.c_proj")
    return normed(features[-1], "ln_final")
