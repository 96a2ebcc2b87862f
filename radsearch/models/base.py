"""What all models share: they check, batch, normalise and embed here; a loader only says which features to take."""

import importlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

from radsearch.errors import EmbeddingError, ModelUnavailableError, OutOfDeviceMemoryError, RadSearchError
from radsearch.models import adapted
from radsearch.models.card import card_picture
from radsearch.models.devices import devices_of
from radsearch.models.heads import unit_blocks
from radsearch.models.inputs import Batch, Inputs, mean_of_map
from radsearch.models.memory import keep_freed_memory, short_of_memory
from radsearch.models.network import Loader, Network
from radsearch.models.patches import WITHOUT_PADDING, map_of
from radsearch.models.precision import dtype_of, narrow
from radsearch.models.preprocessing import prepare
from radsearch.models.prompts import prompts_for
from radsearch.models.resizing import forget
from radsearch.models.spec import ModelSpec, Precision
from radsearch.models.stated import refuse_disagreement
from radsearch.models.table import built_in_models
from radsearch.models.weights import Weights, find_weights, fingerprint_of
from radsearch.settings import usable_cores
from radsearch.study import Fingerprint, Picture, Vectors

# Images of 224 px in one pass. On a CPU a small batch keeps the activations in the cache (docs/benchmarks.md); on a GPU
# it is where the search for the largest that fits begins.
CPU_BATCH = 16
GPU_BATCH = 256
_USUAL_SIDE = 224
_FOUR_AXES = 4
_Item = TypeVar("_Item")
_Input = TypeVar("_Input")


@dataclass(frozen=True, slots=True, eq=False)
class _OnItsWay:
    """Features that a device may still be computing, with a place in the host's memory that they are copied to."""

    features: torch.Tensor
    done: torch.cuda.Event | None

    def arrived(self) -> torch.Tensor:
        if self.done is not None:
            self.done.synchronize()
        return self.features


class Embedder:
    """A loaded model. Its vectors have unit length and are comparable with those of the same fingerprint only.

    batch: images in one pass; a GPU that has not the memory for them halves it, once and for all.
    takes_pictures: whether resizing is the device's work, so that pictures come to it as they were rendered.
    """

    def __init__(self, spec: ModelSpec, fingerprint: Fingerprint, network: Network, *, device: str, batch: int) -> None:
        self.spec = spec
        self.fingerprint = fingerprint
        self._device = torch.device("cuda:0" if device == "cuda" else device)  # some of CUDA's calls want the number
        on_cpu = self._device.type == "cpu"
        self.takes_pictures = not on_cpu
        self.batch = batch or usual_batch(spec, on_cpu=on_cpu)
        self._network = network
        self._head = adapted.load(spec) if spec.head else None
        self._dtype = dtype_of(cast("Precision", fingerprint.precision))
        network.module.eval().requires_grad_(requires_grad=False)
        if self._dtype != torch.float32:
            narrow(network.module, self._dtype)
        network.module.to(self._device)
        network.module.to(memory_format=torch.channels_last)
        self._inputs = Inputs(spec.preprocessing, self._device)
        # On a CPU a batch a core, each pass on one thread: a quarter faster than one pass over all cores, and a
        # decoder that takes a core for a moment holds up one pass only (docs/benchmarks.md). On a GPU one thread
        # prepares and launches a batch while those before it are computed.
        self._passes = ThreadPoolExecutor(
            usable_cores() if on_cpu else 1, initializer=_one_thread_a_pass if on_cpu else self._take_the_device
        )

    def embed_images(self, pictures: Iterable[Picture]) -> Vectors:
        """Pictures as rendered, of any size -> (n, dimension) float32 vectors of unit length.

        Raises:
            EmbeddingError: a vector is not finite, is zero, or has another length than the row says.
            OutOfDeviceMemoryError: the device has not the memory for one image.
        """
        if self.takes_pictures:
            return self._embed(self._inputs.of_pictures, list(pictures))
        return self.embed_prepared([prepare(picture, self.spec.preprocessing) for picture in pictures])

    def embed_prepared(self, squares: Sequence[Picture]) -> Vectors:
        """As `embed_images`, for pictures that went through `prepare` with this model's preprocessing."""
        return self._embed(self._inputs.of_prepared, squares)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts -> (n, dimension) float32 vectors of unit length, in the space of the images.

        Raises:
            EmbeddingError: the model has no text tower; the message lists those that have one.
        """
        texts_of = self._network.texts if self.spec.text else None
        if texts_of is None:
            speaking = ", ".join(name for name, row in built_in_models().items() if row.text)
            raise EmbeddingError(f"{self.spec.name} cannot read text; these can: {speaking}")
        return self._run(list, texts_of, texts)

    def embed_finding(self, finding: str, *, modality: str | None = None, region: str | None = None) -> Vectors:
        """A finding -> (1, dimension): the mean over several ways to say that a picture shows it, of unit length.

        Source: prompt ensembling, Radford et al., arXiv 2103.00020, section 3.1.4.
        """
        vectors = self.embed_texts(prompts_for(finding, modality=modality, region=region))
        return self._checked(vectors.mean(axis=0, keepdims=True), 1)

    def maps(self, pictures: Iterable[Picture]) -> Vectors:
        """Pictures as rendered -> (n, rows, columns, dimension) float32: `patches.map_of`, one picture at a time.

        Raises:
            EmbeddingError: the model has no features by patch; the message names some that have.
        """
        maps = [
            self._forward(lambda batch: map_of(self._network, self.spec, batch), self._one(one)) for one in pictures
        ]
        return torch.cat(maps).cpu().numpy() if maps else np.empty((0, 0, 0, self.spec.dimension), np.float32)

    def _one(self, picture: Picture) -> Batch:
        if self.takes_pictures:
            return self._inputs.of_pictures([picture])
        return self._inputs.of_prepared([prepare(picture, self.spec.preprocessing)])

    def probe(self) -> Vectors:
        """The (dimension,) vector of the test card, so that a row that does not fit its model is known at once.

        Raises:
            ModelUnavailableError: the model cannot take the row's input, or gives no vector of the row's length.
        """
        try:
            vectors: Vectors = self.embed_images([card_picture()])
        except OutOfDeviceMemoryError:
            raise
        except Exception as error:  # each library has its own way to refuse an input
            how = self.spec.preprocessing
            words = " ".join(str(error).split())
            raise ModelUnavailableError(
                f"{self.spec.name} cannot embed a picture as its row says (size {how.size}, pooling "
                f"{self.spec.pooling!r}, dimension {self.spec.dimension}): {words}"
            ) from error
        return cast("Vectors", vectors[0])

    def features(self, batches: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """The forward pass alone: (n, 3, size, size) batches, normalised, on the device -> (n, dimension) each."""
        return list(self._passes.map(lambda pixels: self._forward(self._features, Batch(pixels)), batches))

    def normalised(self, squares: Sequence[Picture]) -> torch.Tensor:
        """Squares as `prepare` makes them -> (n, 3, size, size) float32 on the device."""
        return self._inputs.of_prepared(squares).pixels

    def _take_the_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    def _embed(self, batch_of: Callable[[Sequence[Picture]], Batch], pictures: Sequence[Picture]) -> Vectors:
        return self._run(batch_of, self._features, pictures)

    def _features(self, batch: Batch) -> torch.Tensor:
        features = self._network.images(batch.pixels)
        if features.ndim < _FOUR_AXES:
            return features
        return mean_of_map(features.float(), batch, without_padding=self.spec.pooling == WITHOUT_PADDING)

    def _run(
        self,
        input_of: Callable[[Sequence[_Item]], _Input],
        features_of: Callable[[_Input], torch.Tensor],
        items: Sequence[_Item],
    ) -> Vectors:
        """All items in batches; while one batch is computed the next is prepared."""

        def begin(batch: Sequence[_Item]) -> list[_OnItsWay]:
            return self._begin(input_of, features_of, batch)

        begun = list(self._passes.map(begin, _batches(items, self.batch)))
        features = [part.arrived() for parts in begun for part in parts]
        return self._checked(torch.cat(features).numpy() if features else np.empty((0, 0), np.float32), len(items))

    def _begin(
        self,
        input_of: Callable[[Sequence[_Item]], _Input],
        features_of: Callable[[_Input], torch.Tensor],
        items: Sequence[_Item],
    ) -> list[_OnItsWay]:
        """Start a batch; where the device has not the memory for it, its two halves, and so on.

        Later batches are as small as the largest that went through; not so where the pictures themselves were too much.
        """
        made: _Input | None = None
        try:
            with torch.inference_mode():
                made = input_of(items)
            return [self._to_host(self._forward(features_of, made))]
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
        pictures_fit = made is not None
        made = None  # the halves need its place
        forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if len(items) == 1:
            raise OutOfDeviceMemoryError(f"{self._device} has not the memory for one image of {self.spec.name}")
        half = (len(items) + 1) // 2
        parts = [part for smaller in _batches(items, half) for part in self._begin(input_of, features_of, smaller)]
        if pictures_fit:
            self.batch = min(self.batch, half)
        return parts

    def _forward(self, features_of: Callable[[_Input], torch.Tensor], made: _Input) -> torch.Tensor:
        """Both contexts hold for one thread only. Pictures were resized and normalised in float32 in any case."""
        narrowed = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=narrowed):
            return features_of(made).float()

    def _to_host(self, features: torch.Tensor) -> _OnItsWay:
        if self._device.type != "cuda":
            return _OnItsWay(features.clone(), None)  # a class token alone, not all that it is a view of
        place = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        place.copy_(features, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(self._device))  # by itself it would take the first GPU's
        return _OnItsWay(place, done)

    def _checked(self, vectors: Vectors, count: int) -> Vectors:
        if count == 0:
            return np.empty((0, self.spec.dimension), np.float32)
        wanted = self.spec.base or self.spec
        if vectors.shape != (count, wanted.dimension):
            raise EmbeddingError(
                f"{wanted.name} gave vectors of shape {vectors.shape}, not {(count, wanted.dimension)}"
            )
        if wanted.blocks:
            vectors = unit_blocks(vectors, wanted.blocks)
        if self._head is not None:
            vectors = self._head.apply(vectors)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not (lengths > 0).all():
            raise EmbeddingError(f"{self.spec.name} gave a vector that is not finite or has no length")
        return cast("Vectors", (vectors / lengths).astype(np.float32))


def load_model(  # noqa: PLR0913 -- each is a setting of its own, and all but the row have defaults
    spec: ModelSpec,
    *,
    models_folder: Path | None = None,
    device: str = "auto",
    batch: int = 0,
    precision: Precision = "float32",
    text_blanked: bool = False,
) -> Embedder:
    """Load a model with its real weights; never go on with random ones.

    Args:
        spec: the table's row.
        models_folder: where fetched models lie, one folder each.
        device: as `RADSEARCH_DEVICE`; of several the first.
        batch: images in one pass; 0 for what suits the device.
        precision: of the products; vectors of another precision have another fingerprint.
        text_blanked: whether its pictures had text blanked; likewise.

    Raises:
        ModelUnavailableError: weights are missing or of another architecture, or state another preprocessing.
        SettingsError: there is no such device.
    """
    chosen = devices_of(device)[0]
    if chosen == "cpu":
        keep_freed_memory()
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, in convolutions too
    weights = find_weights(spec, models_folder)
    refuse_disagreement(spec, weights.place)
    loader = cast("Loader", importlib.import_module(f"radsearch.models.loaders.{spec.library}"))
    fingerprint = fingerprint_of(spec, weights, precision, text_blanked=text_blanked)
    if spec.base is not None:
        adapted.refuse_other_base(spec, fingerprint_of(spec.base, weights, precision, text_blanked=text_blanked))
    try:
        return Embedder(spec, fingerprint, loader.load(spec.base or spec, weights), device=chosen, batch=batch)
    except RadSearchError:
        raise
    except Exception as error:  # noqa: BLE001 -- each library has its own way to refuse a file
        fault = _fault(error, spec, weights, chosen)
    raise fault  # out here: the error holds the half of the model that has come to the device


def _fault(error: Exception, spec: ModelSpec, weights: Weights, device: str) -> ModelUnavailableError:
    """What to say of a model that did not load."""
    if short_of_memory(error):
        return ModelUnavailableError(f"{device} has not the memory for {spec.name}")
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, pickle.UnpicklingError):  # torch recommends to run it
        words = "the file holds something else than tensors, which was not run"
    return ModelUnavailableError(
        f"the weights of {spec.name} in {weights.place} cannot be loaded by {spec.library} ({words})"
    )


def usual_batch(spec: ModelSpec, *, on_cpu: bool) -> int:
    """Images in one pass where nobody says otherwise: fewer of larger ones."""
    share = (_USUAL_SIDE / spec.preprocessing.size) ** 2
    return max(1, round((CPU_BATCH if on_cpu else GPU_BATCH) * min(1.0, share)))


def _one_thread_a_pass() -> None:
    torch.set_num_threads(1)


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
