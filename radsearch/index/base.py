"""The one interface of all index back ends, and what they share: the guard over models and secret."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from radsearch.errors import EmbeddingError, IndexMismatchError, UnknownNameError
from radsearch.index.effort import NEIGHBOURS, SMALL, Effort, effort_for, more_effort_for, scanned
from radsearch.index.mismatch import blanked_otherwise, made_otherwise, way_back
from radsearch.index.records import Found, IndexCard, IndexedImage, Listing, Query, Stored
from radsearch.index.schema import Conditions, conditions_of, fault_in, hit_of
from radsearch.study import Fingerprint, Hit, SearchFilter, Vectors

FUSION_CONSTANT = 60  # the k of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)
FUSION_DEPTH = 5  # each model proposes so many times the wanted hits


class Index(ABC):
    """One collection: a point an image, a named vector a model. Use it as a context manager."""

    location: str
    card: IndexCard

    def admit(self, fingerprints: Iterable[Fingerprint], secret_check: str) -> None:
        """Make room for these models' vectors, or refuse them.

        Raises:
            IndexMismatchError: a model of that name is here with another fingerprint, the pictures of the others had
                text blanked and those of a new one would not, or the reverse, or the pseudonyms of this index were made
                with another secret.
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
                self._require_blanking_of(fingerprint)
                new[fingerprint.model] = fingerprint
        if new or self.card.secret_check is None:
            self._add_models(replace(self.card, secret_check=secret_check, models={**self.card.models, **new}), new)

    def _require_blanking_of(self, fingerprint: Fingerprint) -> None:
        """Thumbnails are made once for all models: a further one would replace them by what text is seen in."""
        held = next((one for one in self.card.models.values() if one.blanking != fingerprint.blanking), None)
        if held is not None:
            raise IndexMismatchError(blanked_otherwise(self.location, held, fingerprint))

    def require_blanked(self, *, blanked: bool) -> None:
        """Refuse to have originals shown with their text beside an index whose pictures are without.

        Args:
            blanked: whether the settings have it blanked.

        Raises:
            IndexMismatchError: they have not, and the index was made so.
        """
        held = next((one for one in self.card.models.values() if one.blanking), None)
        if held is not None and not blanked:
            raise IndexMismatchError(f"the index {self.location} was made with text blanked: {way_back(held)}")

    def check(self, fingerprint: Fingerprint) -> None:
        """Refuse a model that the index does not hold, or holds with another fingerprint."""
        self.require_model(fingerprint.model)
        held = self.card.models[fingerprint.model]
        if held.differences(fingerprint):
            raise IndexMismatchError(made_otherwise(self.location, held, fingerprint))

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

    def write(self, images: Sequence[IndexedImage]) -> None:
        """Store points; on return they survive a crash.

        Raises:
            EmbeddingError: a vector has another length than its model's, or is no direction (not finite, or zero).
            IndexMismatchError: the payload does not fit the schema. Nothing is written in either case.
        """
        self._check_vectors([image.vectors for image in images])
        for image in images:
            fault = fault_in(image.payload)
            if fault:
                raise IndexMismatchError(f"an image cannot be stored: {fault}")
        if images:
            self._write(images)

    def _check_vectors(self, of_points: Sequence[Mapping[str, Vectors]]) -> None:
        by_model: dict[str, list[Vectors]] = {}
        for vectors_of in of_points:
            for name, vector in vectors_of.items():
                by_model.setdefault(name, []).append(vector)
        for name, vectors in by_model.items():
            self.require_model(name)
            dimension = self.card.models[name].dimension
            if any(vector.shape != (dimension,) for vector in vectors):
                raise EmbeddingError(f"a vector of {name} has not the length {dimension}")
            lengths = np.linalg.norm(np.stack(vectors), axis=1)
            if not np.isfinite(lengths).all() or not (lengths > 0).all():
                raise EmbeddingError(f"a vector of {name} is not finite or has no length")

    def nearest(
        self, queries: Mapping[str, Vectors], where: SearchFilter, limit: int, *, threshold: float | None = None
    ) -> list[Hit]:
        """The images nearest to the queries, a (dimension,) vector a model; several are fused by rank (RRF).

        Args:
            queries: by model.
            where: which images may be found.
            limit: how many at most.
            threshold: the least cosine similarity of a hit, to each model's query.

        Raises:
            EmbeddingError: a query has another length than its model's vectors, or is no direction.
        """
        self._check_vectors([queries])
        conditions = conditions_of(where)
        if len(queries) == 1:
            ((name, vector),) = queries.items()
            found = self._with_effort(Query(name, vector, limit, conditions, threshold, with_payload=True))
        else:
            depth = limit * FUSION_DEPTH
            lists = [
                self._with_effort(Query(name, vector, depth, conditions, threshold)) for name, vector in queries.items()
            ]
            found = self._with_payloads(fused(lists)[:limit])
        return [hit_of(one.id, one.score, rank, one.payload) for rank, one in enumerate(found, 1)]

    def _with_effort(self, query: Query) -> list[Found]:
        """The answer to a query with as much effort as its filter asks for."""
        total = self._count(Conditions(), exact=False)
        found = self._find(query, effort_for(query.limit, total=total, filtered=bool(query.conditions)))
        if not query.conditions or total <= SMALL:
            return found
        most = self._at_most(query.conditions, total)
        if most <= scanned(self.card.models[query.model].dimension):  # the graph was not walked for so few
            return found
        near = self._find(Query(query.model, query.vector, NEIGHBOURS), Effort(candidates=NEIGHBOURS))
        if len(near) < NEIGHBOURS:  # so few have a vector of this model that all of them were compared
            return found
        if query.threshold is not None and near[-1].score <= query.threshold:  # what is not so near is not wanted
            return found
        sure = sum(one.score >= near[-1].score for one in found)
        if more_effort_for(query.limit, total=total, kept=most, sure=sure) is None:
            return found
        kept = self._count(query.conditions, exact=True)  # the engine's fast count takes conditions to be independent
        more = more_effort_for(query.limit, total=total, kept=kept, sure=sure)
        return found if more is None else self._find(query, more)

    def _at_most(self, conditions: Conditions, total: int) -> int:
        """So many points pass at most: as many as the strictest condition lets pass. The engine plans by this, too."""
        return min((self._count(Conditions(must=(one,)), exact=False) for one in conditions.must), default=total)

    def _with_payloads(self, found: Sequence[Found]) -> list[Found]:
        stored = {point.id: point.payload for point in self.retrieve([one.id for one in found])}
        return [replace(one, payload=stored.get(one.id, {})) for one in found]

    def nearest_of_all(self, model: str, vector: Vectors, where: SearchFilter, limit: int) -> list[Hit]:
        """As `nearest`, by one model and by comparison with every point: slow, and sure."""
        self._check_vectors([{model: vector}])
        found = self._find(Query(model, vector, limit, conditions_of(where)), Effort(exact=True))
        return [hit_of(one.id, one.score, rank, {}) for rank, one in enumerate(found, 1)]

    def drop_model(self, name: str) -> None:
        """Remove a model and all its vectors; points that have no other stay, without any.

        Raises:
            UnknownNameError: the index holds no vectors of that model.
            IndexMismatchError: it is the only one.
        """
        self.card = self._current_card()
        self.require_model(name)
        if len(self.card.models) == 1:
            raise IndexMismatchError(f"{name} is the only model of the index {self.location}: remove the index instead")
        rest = {model: fingerprint for model, fingerprint in self.card.models.items() if model != name}
        self._store_card(replace(self.card, models=rest, unsettled=(*self.card.unsettled, name)))
        self.settle()

    def settle(self) -> None:
        """Remove what is left of models that the card has no longer, also for whom a kill has kept from it."""
        for name in self.card.unsettled:
            self._drop_vector(name)
            for page in self.pages():
                if name not in self._current_card().unsettled:  # somebody else was faster, and may have it again
                    break
                self._forget(name, page)
        self._store_card(replace(self._current_card(), unsettled=()))

    def _current_card(self) -> IndexCard:
        """The card as it is stored, which another process may have changed."""
        return self.card

    def _forget(self, name: str, points: Iterable[Stored]) -> None:
        """Take a model out of the payloads that say that it has a vector."""
        by_rest: dict[tuple[str, ...], list[str]] = {}
        for point in points:
            models = point.payload.get("models", ())
            if name in models:
                by_rest.setdefault(tuple(model for model in models if model != name), []).append(point.id)
        for rest, ids in by_rest.items():
            self._set_models(ids, rest)

    def about(self, where: SearchFilter) -> int:
        """About how many images pass the filter, in no time; 0 only where none does."""
        return self._count(conditions_of(where), exact=False)

    def count(self, where: SearchFilter | None = None) -> int:
        """Exact number of images that pass the filter."""
        return self._count(conditions_of(where or SearchFilter()), exact=True)

    @abstractmethod
    def _store_card(self, card: IndexCard) -> None:
        """Make this the index's card."""

    @abstractmethod
    def _drop_vector(self, name: str) -> None:
        """Remove a named vector, where it is there."""

    @abstractmethod
    def _set_models(self, ids: Sequence[str], models: Sequence[str]) -> None:
        """Set the payload's `models` of these points."""

    @abstractmethod
    def pages(self, *, vectors_of: Sequence[str] = ()) -> Iterator[list[Stored]]:
        """All points, some at a time."""

    @abstractmethod
    def sample(self, model: str, count: int) -> list[Stored]:
        """Points by chance that have a vector of that model, with it; at most `count`."""

    def listed(self, where: SearchFilter, limit: int, *, after: str | None = None) -> Listing:
        """The next `limit` images that pass the filter, in an order that stays; without vectors."""
        return self._list(conditions_of(where), limit, after)

    def drawn(self, where: SearchFilter, count: int) -> list[Stored]:
        """Images by chance among those that pass the filter, at most `count`; without vectors."""
        return self._draw(conditions_of(where), count)

    @abstractmethod
    def _list(self, conditions: Conditions, limit: int, after: str | None) -> Listing:
        """As `listed`."""

    @abstractmethod
    def _draw(self, conditions: Conditions, count: int) -> list[Stored]:
        """As `drawn`."""

    @abstractmethod
    def _write(self, images: Sequence[IndexedImage]) -> None:
        """Store points that were checked."""

    @abstractmethod
    def _find(self, query: Query, effort: Effort) -> list[Found]:
        """The points nearest to the query, with that effort, best first."""

    @abstractmethod
    def _count(self, conditions: Conditions, *, exact: bool) -> int:
        """How many points pass; about so many, and fast, where it need not be exact."""

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; unknown ids are none of its business."""

    @abstractmethod
    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        """The points of these ids that there are, in any order."""

    @abstractmethod
    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        """All points whose indexed field has one of the values, without vectors, in any order."""

    def facets(self, field: str, where: SearchFilter, limit: int = 1000) -> dict[str | int, int]:
        """Exact number of images by value of an indexed field, most frequent first."""
        return self._facets(field, conditions_of(where), limit)

    @abstractmethod
    def _facets(self, field: str, conditions: Conditions, limit: int) -> dict[str | int, int]:
        """As `facets`."""

    @abstractmethod
    def finish(self) -> None:
        """After a run of writes: build what makes search fast, and bring all to disk."""

    def is_wanted(self) -> bool:
        """Whether another process waits for this one to close it. Nobody has to wait for a server."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Let go of the index."""


def fused(lists: Sequence[Sequence[Found]]) -> list[Found]:
    """Several ranked lists as one, by reciprocal rank: a point scores 1 / (60 + rank), from 0, for each that has it."""
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, one in enumerate(ranked):
            scores[one.id] = scores.get(one.id, 0.0) + 1 / (FUSION_CONSTANT + rank)
    return [Found(point, score) for point, score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))]
