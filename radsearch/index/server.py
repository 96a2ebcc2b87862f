"""The index on a Qdrant server or cluster, over qdrant-client."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models

from radsearch.errors import IndexMissingError, IndexUnreachableError
from radsearch.index.base import Index
from radsearch.index.connection import connect
from radsearch.index.effort import Effort
from radsearch.index.making import Cluster, make_collection
from radsearch.index.patience import is_there_already, patiently
from radsearch.index.records import (
    Found,
    IndexCard,
    IndexedImage,
    Listing,
    Query,
    Storage,
    Stored,
    plain,
    storage_of,
    stored_of,
)
from radsearch.index.schema import INDEXED_FIELDS, AnyOf, Condition, Conditions, Missing, Within
from radsearch.settings import Settings, without_credentials
from radsearch.study import Fingerprint

_REQUEST_POINTS = 64  # a request stays below some MB: 64 points of 1,280 numbers are about 0.8 MB
_PAGE = 1000
_CARD_TRIES = 5
_FIELD_TYPES = {"keyword": models.PayloadSchemaType.KEYWORD, "integer": models.PayloadSchemaType.INTEGER}

_Answer = TypeVar("_Answer")


def open_server_index(
    settings: Settings, *, create_for: Sequence[Fingerprint], sole_writer: bool = False
) -> "ServerIndex":
    """Open the collection on the server, making it first where that is asked for; see `open_index`."""
    client = connect(
        settings.index,
        api_key=settings.qdrant_api_key,
        timeout_seconds=settings.qdrant_seconds,
        grpc=settings.qdrant_grpc > 0,
        ca_certificate=settings.qdrant_ca,
    )
    cluster = Cluster(settings.qdrant_shards, settings.qdrant_replicas, settings.qdrant_write_consistency)
    location = without_credentials(settings.index)
    try:
        return patiently(
            location,
            lambda: open_collection(
                client,
                settings.collection,
                location,
                create_for=create_for,
                storage=storage_of(settings),
                cluster=cluster,
                to_write=sole_writer,
            ),
        )
    except BaseException:
        client.close()
        raise


def open_collection(  # noqa: PLR0913 -- what a new collection needs, each by its name
    client: QdrantClient,
    collection: str,
    location: str,
    *,
    create_for: Sequence[Fingerprint] = (),
    storage: Storage | None = None,
    cluster: Cluster | None = None,
    to_write: bool = False,
) -> "ServerIndex":
    """As `open_server_index`, over a client of the caller's.

    Who is `to_write` does first what a kill has kept another one from; who only reads may have no right to.
    """
    if not client.collection_exists(collection):
        if not create_for:
            raise IndexMissingError(f"the server at {location} has no collection {collection!r}")
        card = IndexCard(models={model.model: model for model in create_for}, storage=storage or Storage())
        try:
            make_collection(client, collection, card, cluster or Cluster())
        except Exception as error:
            if not is_there_already(error):
                raise
    present = client.get_collection(collection)
    if present.config.metadata is None or "format" not in present.config.metadata:
        raise IndexMissingError(f"the collection {collection!r} at {location} is no index of ours")
    for name, kind in INDEXED_FIELDS.items():
        if name not in present.payload_schema:  # also after a kill between the collection and its indexes
            client.create_payload_index(collection, name, _FIELD_TYPES[kind])
    index = ServerIndex(client, collection, location, IndexCard.from_json(present.config.metadata))
    if to_write and index.card.unsettled:
        index.settle()
    return index


class ServerIndex(Index):
    """A collection; its card is the collection's metadata."""

    def __init__(self, client: QdrantClient, collection: str, location: str, card: IndexCard) -> None:
        self.location = location
        self.card = card
        self._client = client
        self._collection = collection

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        return patiently(self.location, call)

    def admit(self, fingerprints: Iterable[Fingerprint], secret_check: str) -> None:
        """As any index, but others may change the card meanwhile, and the server lets the last one win."""
        wanted = {model.model: model for model in fingerprints}
        for _ in range(_CARD_TRIES):
            if self.card.secret_check != secret_check or not wanted.keys() <= self.card.models.keys():
                self.card = self._current_card()
            before = self.card
            super().admit(wanted.values(), secret_check)
            if self.card == before:
                return
            self.card = self._current_card()
            if self.card.secret_check == secret_check and wanted.keys() <= self.card.models.keys():
                return
        raise IndexUnreachableError(f"others keep changing the card of the index at {self.location}: try again later")

    def _current_card(self) -> IndexCard:
        collection = self._ask(lambda: self._client.get_collection(self._collection))
        return IndexCard.from_json(collection.config.metadata or {})

    def _add_models(self, card: IndexCard, new: Mapping[str, Fingerprint]) -> None:
        if new:
            self._store_card(replace(self.card, unsettled=(*self.card.unsettled, *new)))
        for name, model in new.items():
            self._ask(functools.partial(self._add_vector, name, model))
        self._store_card(replace(card, unsettled=tuple(name for name in card.unsettled if name not in new)))

    def _add_vector(self, name: str, model: Fingerprint) -> None:
        """Where there is one that the card does not know, it is a killed process's, maybe of other weights."""
        if name in (self._client.get_collection(self._collection).config.params.vectors or {}):
            self._client.delete_vector_name(self._collection, name)
        config = models.DenseVectorConfig(
            size=model.dimension,
            distance=models.Distance.COSINE,
            datatype=models.VectorStorageDatatype(self.card.storage.datatype),
        )
        self._client.create_vector_name(
            self._collection, name, vector_name_config=models.DenseVectorNameConfig(dense=config)
        )

    def _store_card(self, card: IndexCard) -> None:
        self._ask(lambda: self._client.update_collection(self._collection, metadata=card.as_json()))
        self.card = card

    def _drop_vector(self, name: str) -> None:
        def drop() -> None:
            if name in (self._client.get_collection(self._collection).config.params.vectors or {}):
                self._client.delete_vector_name(self._collection, name)

        self._ask(drop)

    def _set_models(self, ids: Sequence[str], models: Sequence[str]) -> None:
        payload = {"models": list(models)}
        self._ask(lambda: self._client.set_payload(self._collection, payload=payload, points=list(ids)))

    def pages(self, *, vectors_of: Sequence[str] = ()) -> Iterator[list[Stored]]:
        yield from self._scrolled(None, vectors_of)

    def sample(self, model: str, count: int) -> list[Stored]:
        having = _filter(Conditions((AnyOf("models", (model,)),)))
        answer = self._ask(
            lambda: self._client.query_points(
                self._collection,
                query=models.SampleQuery(sample=models.Sample.RANDOM),
                query_filter=having,
                limit=count,
                with_vectors=[model],
            )
        )
        return [stored for stored in map(stored_of, answer.points) if model in stored.vectors]

    def _list(self, conditions: Conditions, limit: int, after: str | None) -> Listing:
        records, offset = self._ask(
            lambda: self._client.scroll(
                self._collection, scroll_filter=_filter(conditions), limit=limit, offset=after, with_payload=True
            )
        )
        return Listing([stored_of(record) for record in records], None if offset is None else str(offset))

    def _draw(self, conditions: Conditions, count: int) -> list[Stored]:
        answer = self._ask(
            lambda: self._client.query_points(
                self._collection,
                query=models.SampleQuery(sample=models.Sample.RANDOM),
                query_filter=_filter(conditions),
                limit=count,
                with_payload=True,
            )
        )
        return [stored_of(point) for point in answer.points]

    def _scrolled(self, wanted: models.Filter | None, vectors_of: Sequence[str] = ()) -> Iterator[list[Stored]]:
        vectors: bool | list[str] = list(vectors_of) or False
        offset: Any = None
        while True:
            page = functools.partial(
                self._client.scroll,
                self._collection,
                scroll_filter=wanted,
                limit=_PAGE,
                offset=offset,
                with_payload=True,
                with_vectors=vectors,
            )
            records, offset = self._ask(page)
            yield [stored_of(record) for record in records]
            if offset is None:
                return

    def _write(self, images: Sequence[IndexedImage]) -> None:
        for start in range(0, len(images), _REQUEST_POINTS):
            some = images[start : start + _REQUEST_POINTS]
            self._ask(functools.partial(self._write_some, some))

    def _write_some(self, images: Sequence[IndexedImage]) -> None:
        changed = [image for image in images if image.kept]
        whole = [models.PointStruct(id=i.id, vector=plain(i.vectors), payload=i.payload) for i in images if not i.kept]
        operations: list[models.UpdateOperation] = []
        if whole:
            operations.append(models.UpsertOperation(upsert=models.PointsList(points=whole)))
        vectors = [models.PointVectors(id=i.id, vector=plain(i.vectors)) for i in changed if i.vectors]
        if vectors:
            operations.append(models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=vectors)))
        operations += [
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=image.payload, points=[image.id])
            )
            for image in changed
        ]
        self._client.batch_update_points(self._collection, operations)

    def delete(self, ids: Sequence[str]) -> None:
        self._ask(lambda: self._client.delete(self._collection, points_selector=list(ids)))

    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        wanted: bool | list[str] = list(vectors_of) if vectors_of else False
        records = self._ask(
            lambda: self._client.retrieve(self._collection, list(ids), with_payload=True, with_vectors=wanted)
        )
        return [stored_of(record) for record in records]

    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        wanted = models.Filter(must=[_condition(AnyOf(field, tuple(values)))])
        return [stored for page in self._scrolled(wanted) for stored in page]

    def _find(self, query: Query, effort: Effort) -> list[Found]:
        rescore = effort.oversampling > 0
        params = models.SearchParams(
            hnsw_ef=effort.candidates,
            exact=effort.exact,
            quantization=models.QuantizationSearchParams(rescore=rescore, oversampling=max(1.0, effort.oversampling)),
            acorn=models.AcornSearchParams(enable=True) if effort.acorn else None,
        )
        answer = self._ask(
            lambda: self._client.query_points(
                self._collection,
                query=query.vector.tolist(),
                using=query.model,
                query_filter=_filter(query.conditions),
                search_params=params,
                limit=query.limit,
                score_threshold=query.threshold,
                with_payload=query.with_payload,
            )
        )
        return [Found(str(point.id), point.score, point.payload or {}) for point in answer.points]

    def _facets(self, field: str, conditions: Conditions, limit: int) -> dict[str | int, int]:
        wanted = _filter(conditions)
        answer = self._ask(lambda: self._client.facet(self._collection, field, wanted, limit=limit, exact=True))
        return {hit.value: hit.count for hit in answer.hits if hit.count}

    def _count(self, conditions: Conditions, *, exact: bool) -> int:
        wanted = _filter(conditions)
        return self._ask(lambda: self._client.count(self._collection, count_filter=wanted, exact=exact)).count

    def finish(self) -> None:
        """The server optimizes by itself; every write was acknowledged."""

    def close(self) -> None:
        self._client.close()


def _filter(conditions: Conditions) -> models.Filter | None:
    if not conditions:
        return None
    return models.Filter(
        must=[_condition(condition) for condition in conditions.must],
        must_not=[_condition(condition) for condition in conditions.must_not],
    )


def _condition(condition: Condition) -> models.HasIdCondition | models.FieldCondition | models.IsEmptyCondition:
    match condition:
        case Missing(name):
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=name))
        case Within(name, span):
            return models.FieldCondition(key=name, range=models.Range(gte=span.low, lte=span.high))
        case AnyOf("id", values):
            return models.HasIdCondition(has_id=list(values))
        case AnyOf(name, values):
            return models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))
