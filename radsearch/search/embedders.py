"""The models of queries: each loaded when a query first needs it, and kept for the next, of whatever thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from radsearch.models import find_model
from radsearch.settings import Settings
from radsearch.study import Fingerprint

if TYPE_CHECKING:
    from radsearch.models.base import Embedder
    from radsearch.models.spec import Precision


class Embedders:
    """Loaded models, in use by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded, and no library of models imported, before `using`."""
        self._settings = settings
        self._loaded: dict[tuple[str, str], Embedder] = {}
        self._lock = threading.RLock()

    @contextmanager
    def using(self, held: Fingerprint) -> Iterator["Embedder"]:
        """The model of that name in that precision. Its fingerprint may be another one: `Index.check` tells."""
        with self._lock:
            key = (held.model, held.precision)
            if key not in self._loaded:
                self._loaded[key] = self._load(held)
            yield self._loaded[key]

    def is_loaded(self, held: Fingerprint) -> bool:
        """Whether `using` gives it at once."""
        return (held.model, held.precision) in self._loaded

    def _load(self, held: Fingerprint) -> "Embedder":
        from radsearch.models.base import load_model

        return load_model(
            find_model(held.model, self._settings.settings_folder),
            models_folder=self._settings.models_folder,
            device=self._settings.device,
            batch=1,
            precision=cast("Precision", held.precision),
            text_blanked=bool(self._settings.blank_text),
        )
