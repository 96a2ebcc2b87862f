"""What crosses the seam between an index and its back ends: images, queries, answers, and the card of an index."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from radsearch.errors import IndexMismatchError, SettingsError
from radsearch.index.schema import Conditions, Payload
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Vectors

FORMAT = 1
_MARKUP = frozenset('<>[](){}!|`*\\"&$')  # of HTML, Markdown and formulas
QUANTIZATIONS = ("turbo4", "int8", "none")
DATATYPES = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class Storage:
    """How an index keeps its vectors, chosen when it is made (docs/index.md has what each costs).

    quantization: `turbo4`: the graph is walked by codes of four bits a number (TurboQuant, arXiv 2504.19874), kept in
        memory, and the best candidates are compared once more by the whole vectors, which stay on the disk; `int8`:
        likewise by a byte a number; `none`: whole vectors throughout.
    datatype: of the whole vectors, `float32` or `float16`.
    """

    quantization: str = "turbo4"
    datatype: str = "float32"


def storage_of(settings: Settings) -> Storage:
    """How a new index is to keep its vectors.

    Raises:
        SettingsError: a setting has no such value.
    """
    for variable, value, choices in (
        ("RADSEARCH_QUANTIZATION", settings.quantization, QUANTIZATIONS),
        ("RADSEARCH_VECTORS", settings.vectors, DATATYPES),
    ):
        if value not in choices:
            raise SettingsError(f"{variable} is one of {', '.join(choices)}, not {value!r}")
    return Storage(settings.quantization, settings.vectors)


@dataclass(frozen=True, slots=True, eq=False)
class IndexedImage:
    """A point to be written.

    vectors: model's name -> (dimension,) vector of unit length; none where all stay and only the payload changes.
    kept: models whose stored vectors stay (the content has not changed); the payload is replaced in any case.
    """

    id: str
    vectors: Mapping[str, Vectors]
    payload: Payload
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What an engine is asked by one model: at most `limit` points, of at least the score `threshold`."""

    model: str
    vector: Vectors
    limit: int
    conditions: Conditions = field(default_factory=Conditions)
    threshold: float | None = None
    with_payload: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A point that a query met, with its cosine similarity; the payload where it was asked for."""

    id: str
    score: float
    payload: Payload = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A point as it is stored; `vectors` holds those that were asked for and are there."""

    id: str
    payload: Payload
    vectors: Mapping[str, Vectors] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Some points in the order of their ids; `after` is what the next lot is asked for by, None where there is none."""

    points: list[Stored]
    after: str | None


@dataclass(frozen=True, slots=True)
class IndexCard:
    """What an index knows of itself.

    unsettled: vectors that were being added or dropped when the process died: to be dropped by whoever comes next.
    """

    secret_check: str | None = None
    models: Mapping[str, Fingerprint] = field(default_factory=dict)
    storage: Storage = field(default_factory=Storage)
    unsettled: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As stored beside the vectors."""
        models = {name: asdict(fingerprint) for name, fingerprint in self.models.items()}
        return {
            "format": FORMAT,
            "secret_check": self.secret_check,
            "models": models,
            "storage": asdict(self.storage),
            "unsettled": list(self.unsettled),
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "IndexCard":
        """Raises IndexMismatchError where another version's format is met, or what is no card at all."""
        if not isinstance(stored, dict):
            raise IndexMismatchError("the index has no readable card")
        if stored.get("format") != FORMAT:
            raise IndexMismatchError(f"the index has format {stored.get('format')}, this version reads {FORMAT}")
        try:
            models = {name: Fingerprint(**fields) for name, fields in stored.get("models", {}).items()}
            storage = Storage(**stored.get("storage", {"quantization": "none"}))  # the first indexes had no choice
            unsettled = stored.get("unsettled", [])
            check = stored.get("secret_check")
            sound = storage.quantization in QUANTIZATIONS and storage.datatype in DATATYPES
            sound = sound and isinstance(unsettled, list) and all(isinstance(name, str) for name in unsettled)
            sound = sound and all(name == one.model and one.dimension > 0 for name, one in models.items())
            sound = sound and all(_is_name(name) for name in models)
        except (TypeError, AttributeError):
            sound = False
        if not sound or not isinstance(check, str | None):
            raise IndexMismatchError("the index's card has fields that this version does not know, or other values")
        return IndexCard(check, models, storage, tuple(unsettled))


def _is_name(name: str) -> bool:
    """No markup and no orders: of a foreign index it may be any text, and is shown in many places."""
    return bool(name) and name.isprintable() and _MARKUP.isdisjoint(name)


def plain(vectors: Mapping[str, Vectors]) -> dict[str, Any]:
    """As the engines take them, lists: of arrays they read number by number, which is slower."""
    return {name: vector.tolist() for name, vector in vectors.items()}


def stored_of(record: Any) -> Stored:
    """A record or scored point of either back end."""
    vectors = record.vector if isinstance(record.vector, dict) else {}
    arrays = {name: np.asarray(vector, np.float32) for name, vector in vectors.items()}
    return Stored(str(record.id), record.payload or {}, arrays)
