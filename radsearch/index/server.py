"""The index on a Qdrant server or cluster, over qdrant-client."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from radsearch.errors import IndexMissingError, IndexUnreachableError
from radsearch.index.base import (
    FUSION_CONSTANT,
    FUSION_DEPTH,
    SEARCH_EF,
    Index,
    IndexCard,
    IndexedImage,
    Stored,
)
from radsearch.index.schema import INDEXED_FIELDS, AnyOf, conditions_of, hit_of
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Hit, SearchFilter, Vectors

_TIMEOUT_SECONDS = 60
_REQUEST_POINTS = 64  # a request stays below some MB: 64 points of 1,280 numbers are about 0.8 MB
_PAGE = 1000
_FIELD_TYPES = {"keyword": models.PayloadSchemaType.KEYWORD, "integer": models.PayloadSchemaType.INTEGER}


def open_server_index(settings: Settings, *, create_for: Sequence[Fingerprint]) -> "ServerIndex":
    """Open the collection on the server, making it first where that is asked for; see `open_index`."""
    with _one_line_errors(settings.index):
        client = QdrantClient(url=settings.index, api_key=settings.qdrant_api_key, timeout=_TIMEOUT_SECONDS)
        return open_collection(client, settings.collection, settings.index, create_for=create_for)


def open_collection(
    client: QdrantClient, collection: str, location: str, *, create_for: Sequence[Fingerprint] = ()
) -> "ServerIndex":
    """As `open_server_index`, over a client of the caller's."""
    if not client.collection_exists(collection):
        if not create_for:
            raise IndexMissingError(f"the server at {location} has no collection {collection!r}")
        card = IndexCard(models={model.model: model for model in create_for})
        sizes = {model.model: _vector_params(model) for model in create_for}
        client.create_collection(collection, vectors_config=sizes, metadata=card.as_json())
    present = client.get_collection(collection)
    if present.config.metadata is None or "format" not in present.config.metadata:
        raise IndexMissingError(f"the collection {collection!r} at {location} is no index of ours")
    for name, kind in INDEXED_FIELDS.items():
        if name not in present.payload_schema:  # also after a kill between the collection and its indexes
            client.create_payload_index(collection, name, _FIELD_TYPES[kind])
    return ServerIndex(client, collection, location, IndexCard.from_json(present.config.metadata))


class ServerIndex(Index):
    """A collection; its card is the collection's metadata."""

    def __init__(self, client: QdrantClient, collection: str, location: str, card: IndexCard) -> None:
        self.location = location
        self.card = card
        self._client = client
        self._collection = collection

    def _add_models(self, card: IndexCard, new: Mapping[str, Fingerprint]) -> None:
        with _one_line_errors(self.location):
            for name, model in new.items():
                config = models.DenseVectorConfig(size=model.dimension, distance=models.Distance.COSINE)
                self._client.create_vector_name(
                    self._collection, name, vector_name_config=models.DenseVectorNameConfig(dense=config)
                )
            self._client.update_collection(self._collection, metadata=card.as_json())
        self.card = card

    def write(self, images: Sequence[IndexedImage]) -> None:
        with _one_line_errors(self.location):
            for start in range(0, len(images), _REQUEST_POINTS):
                self._write_some(images[start : start + _REQUEST_POINTS])

    def _write_some(self, images: Sequence[IndexedImage]) -> None:
        whole = [models.PointStruct(id=i.id, vector=_plain(i.vectors), payload=i.payload) for i in images if not i.kept]
        if whole:
            self._client.upsert(self._collection, whole)
        changed = [image for image in images if image.kept]
        if changed:
            vectors = [models.PointVectors(id=image.id, vector=_plain(image.vectors)) for image in changed]
            self._client.update_vectors(self._collection, vectors)
        for image in changed:
            self._client.overwrite_payload(self._collection, payload=image.payload, points=[image.id])

    def delete(self, ids: Sequence[str]) -> None:
        with _one_line_errors(self.location):
            self._client.delete(self._collection, points_selector=list(ids))

    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        wanted: bool | list[str] = list(vectors_of) if vectors_of else False
        with _one_line_errors(self.location):
            records = self._client.retrieve(self._collection, list(ids), with_payload=True, with_vectors=wanted)
        return [_stored(record) for record in records]

    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        wanted = models.Filter(must=[_condition(AnyOf(field, tuple(values)))])
        found: list[Stored] = []
        offset = None
        while True:
            with _one_line_errors(self.location):
                records, offset = self._client.scroll(
                    self._collection, scroll_filter=wanted, limit=_PAGE, offset=offset, with_payload=True
                )
            found.extend(_stored(record) for record in records)
            if offset is None:
                return found

    def nearest(self, queries: Mapping[str, Vectors], where: SearchFilter, limit: int) -> list[Hit]:
        with _one_line_errors(self.location):
            found = self._query(queries, _filter(where), limit)
        return [hit_of(str(point.id), point.score, rank, point.payload or {}) for rank, point in enumerate(found, 1)]

    def _query(
        self, queries: Mapping[str, Vectors], where: models.Filter | None, limit: int
    ) -> list[models.ScoredPoint]:
        params = models.SearchParams(hnsw_ef=SEARCH_EF)
        query: Callable[..., models.QueryResponse] = self._client.query_points
        if len(queries) == 1:
            ((name, vector),) = queries.items()
            answer = query(
                self._collection,
                query=vector.tolist(),
                using=name,
                query_filter=where,
                search_params=params,
                limit=limit,
            )
            return answer.points
        proposals = [
            models.Prefetch(query=vector.tolist(), using=name, filter=where, params=params, limit=limit * FUSION_DEPTH)
            for name, vector in queries.items()
        ]
        fusion = models.RrfQuery(rrf=models.Rrf(k=FUSION_CONSTANT))
        return query(self._collection, prefetch=proposals, query=fusion, query_filter=where, limit=limit).points

    def facets(self, field: str, where: SearchFilter, limit: int = 1000) -> dict[str | int, int]:
        with _one_line_errors(self.location):
            answer = self._client.facet(self._collection, field, _filter(where), limit=limit, exact=True)
        return {hit.value: hit.count for hit in answer.hits}

    def count(self, where: SearchFilter | None = None) -> int:
        wanted = _filter(where) if where else None
        with _one_line_errors(self.location):
            return self._client.count(self._collection, count_filter=wanted, exact=True).count

    def finish(self) -> None:
        """The server optimizes by itself; every write was acknowledged."""

    def close(self) -> None:
        self._client.close()


@contextmanager
def _one_line_errors(location: str) -> Iterator[None]:
    """Say what the server did in one line; its own words may quote a payload."""
    try:
        yield
    except ApiException as error:
        status = getattr(error, "status_code", None)
        said = f"answered {status}" if status else "did not answer"
        raise IndexUnreachableError(f"the Qdrant server at {location} {said} ({type(error).__name__})") from error


def _vector_params(model: Fingerprint) -> models.VectorParams:
    return models.VectorParams(size=model.dimension, distance=models.Distance.COSINE)


def _filter(where: SearchFilter) -> models.Filter | None:
    conditions = conditions_of(where)
    if not conditions.must and not conditions.must_not:
        return None
    return models.Filter(
        must=[_condition(condition) for condition in conditions.must],
        must_not=[_condition(condition) for condition in conditions.must_not],
    )


def _condition(condition: AnyOf) -> models.HasIdCondition | models.FieldCondition:
    if condition.field == "id":
        return models.HasIdCondition(has_id=list(condition.values))
    return models.FieldCondition(key=condition.field, match=models.MatchAny(any=list(condition.values)))


def _plain(vectors: Mapping[str, Vectors]) -> dict[str, Any]:
    return {name: vector.tolist() for name, vector in vectors.items()}


def _stored(record: models.Record) -> Stored:
    vectors = record.vector if isinstance(record.vector, dict) else {}
    return Stored(
        str(record.id), record.payload or {}, {name: np.asarray(vector, np.float32) for name, vector in vectors.items()}
    )
