"""A tiny model with features by patch: how bright and how dark each of 4 x 4 patches is, loaded from a folder."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from radsearch.models import ModelSpec, Preprocessing, built_in_models
from radsearch.models.network import Network
from radsearch.models.weights import Weights

SIZE, SIDE, DIMENSION = 16, 4, 2
HOW = Preprocessing(SIZE, "squash", SIZE, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LIBRARY = "patches_for_tests"


def add_patch_model(
    monkeypatch: pytest.MonkeyPatch,
    models_folder: Path,
    name: str = "patchy",
    *,
    how: Preprocessing = HOW,
    pooling: str = "mean of the last feature map",
) -> ModelSpec:
    """Put it into the table for the length of a test. Pooling "pooled": vectors alone; "pooled, patches": both."""
    spec = replace(
        built_in_models()["efficientnet-lite0"], name=name, config=(), library=LIBRARY, weights=f"hub:nobody/{name}",
        preprocessing=how, dimension=DIMENSION, pooling=pooling,
    )  # fmt: skip
    folder = models_folder / name
    folder.mkdir(parents=True)
    torch.save({"scale": torch.ones(1)}, folder / "weights.pth")
    loader = ModuleType(f"radsearch.models.loaders.{LIBRARY}")
    loader.load = load
    monkeypatch.setitem(sys.modules, loader.__name__, loader)
    monkeypatch.setitem(built_in_models(), name, spec)
    return spec


def load(spec: ModelSpec, _: Weights) -> Network:
    """A class token would be anything: of "pooled" it is the brightest patch instead of the mean."""
    pool = torch.nn.AvgPool2d(spec.preprocessing.size // SIDE)

    def patches(batch: torch.Tensor) -> torch.Tensor:
        bright = pool(batch).mean(dim=1, keepdim=True)
        return torch.cat([bright, 0.2 * (1 - bright)], dim=1)

    if not spec.pooling.startswith("pooled"):
        return Network(pool, patches)
    maps = patches if spec.pooling == "pooled, patches" else None
    return Network(pool, lambda batch: patches(batch).amax(dim=(2, 3)), maps=maps)
