"""The one interface of all index back ends, and what they share: the guard over models and secret."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from radsearch.errors import IndexMismatchError, UnknownNameError
from radsearch.index.schema import Payload
from radsearch.study import Fingerprint, Hit, SearchFilter, Vectors

FORMAT = 1
FUSION_CONSTANT = 60  # the k of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)
FUSION_DEPTH = 5  # each model proposes so many times the wanted hits
SEARCH_EF = 256  # candidates that a query keeps in the graph


@dataclass(frozen=True, slots=True, eq=False)
class IndexedImage:
    """A point to be written.

    vectors: model's name -> (dimension,) vector of unit length.
    kept: models whose stored vectors stay (the content has not changed); the payload is replaced in any case.
    """

    id: str
    vectors: Mapping[str, Vectors]
    payload: Payload
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A point as it is stored; `vectors` holds those that were asked for and are there."""

    id: str
    payload: Payload
    vectors: Mapping[str, Vectors] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexCard:
    """What an index knows of itself."""

    secret_check: str | None = None
    models: Mapping[str, Fingerprint] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As stored beside the vectors."""
        models = {name: asdict(fingerprint) for name, fingerprint in self.models.items()}
        return {"format": FORMAT, "secret_check": self.secret_check, "models": models}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "IndexCard":
        """Raises IndexMismatchError where another version's format is met."""
        if stored.get("format") != FORMAT:
            raise IndexMismatchError(f"the index has format {stored.get('format')}, this version reads {FORMAT}")
        models = {name: Fingerprint(**fields) for name, fields in stored.get("models", {}).items()}
        return IndexCard(stored.get("secret_check"), models)


class Index(ABC):
    """One collection: a point an image, a named vector a model. Use it as a context manager."""

    location: str
    card: IndexCard

    def admit(self, fingerprints: Iterable[Fingerprint], secret_check: str) -> None:
        """Make room for these models' vectors, or refuse them.

        Raises:
            IndexMismatchError: a model of that name is here with another fingerprint, or the pseudonyms of
                this index were made with another secret.
        """
        if self.card.secret_check not in (None, secret_check):
            raise IndexMismatchError(
                f"the pseudonyms in the index {self.location} were made with another secret; "
                "set RADSEARCH_SECRET_FILE to the one that it was built with"
            )
        new = {}
        for fingerprint in fingerprints:
            if fingerprint.model in self.card.models:
                self.check(fingerprint)
            else:
                new[fingerprint.model] = fingerprint
        if new or self.card.secret_check is None:
            self._add_models(IndexCard(secret_check, {**self.card.models, **new}), new)

    def check(self, fingerprint: Fingerprint) -> None:
        """Refuse a model that the index does not hold, or holds with another fingerprint."""
        self.require_model(fingerprint.model)
        held = self.card.models[fingerprint.model]
        differences = held.differences(fingerprint)
        if differences:
            way_out = "build a new index, or use the version that built this one"
            if replace(fingerprint, precision=held.precision) == held:
                way_out = f"set RADSEARCH_PRECISION to {held.precision}, or leave it open, or build a new index"
            elif replace(fingerprint, weights=held.weights) == held:
                way_out = (
                    "bring the weights that it was built with (another revision or copy of them is here now), "
                    "or build a new index"
                )
            raise IndexMismatchError(
                f"the vectors of {fingerprint.model} in the index {self.location} were made otherwise "
                f"({'; '.join(differences)}); {way_out}"
            )

    def require_model(self, name: str) -> None:
        """Raises UnknownNameError where the index holds no vectors of that model."""
        if name not in self.card.models:
            raise UnknownNameError("model", name, self.card.models, where=f"the index {self.location} holds")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _add_models(self, card: IndexCard, new: Mapping[str, Fingerprint]) -> None:
        """Create the named vectors of `new` and store the card."""

    @abstractmethod
    def write(self, images: Sequence[IndexedImage]) -> None:
        """Store points; on return they survive a crash."""

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; unknown ids are none of its business."""

    @abstractmethod
    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        """The points of these ids that there are, in any order."""

    @abstractmethod
    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        """All points whose indexed field has one of the values, without vectors, in any order."""

    @abstractmethod
    def nearest(self, queries: Mapping[str, Vectors], where: SearchFilter, limit: int) -> list[Hit]:
        """The images nearest to the queries, a (dimension,) vector a model; several are fused by rank (RRF)."""

    @abstractmethod
    def facets(self, field: str, where: SearchFilter, limit: int = 1000) -> dict[str | int, int]:
        """Exact number of images by value of an indexed field, most frequent first."""

    @abstractmethod
    def count(self, where: SearchFilter | None = None) -> int:
        """Exact number of images that pass the filter."""

    @abstractmethod
    def finish(self) -> None:
        """After a run of writes: build what makes search fast, and bring all to disk."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the index."""
