"""Features by patch: their mean is the vector's direction, or the model says that it has none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from patch_models import HOW, SIZE, add_patch_model

from radsearch.errors import EmbeddingError
from radsearch.evidence.comparing import compare
from radsearch.models import find_model
from radsearch.models.base import Embedder, load_model
from radsearch.study import Picture

WITHOUT_PADDING = "mean of the last feature map without padding"


def pictures(shape: tuple[int, int] = (SIZE, SIZE)) -> list[Picture]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, high, shape, dtype=np.uint8) for high in (60, 255)]


def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **how: object) -> Embedder:
    return load_model(add_patch_model(monkeypatch, tmp_path, **how), models_folder=tmp_path, device="cpu")


def directions(maps: np.ndarray) -> np.ndarray:
    means = maps.mean(axis=(1, 2))
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_the_mean_over_the_default_models_patches_is_its_vector() -> None:
    embedder = load_model(find_model("efficientnet-lite0"), device="cpu")
    shown = pictures((70, 90))
    maps = embedder.maps(shown)
    assert (maps.shape, maps.dtype) == ((2, 7, 7, 1280), np.float32)
    assert directions(maps) == pytest.approx(embedder.embed_images(shown), abs=1e-6)


def test_a_patch_tells_what_is_in_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture = np.zeros((SIZE, SIZE), np.uint8)
    picture[4:8, 12:] = 255
    (features,) = loaded(monkeypatch, tmp_path).maps([picture])
    assert np.argwhere(features[..., 0] == 1).tolist() == [[1, 3]]


@pytest.mark.parametrize("pooling", [WITHOUT_PADDING, "mean of the last feature map"])
def test_padding_counts_as_the_row_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pooling: str) -> None:
    """Of 8 x 16 in 16 x 16 the lower half is padding: without it two rows of patches are left, twice as long."""
    embedder = loaded(monkeypatch, tmp_path, how=replace(HOW, resize="longest"), pooling=pooling)
    shown = [np.full((8, 16), 255, np.uint8), *pictures((8, 16))]
    maps = embedder.maps(shown)
    assert directions(maps) == pytest.approx(embedder.embed_images(shown), abs=1e-6)
    counts = pooling != WITHOUT_PADDING
    assert maps[0, 2:, :, 1].all() == counts
    assert maps[0, 0, 0, 0] == pytest.approx(1 if counts else 2)


def test_no_pictures_have_no_maps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(loaded(monkeypatch, tmp_path).maps([])) == 0


def test_a_model_of_vectors_alone_is_refused_and_others_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(EmbeddingError, match=r"patchy gives no features by patch; these do: efficientnet-lite0, .*sam"):
        loaded(monkeypatch, tmp_path, pooling="pooled").maps(pictures())


def test_the_cosine_of_a_comparison_is_that_of_the_vectors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    embedder, shown = loaded(monkeypatch, tmp_path), pictures()
    found = compare(embedder, *shown)
    one, other = embedder.embed_images(shown)
    assert found.is_exact
    assert [found.cosine, found.evidence.cosine] == pytest.approx([float(one @ other)] * 2, abs=1e-6)


def test_patches_that_only_come_near_the_vector_are_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    embedder, shown = loaded(monkeypatch, tmp_path, pooling="pooled, patches"), pictures()
    found = compare(embedder, *shown)
    one, other = embedder.embed_images(shown)
    assert not found.is_exact
    assert found.cosine == pytest.approx(float(one @ other), abs=1e-6)
    assert found.evidence.cosine == pytest.approx(float(found.evidence.hit.sum()), abs=1e-6)
