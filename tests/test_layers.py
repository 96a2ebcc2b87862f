"""Rows of several layers and rows that join others: held against the package's own forward pass."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from radsearch.errors import EmbeddingError, ModelUnavailableError, SettingsError
from radsearch.evidence.comparing import compare
from radsearch.models import built_in_models, find_model, models_of, weights_are_here
from radsearch.models.base import load_model
from radsearch.models.card import card_picture
from radsearch.models.network import read_tensors
from radsearch.models.preprocessing import prepare
from radsearch.models.weights import find_weights
from radsearch.study import Picture, Vectors

NETWORKS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")


@pytest.fixture
def pictures() -> list[Picture]:
    random = np.random.default_rng(0)
    return [card_picture(), random.integers(0, 256, (60, 80), dtype=np.uint8), card_picture()[::-1].copy()]


def as_the_package_has_it(name: str, pictures: list[Picture]) -> Vectors:
    """Hooks on the package's own network, unfolded; each layer's unit vector, side by side."""
    spec = find_model(name)
    network = EfficientNet.from_name(str(dict(spec.config)["architecture"]))
    network.load_state_dict(read_tensors(find_weights(spec, None).files[0]))
    network.eval()
    taken: dict[str, torch.Tensor] = {}
    for number, block in enumerate(network._blocks):
        block.register_forward_hook(lambda _m, _i, out, number=number: taken.update({str(number): out.clone()}))
    how = spec.preprocessing
    squares = torch.stack([torch.from_numpy(prepare(one, how).copy()).float() / 255 for one in pictures])
    pixels = (squares[:, None] - how.mean[0]) / how.std[0]
    with torch.no_grad():
        taken["last"] = network.extract_features(pixels.expand(-1, 3, -1, -1))
    found = []
    for layer in str(dict(spec.config)["layers"]).split():
        place, _, kind = layer.partition("-")
        flat = taken[place].flatten(2)
        vector = flat.std(2) if kind else flat.mean(2)
        found.append((vector / vector.norm(dim=1, keepdim=True)).numpy())
    return np.concatenate(found, axis=1) / np.sqrt(len(found))


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_are_those_of_the_packages_network(network: str, pictures: list[Picture]) -> None:
    if not weights_are_here(built_in_models()[network], None):
        pytest.skip(f"needs the package of {network}")
    vectors = load_model(find_model(f"{network}-layers"), device="cpu").embed_images(pictures)
    np.testing.assert_allclose(vectors, as_the_package_has_it(f"{network}-layers", pictures), atol=2e-5)


def test_the_last_layer_alone_is_the_plain_row(pictures: list[Picture]) -> None:
    row = find_model("efficientnet-lite0-layers")
    last = replace(row, config=(*dict(row.config, layers="last").items(),), dimension=1280, blocks=())
    plain = load_model(find_model("efficientnet-lite0"), device="cpu").embed_images(pictures)
    np.testing.assert_allclose(load_model(last, device="cpu").embed_images(pictures), plain, atol=1e-6)


@pytest.mark.parametrize("layers", ["99", "10-mean", "ten", "10-deviation-deviation", "-1"])
def test_a_layer_that_is_none_is_named(layers: str) -> None:
    row = find_model("efficientnet-lite0-layers")
    spec = replace(row, config=(*dict(row.config, layers=layers).items(),))
    with pytest.raises(ModelUnavailableError, match="0 to 15"):
        load_model(spec, device="cpu")


def test_a_joined_row_has_the_vectors_of_the_others_side_by_side(pictures: list[Picture]) -> None:
    spec = find_model("efficientnet-lite-joined")
    if not weights_are_here(spec, None):
        pytest.skip("needs the packages of efficientnet-lite1 and -lite2")
    found = load_model(spec, device="cpu").embed_images(pictures)
    parts = [load_model(part, device="cpu").embed_images(pictures) for part in spec.joins]
    assert [part.name for part in spec.joins] == [f"{network}-layers" for network in NETWORKS]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1) / np.sqrt(3), atol=1e-6)  # four layers of each
    assert spec.blocks == tuple(length for part in spec.joins for length in part.blocks)
    weights = find_weights(spec, None)
    assert [part.place for part in weights.joined] == [find_weights(part, None).place for part in spec.joins]


BOTH = """
[wide]
like = "efficientnet-lite0-layers"
config = { layers = "11 15" }
dimension = 512
blocks = [192, 320]

[both]
joins = ["efficientnet-lite0", "wide"]
notes = "for a test"
"""


def own(tmp_path: Path, text: str) -> Path:
    (tmp_path / "models.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_user_joins_rows_of_his_own(tmp_path: Path, pictures: list[Picture]) -> None:
    spec = models_of(own(tmp_path, BOTH))["both"]
    assert (spec.dimension, spec.blocks, spec.notes) == (1792, (1280, 192, 320), "for a test")
    vectors = load_model(spec, device="cpu").embed_images(pictures)
    plain = load_model(find_model("efficientnet-lite0"), device="cpu").embed_images(pictures)
    np.testing.assert_allclose(vectors[:, :1280] * np.sqrt(3), plain, atol=1e-6)  # each block counts alike


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('joins = ["efficientnet-lite0"]', "two rows or more"),
        ('joins = ["efficientnet-lite0", "efficientnet-lite0"]', "each once"),
        ('joins = ["efficientnet-lite0", "efficientnet-lite"]', "did you mean|unknown model|no model"),
        ('joins = ["efficientnet-lite0", "efficientnet-lite1"]', "sees another input"),
        ('joins = ["efficientnet-lite0", "efficientnet-lite0-layers"]\nsize = 320', "takes size over"),
        ('joins = ["efficientnet-lite-joined", "efficientnet-lite0"]', "joins others"),
        ("joins = 7", "has to be a list"),
        ('like = "efficientnet-lite-joined"\npath = "own"', "joins others; name those with joins"),
        ('like = "efficientnet-lite0"\nblocks = [1000, 281]', "add up to the dimension, 1280, not to 1281"),
        ('like = "efficientnet-lite0"\nblocks = [0, 1280]', "whole numbers"),
        ('like = "efficientnet-lite0"\nblocks = ["a"]', "whole numbers"),
        ('like = "efficientnet-lite0"\nblocks = [true, 1279]', "whole numbers"),
        ('like = "efficientnet-lite0"\nhead = "x"', "unknown key 'head'"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        models_of(own(tmp_path, f"[mine]\n{row}\n"))


@pytest.mark.parametrize("name", ["efficientnet-lite0-layers", "efficientnet-lite-joined"])
def test_what_a_patch_adds_is_told_of_layers_too(name: str, pictures: list[Picture]) -> None:
    """The mean over the positions of the map is the vector, deviations included, so the sum is the cosine."""
    if not weights_are_here(find_model(name), None):
        pytest.skip("needs the packages of efficientnet-lite1 and -lite2")
    embedder = load_model(find_model(name), device="cpu")
    maps, vectors = embedder.maps(pictures), embedder.embed_images(pictures)
    assert maps.shape == (3, 7, 7, embedder.spec.dimension)
    means = maps.mean(axis=(1, 2))
    np.testing.assert_allclose(means / np.linalg.norm(means, axis=1, keepdims=True), vectors, atol=2e-5)
    compared = compare(embedder, pictures[0], pictures[2])
    assert compared.is_exact
    assert compared.beside_exact == ""


def test_a_joined_row_without_maps_of_all_has_none(tmp_path: Path, pictures: list[Picture]) -> None:
    embedder = load_model(models_of(own(tmp_path, BOTH))["both"], device="cpu")
    assert embedder.maps(pictures).shape == (3, 7, 7, 1792)
    embedder._network = replace(embedder._network, maps=lambda pixels: torch.zeros(len(pixels), 1792))
    with pytest.raises(EmbeddingError, match="both gives no features by patch"):
        embedder.maps(pictures)
