"""Tiny models for tests: one linear layer over an 8 x 8 picture, loaded by the library's own way from a folder."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from radsearch.models import ModelSpec, Preprocessing, built_in_models
from radsearch.models.network import Network
from radsearch.models.weights import Weights
from radsearch.study import Vectors

SIZE = 8
DIMENSION = 6
# Grey 0 becomes 0: a black picture has no direction, which is how tests get a vector that is refused.
HOW = Preprocessing(SIZE, "squash", SIZE, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LIBRARY = "tiny_for_tests"


def add_tiny_model(
    monkeypatch: pytest.MonkeyPatch, models_folder: Path, name: str = "tiny", *, seed: int = 0, text: bool = False
) -> ModelSpec:
    """Put a model of that name into the table for the length of a test, with weights of its own in the folder.

    With `text`, "left" and "right" are read as pictures with that half white.
    """
    spec = replace(
        built_in_models()["efficientnet-lite0"],
        name=name,
        config=(),
        library=LIBRARY,
        weights=f"hub:nobody/{name}",
        preprocessing=HOW,
        dimension=DIMENSION,
        text=text,
        context=8 if text else 0,
    )
    generator = torch.Generator().manual_seed(seed)
    folder = models_folder / name
    folder.mkdir(parents=True)
    torch.save({"weight": torch.randn(DIMENSION, 3 * SIZE * SIZE, generator=generator)}, folder / "weights.pth")
    loader = ModuleType(f"radsearch.models.loaders.{LIBRARY}")
    loader.load = load
    monkeypatch.setitem(sys.modules, loader.__name__, loader)
    monkeypatch.setitem(built_in_models(), name, spec)
    return spec


def load(spec: ModelSpec, weights: Weights) -> Network:
    layer = torch.nn.Linear(3 * SIZE * SIZE, DIMENSION, bias=False)
    layer.load_state_dict(torch.load(weights.files[0], weights_only=True))

    def images(batch: torch.Tensor) -> torch.Tensor:
        return layer(batch.flatten(1))

    def texts(words: list[str]) -> torch.Tensor:
        return images(torch.stack([torch.from_numpy(np.repeat(half(word)[None], 3, axis=0)) for word in words]))

    return Network(layer, images, texts if spec.text else None)


def half(word: str) -> "np.ndarray":
    """(8, 8) float32: the left half white for "left" and for "a chest X-ray", the right half for any other word."""
    picture = np.zeros((SIZE, SIZE), np.float32)
    picture[:, slice(0, SIZE // 2) if word in {"left", "a chest X-ray"} else slice(SIZE // 2, None)] = 1.0
    return picture


def expected_vector(models_folder: Path, name: str, square: "np.ndarray") -> Vectors:
    """What the model must give for an (8, 8) uint8 picture: its product with the weights, of unit length."""
    weight = torch.load(models_folder / name / "weights.pth", weights_only=True)["weight"].numpy()
    product = weight @ (np.repeat(square[None], 3, axis=0).astype(np.float32) / 255).ravel()
    return product / np.linalg.norm(product)
