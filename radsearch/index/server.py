"""The index on a Qdrant server or cluster, over qdrant-client."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from radsearch.errors import IndexMissingError, IndexUnreachableError
from radsearch.index.base import Found, Index, IndexCard, IndexedImage, Query, Storage, Stored, storage_of
from radsearch.index.effort import GRAPH_CANDIDATES, GRAPH_LINKS, SCANNED_KILOBYTES, Effort
from radsearch.index.schema import INDEXED_FIELDS, AnyOf, Condition, Conditions, Missing, Within, conditions_of
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter, Vectors

_TIMEOUT_SECONDS = 60
_REQUEST_POINTS = 64  # a request stays below some MB: 64 points of 1,280 numbers are about 0.8 MB
_PAGE = 1000
_DATATYPES = {"float32": models.Datatype.FLOAT32, "float16": models.Datatype.FLOAT16}
_FIELD_TYPES = {"keyword": models.PayloadSchemaType.KEYWORD, "integer": models.PayloadSchemaType.INTEGER}


def open_server_index(settings: Settings, *, create_for: Sequence[Fingerprint]) -> "ServerIndex":
    """Open the collection on the server, making it first where that is asked for; see `open_index`."""
    with _one_line_errors(settings.index):
        client = QdrantClient(url=settings.index, api_key=settings.qdrant_api_key, timeout=_TIMEOUT_SECONDS)
        return open_collection(
            client, settings.collection, settings.index, create_for=create_for, storage=storage_of(settings)
        )


def open_collection(
    client: QdrantClient,
    collection: str,
    location: str,
    *,
    create_for: Sequence[Fingerprint] = (),
    storage: Storage | None = None,
) -> "ServerIndex":
    """As `open_server_index`, over a client of the caller's."""
    if not client.collection_exists(collection):
        if not create_for:
            raise IndexMissingError(f"the server at {location} has no collection {collection!r}")
        _make(
            client,
            collection,
            IndexCard(models={model.model: model for model in create_for}, storage=storage or Storage()),
        )
    present = client.get_collection(collection)
    if present.config.metadata is None or "format" not in present.config.metadata:
        raise IndexMissingError(f"the collection {collection!r} at {location} is no index of ours")
    for name, kind in INDEXED_FIELDS.items():
        if name not in present.payload_schema:  # also after a kill between the collection and its indexes
            client.create_payload_index(collection, name, _FIELD_TYPES[kind])
    return ServerIndex(client, collection, location, IndexCard.from_json(present.config.metadata))


def _make(client: QdrantClient, collection: str, card: IndexCard) -> None:
    coded = card.storage.quantization == "int8"
    scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    client.create_collection(
        collection,
        vectors_config={
            name: models.VectorParams(
                size=model.dimension,
                distance=models.Distance.COSINE,
                datatype=_DATATYPES[card.storage.datatype],
                on_disk=coded,
            )
            for name, model in card.models.items()
        },
        hnsw_config=models.HnswConfigDiff(
            m=GRAPH_LINKS, ef_construct=GRAPH_CANDIDATES, full_scan_threshold=SCANNED_KILOBYTES
        ),
        quantization_config=models.ScalarQuantization(scalar=scalar) if coded else None,
        metadata=card.as_json(),
    )


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
                config = models.DenseVectorConfig(
                    size=model.dimension,
                    distance=models.Distance.COSINE,
                    datatype=models.VectorStorageDatatype(card.storage.datatype),
                )
                self._client.create_vector_name(
                    self._collection, name, vector_name_config=models.DenseVectorNameConfig(dense=config)
                )
            self._client.update_collection(self._collection, metadata=card.as_json())
        self.card = card

    def _write(self, images: Sequence[IndexedImage]) -> None:
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

    def _find(self, query: Query, effort: Effort) -> list[Found]:
        coded = self.card.storage.quantization != "none" and effort.oversampling > 1
        params = models.SearchParams(
            hnsw_ef=effort.candidates,
            exact=effort.exact,
            quantization=models.QuantizationSearchParams(rescore=True, oversampling=effort.oversampling)
            if coded
            else None,
            acorn=models.AcornSearchParams(enable=True) if effort.acorn else None,
        )
        with _one_line_errors(self.location):
            answer = self._client.query_points(
                self._collection,
                query=query.vector.tolist(),
                using=query.model,
                query_filter=_filter(query.conditions),
                search_params=params,
                limit=query.limit,
                score_threshold=query.threshold,
                with_payload=query.with_payload,
            )
        return [Found(str(point.id), point.score, point.payload or {}) for point in answer.points]

    def facets(self, field: str, where: SearchFilter, limit: int = 1000) -> dict[str | int, int]:
        with _one_line_errors(self.location):
            answer = self._client.facet(self._collection, field, _filter(conditions_of(where)), limit=limit, exact=True)
        return {hit.value: hit.count for hit in answer.hits}

    def _estimate(self, conditions: Conditions) -> int:
        return self._count(conditions, exact=False)

    def _exact_count(self, conditions: Conditions) -> int:
        return self._count(conditions, exact=True)

    def _count(self, conditions: Conditions, *, exact: bool) -> int:
        with _one_line_errors(self.location):
            return self._client.count(self._collection, count_filter=_filter(conditions), exact=exact).count

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


def _plain(vectors: Mapping[str, Vectors]) -> dict[str, Any]:
    return {name: vector.tolist() for name, vector in vectors.items()}


def _stored(record: models.Record) -> Stored:
    vectors = record.vector if isinstance(record.vector, dict) else {}
    return Stored(
        str(record.id), record.payload or {}, {name: np.asarray(vector, np.float32) for name, vector in vectors.items()}
    )
