"""What all models share: they check, batch, normalise and embed here; a loader only says which features to take."""

import ctypes
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

import numpy as np
import torch

from radsearch.errors import EmbeddingError, ModelUnavailableError, RadSearchError, SettingsError
from radsearch.models.preprocessing import prepare
from radsearch.models.table import MODELS, ModelSpec
from radsearch.models.weights import Weights, find_weights, fingerprint_of
from radsearch.settings import usable_cores
from radsearch.study import Fingerprint, Picture, Vectors

# On a CPU a small batch keeps the activations in the cache (docs/benchmarks.md).
CPU_BATCH = 16
GPU_BATCH = 256
_BYTE_RANGE = 255.0
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Network:
    """What a loader returns.

    module: the part that runs, to be moved to the device.
    images: (n, 3, size, size) float32 normalised -> (n, dimension).
    texts: n texts -> (n, dimension), where the model has a text tower.
    """

    module: torch.nn.Module
    images: Callable[[torch.Tensor], torch.Tensor]
    texts: Callable[[list[str]], torch.Tensor] | None = None


class Loader(Protocol):
    """A loader module: one function."""

    def load(self, spec: ModelSpec, weights: Weights) -> Network:
        """Build the network with its weights; raise ModelUnavailableError where any is missing."""


class Embedder:
    """A loaded model. Its vectors have unit length and are comparable with those of the same fingerprint only."""

    def __init__(self, spec: ModelSpec, fingerprint: Fingerprint, network: Network, *, device: str, batch: int) -> None:
        self.spec = spec
        self.fingerprint = fingerprint
        self._device = torch.device(device)
        self.batch = batch or (CPU_BATCH if self._device.type == "cpu" else GPU_BATCH)
        self._network = network
        network.module.eval().requires_grad_(requires_grad=False).to(self._device)
        network.module.to(memory_format=torch.channels_last)
        how = spec.preprocessing
        self._mean = torch.tensor(how.mean, device=self._device).view(1, 3, 1, 1) * _BYTE_RANGE
        self._std = torch.tensor(how.std, device=self._device).view(1, 3, 1, 1) * _BYTE_RANGE
        # On a CPU a batch a core, each pass on one thread: a quarter faster than one pass over all cores, and a
        # decoder that takes a core for a moment holds up one pass only (docs/benchmarks.md).
        on_cpu = self._device.type == "cpu"
        self._passes = ThreadPoolExecutor(
            usable_cores() if on_cpu else 1, initializer=_one_thread_a_pass if on_cpu else None
        )

    def embed_images(self, pictures: Iterable[Picture]) -> Vectors:
        """Pictures as rendered, of any size -> (n, dimension) float32 vectors of unit length.

        Raises:
            EmbeddingError: a vector is not finite, is zero, or has another length than the row says.
        """
        return self.embed_prepared([prepare(picture, self.spec.preprocessing) for picture in pictures])

    def embed_prepared(self, squares: Sequence[Picture]) -> Vectors:
        """As `embed_images`, for pictures that went through `prepare` with this model's preprocessing."""
        return self._run(lambda batch: self._network.images(self.normalised(batch)), squares)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts -> (n, dimension) float32 vectors of unit length, in the space of the images.

        Raises:
            EmbeddingError: the model has no text tower; the message lists those that have one.
        """
        texts_of = self._network.texts
        if texts_of is None:
            speaking = ", ".join(name for name, row in MODELS.items() if row.text)
            raise EmbeddingError(f"{self.spec.name} cannot read text; these can: {speaking}")
        return self._run(lambda batch: texts_of(list(batch)), texts)

    def _run(self, features_of: Callable[[Sequence[_Item]], torch.Tensor], items: Sequence[_Item]) -> Vectors:
        def run(batch: Sequence[_Item]) -> torch.Tensor:
            with torch.inference_mode():
                return features_of(batch).float().cpu()

        return self._checked(list(self._passes.map(run, _batches(items, self.batch))), len(items))

    def features(self, batches: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """The forward pass alone: (n, 3, size, size) batches, normalised, on the device -> (n, dimension) each."""

        def run(batch: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():  # holds for one thread only
                return self._network.images(batch)

        return list(self._passes.map(run, batches))

    def normalised(self, squares: Sequence[Picture]) -> torch.Tensor:
        """Squares as `prepare` makes them -> (n, 3, size, size) float32 on the device.

        They travel to the device as bytes; widening and normalisation happen there.
        """
        if all(square.ndim == 2 for square in squares):  # noqa: PLR2004 -- grey: rows and columns
            stacked = torch.from_numpy(np.stack(squares)).unsqueeze(1)
        else:
            coloured = [square if square.ndim > 2 else np.repeat(square[..., None], 3, axis=2) for square in squares]  # noqa: PLR2004
            stacked = torch.from_numpy(np.stack(coloured)).permute(0, 3, 1, 2)
        pixels = stacked.to(self._device, non_blocking=True).float()
        return ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _checked(self, features: list[torch.Tensor], count: int) -> Vectors:
        vectors = torch.cat(features).numpy() if features else np.empty((0, self.spec.dimension), np.float32)
        if vectors.shape != (count, self.spec.dimension):
            raise EmbeddingError(
                f"{self.spec.name} gave vectors of shape {vectors.shape}, not {(count, self.spec.dimension)}"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not (lengths > 0).all():
            raise EmbeddingError(f"{self.spec.name} gave a vector that is not finite or has no length")
        return cast("Vectors", (vectors / lengths).astype(np.float32))


def load_model(spec: ModelSpec, *, models_folder: Path | None = None, device: str = "auto", batch: int = 0) -> Embedder:
    """Load a model with its real weights; never go on with random ones.

    Args:
        spec: the table's row.
        models_folder: where fetched models lie, one folder each.
        device: `auto`, or as torch names it: `cpu`, `cuda`, `cuda:1`.
        batch: images in one pass; 0 for what suits the device.

    Raises:
        ModelUnavailableError: weights are missing or of another architecture.
        SettingsError: there is no such device.
    """
    chosen = _device(device)
    if chosen == "cpu":
        _keep_freed_memory()
    weights = find_weights(spec, models_folder)
    loader = cast("Loader", importlib.import_module(f"radsearch.models.{spec.library}"))
    try:
        network = loader.load(spec, weights)
    except RadSearchError:
        raise
    except Exception as error:  # each library has its own way to refuse a file
        words = " ".join(str(error).split())
        raise ModelUnavailableError(
            f"the weights of {spec.name} in {weights.place} cannot be loaded ({type(error).__name__}: {words})"
        ) from error
    return Embedder(spec, fingerprint_of(spec, weights), network, device=chosen, batch=batch)


def _one_thread_a_pass() -> None:
    torch.set_num_threads(1)


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of one pass for the next, instead of returning it and faulting it in again.

    A third of the time on a CPU (docs/benchmarks.md). The numbers are glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and
    M_ARENA_MAX (mallopt(3)); other C libraries lack the call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-8, 1)):
            mallopt(parameter, value)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"there is no device {name!r} here; RADSEARCH_DEVICE is auto, cpu, cuda or cuda:N"
        ) from error
    return name


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
