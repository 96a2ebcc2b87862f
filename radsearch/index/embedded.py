"""The index in a folder: Qdrant Edge, the server's own engine in this process."""

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from radsearch.errors import IndexBusyError, IndexMissingError, RadSearchError
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

_CARD = "radsearch.json"
_SHARD = "shard"
_RETRY_SECONDS = 0.2
_PAGE = 1000
_FIELD_TYPES = {"keyword": edge.PayloadSchemaType.Keyword, "integer": edge.PayloadSchemaType.Integer}


def open_embedded_index(settings: Settings, *, create_for: Sequence[Fingerprint]) -> "EmbeddedIndex":
    """Open the folder, making it first where that is asked for; see `open_index`."""
    folder = Path(settings.index).expanduser()
    if not (folder / _CARD).is_file():
        if not create_for:
            raise IndexMissingError(
                f"there is no index in {folder}; make one with: python -m ingest ARCHIVE --index {folder}"
            )
        _make(folder, create_for)
    deadline = time.monotonic() + settings.busy_wait_seconds
    while True:
        try:
            return EmbeddedIndex(folder, edge.EdgeShard.load(str(folder / _SHARD)))
        except RadSearchError:
            raise
        except Exception as error:
            words = " ".join(str(error).split())
            if "WouldBlock" not in words:
                raise RadSearchError(f"the index in {folder} cannot be opened: {words}") from error
            if time.monotonic() >= deadline:
                raise IndexBusyError(
                    f"the index in {folder} is in use by another process (one at a time holds an embedded index); "
                    "try again when it is done, or use a Qdrant server for more than one"
                ) from error
            time.sleep(_RETRY_SECONDS)


def _make(folder: Path, models: Sequence[Fingerprint]) -> None:
    try:
        _make_aside(folder, models)
    except OSError as error:
        raise IndexMissingError(f"no index can be made at {folder} ({error.strerror})") from error


def _make_aside(folder: Path, models: Sequence[Fingerprint]) -> None:
    """Make an empty index aside and move it into place, so that a kill leaves either none or a whole one.

    The payload indexes are there before the first point, so that the graph is built with them in mind.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise IndexMissingError(f"{folder} exists and is no index of ours; name an empty or new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    half_made = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(mode=0o700)
    (half_made / _SHARD).mkdir()
    sizes = {model.model: edge.EdgeVectorParams(model.dimension, edge.Distance.Cosine) for model in models}
    shard = edge.EdgeShard.create(str(half_made / _SHARD), edge.EdgeConfig(vectors=sizes))
    for name, kind in INDEXED_FIELDS.items():
        shard.update(edge.UpdateOperation.create_field_index(name, _FIELD_TYPES[kind]))
    shard.flush()
    shard.close()
    _write_card(half_made, IndexCard(models={model.model: model for model in models}))
    half_made.rename(folder)


def _write_card(folder: Path, card: IndexCard) -> None:
    half_written = folder / f".{_CARD}.{os.getpid()}"
    with half_written.open("w", encoding="utf-8") as stream:
        json.dump(card.as_json(), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    half_written.replace(folder / _CARD)


class EmbeddedIndex(Index):
    """A folder with one shard of Qdrant Edge and a card that names the models."""

    def __init__(self, folder: Path, shard: edge.EdgeShard) -> None:
        self.location = str(folder)
        self.card = IndexCard.from_json(json.loads((folder / _CARD).read_text(encoding="utf-8")))
        self._folder = folder
        self._shard = shard

    def _add_models(self, card: IndexCard, new: Mapping[str, Fingerprint]) -> None:
        for name, fingerprint in new.items():
            self._shard.update(
                edge.UpdateOperation.create_dense_vector(name, fingerprint.dimension, edge.Distance.Cosine)
            )
        self._shard.flush()
        _write_card(self._folder, card)
        self.card = card

    def write(self, images: Sequence[IndexedImage]) -> None:
        whole = [image for image in images if not image.kept]
        if whole:
            points = [edge.Point(image.id, _plain(image.vectors), image.payload) for image in whole]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        changed = [image for image in images if image.kept]
        if changed:
            vectors = [edge.PointVectors(image.id, _plain(image.vectors)) for image in changed]
            self._shard.update(edge.UpdateOperation.update_vectors(vectors))
        for image in changed:
            self._shard.update(edge.UpdateOperation.overwrite_payload([image.id], image.payload))

    def delete(self, ids: Sequence[str]) -> None:
        self._shard.update(edge.UpdateOperation.delete_points(list(ids)))

    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        wanted: bool | list[str] = list(vectors_of) if vectors_of else False
        return [_stored(record) for record in self._shard.retrieve(list(ids), with_payload=True, with_vector=wanted)]

    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        wanted = edge.Filter(must=[_condition(AnyOf(field, tuple(values)))])
        found, offset = self._shard.scroll(edge.ScrollRequest(limit=_PAGE, filter=wanted, with_payload=True))
        while offset is not None:
            request = edge.ScrollRequest(offset=offset, limit=_PAGE, filter=wanted, with_payload=True)
            more, offset = self._shard.scroll(request)
            found = [*found, *more]
        return [_stored(record) for record in found]

    def nearest(self, queries: Mapping[str, Vectors], where: SearchFilter, limit: int) -> list[Hit]:
        request = _query_request(queries, _filter(where), limit)
        found = self._shard.query(request)
        return [
            hit_of(str(point.id), float(point.score), rank, point.payload or {}) for rank, point in enumerate(found, 1)
        ]

    def facets(self, field: str, where: SearchFilter, limit: int = 1000) -> dict[str | int, int]:
        answer = self._shard.facet(edge.FacetRequest(field, limit=limit, exact=True, filter=_filter(where)))
        return {hit.value: hit.count for hit in answer.hits}

    def count(self, where: SearchFilter | None = None) -> int:
        return self._shard.count(edge.CountRequest(filter=_filter(where) if where else None, exact=True))

    def finish(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def close(self) -> None:
        self._shard.flush()
        self._shard.close()


def _query_request(queries: Mapping[str, Vectors], where: edge.Filter | None, limit: int) -> edge.QueryRequest:
    params = edge.SearchParams(hnsw_ef=SEARCH_EF)
    nearest = {name: edge.Query.Nearest(vector.tolist(), using=name) for name, vector in queries.items()}
    if len(nearest) == 1:
        (query,) = nearest.values()
        return edge.QueryRequest(limit, query=query, filter=where, params=params, with_payload=True)
    proposals = [
        edge.Prefetch(limit=limit * FUSION_DEPTH, query=query, filter=where, params=params)
        for query in nearest.values()
    ]
    fusion: Any = edge.Fusion.Rrf(k=FUSION_CONSTANT)  # its stub forgets that it is a Fusion
    return edge.QueryRequest(limit, prefetches=proposals, query=fusion, filter=where, with_payload=True)


def _filter(where: SearchFilter) -> edge.Filter | None:
    conditions = conditions_of(where)
    if not conditions.must and not conditions.must_not:
        return None
    return edge.Filter(
        must=[_condition(condition) for condition in conditions.must],
        must_not=[_condition(condition) for condition in conditions.must_not],
    )


def _condition(condition: AnyOf) -> edge.HasIdCondition | edge.FieldCondition:
    if condition.field == "id":
        return edge.HasIdCondition(set(condition.values))
    return edge.FieldCondition(condition.field, match=edge.MatchAny(list(condition.values)))


def _plain(vectors: Mapping[str, Vectors]) -> dict[str, Any]:
    return {name: vector.tolist() for name, vector in vectors.items()}


def _stored(record: edge.Record) -> Stored:
    vectors = record.vector if isinstance(record.vector, dict) else {}
    return Stored(
        str(record.id), record.payload or {}, {name: np.asarray(vector, np.float32) for name, vector in vectors.items()}
    )
