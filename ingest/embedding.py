"""Decoded pictures -> vectors, one a model: the models of a run, loaded when the first picture needs them."""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from ingest.decoding import DecodedImage
from radsearch.errors import ModelUnavailableError, OutOfDeviceMemoryError
from radsearch.models import ModelSpec
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Picture, Vectors

if TYPE_CHECKING:
    from radsearch.models.several import DeviceProcesses
    from radsearch.models.spec import Precision

_LEAST_AT_ONCE = 64


class ImageEmbedder(Protocol):
    """What an ingest needs of a model, on one device or on several."""

    spec: ModelSpec
    fingerprint: Fingerprint
    batch: int

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        """Of pictures as rendered."""

    def embed_prepared(self, squares: Sequence[Picture]) -> Vectors:
        """Of pictures that went through `prepare`."""

    def probe(self) -> Vectors:
        """Of the test card; raises ModelUnavailableError where the row does not fit its model."""


class Embedding:
    """The models of one run, each in the precision of its fingerprint."""

    def __init__(
        self, models: Sequence[ModelSpec], settings: Settings, fingerprints: Mapping[str, Fingerprint]
    ) -> None:
        self._models = tuple(models)
        self._settings = settings
        self._fingerprints = fingerprints
        self._loaded: list[ImageEmbedder] = []
        self._failure = ""
        self._processes: DeviceProcesses | None = None
        self._lock = threading.Lock()

    @property
    def at_once(self) -> int:
        """How many images to bring at a time, so that every batch of the model is full."""
        return max([_LEAST_AT_ONCE, *(embedder.batch for embedder in self._loaded)])

    def vectors_of(self, images: Sequence[DecodedImage]) -> dict[str, Vectors]:
        """(n, dimension) vectors by model. Raises EmbeddingError where a model gives none for one of them."""
        return {embedder.spec.name: _vectors(embedder, images) for embedder in self.embedders()}

    def embedders(self) -> list[ImageEmbedder]:
        """The models, loaded when the first picture needs them: a run with nothing to do loads none."""
        with self._lock:
            if self._failure:  # said to every chunk under way, without another try
                raise ModelUnavailableError(self._failure)
            if not self._loaded:
                try:
                    self._loaded = self._load()
                except ModelUnavailableError as error:
                    self._failure = str(error)
                    raise
            return self._loaded

    def _load(self) -> list[ImageEmbedder]:
        from radsearch.models.devices import devices_of
        from radsearch.models.several import require_same

        devices = devices_of(self._settings.device)
        loaded = [self._one(model, devices) for model in self._models]
        for embedder in loaded:
            try:
                embedder.probe()
            except OutOfDeviceMemoryError as error:  # of no picture's making: it is the run that cannot go on
                raise ModelUnavailableError(f"{error}: another program may hold the device's memory") from None
            require_same(self._fingerprints[embedder.spec.name], embedder.fingerprint)
        return loaded

    def _one(self, model: ModelSpec, devices: Sequence[str]) -> ImageEmbedder:
        folder, batch = self._settings.models_folder, self._settings.batch_size
        fingerprint = self._fingerprints[model.name]
        if len(devices) == 1:
            from radsearch.models.base import load_model

            precision = cast("Precision", fingerprint.precision)
            return load_model(
                model,
                models_folder=folder,
                device=devices[0],
                batch=batch,
                precision=precision,
                text_blanked=bool(self._settings.blank_text),
            )
        from radsearch.models.several import DeviceProcesses, ManyDeviceEmbedder

        if self._processes is None:
            self._processes = DeviceProcesses(devices, folder, batch, text_blanked=bool(self._settings.blank_text))
        return ManyDeviceEmbedder(model, self._processes, fingerprint)

    def close(self) -> None:
        """End the processes of several devices, where there are any."""
        if self._processes is not None:
            self._processes.close()


def _vectors(embedder: ImageEmbedder, images: Sequence[DecodedImage]) -> Vectors:
    vectors = np.empty((len(images), embedder.spec.dimension), np.float32)
    how = embedder.spec.preprocessing
    travelled = [place for place, image in enumerate(images) if image.picture is not None]
    prepared = [place for place, image in enumerate(images) if image.picture is None]
    if travelled:
        vectors[travelled] = embedder.embed_images([cast("Picture", images[place].picture) for place in travelled])
    if prepared:
        vectors[prepared] = embedder.embed_prepared([images[place].squares[how] for place in prepared])
    return vectors
