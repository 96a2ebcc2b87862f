"""The index in a folder: Qdrant Edge, the server's own engine in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import qdrant_edge as edge

from radsearch.errors import IndexMissingError, RadSearchError
from radsearch.index.base import Index
from radsearch.index.damage import WRITING_BYTES, bytes_on_disk, require_room
from radsearch.index.effort import GRAPH_CANDIDATES, GRAPH_LINKS, SCANNED_KILOBYTES, Effort
from radsearch.index.folder import CARD, make_folder, write_card
from radsearch.index.holding import Holding
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
from radsearch.settings import Settings
from radsearch.study import Fingerprint

_SHARD = "shard"
_PAGE = 1000
_DATATYPES = {"float32": edge.VectorStorageDatatype.Float32, "float16": edge.VectorStorageDatatype.Float16}
_SEGMENTS = 2  # one graph over all points, and one segment to write into
_SEGMENT_KILOBYTES = 1 << 30
_TIMES_WRITTEN = 4  # vectors: into the log and a segment, with codes; and something for payloads
_FIELD_TYPES = {"keyword": edge.PayloadSchemaType.Keyword, "integer": edge.PayloadSchemaType.Integer}


def open_embedded_index(
    settings: Settings, *, create_for: Sequence[Fingerprint], sole_writer: bool = False
) -> "EmbeddedIndex":
    """Open the folder, making it first where that is asked for; see `open_index`."""
    folder = settings.index_folder
    try:
        there = (folder / CARD).is_file()
    except OSError as error:
        raise IndexMissingError(f"the index in {folder} cannot be looked at ({error.strerror})") from error
    if not there:
        if not create_for:
            raise IndexMissingError(
                f"there is no index in {folder}; make one with: python -m ingest ARCHIVE --index {folder}"
            )
        card = IndexCard(models={model.model: model for model in create_for}, storage=storage_of(settings))
        make_folder(folder, card, lambda half_made: _fill(half_made, card))
    return EmbeddedIndex(folder, sole_writer=sole_writer, patience_seconds=settings.busy_wait_seconds)


def _loaded(folder: Path, card: IndexCard) -> edge.EdgeShard:
    """The shard, with the policy of its card for whatever is built from now on."""
    if card.unsettled:  # a vector that the card does not know would not fit its policy
        shard = edge.EdgeShard.load(str(folder / _SHARD))
        for name in card.unsettled:
            shard.update(edge.UpdateOperation.delete_vector_name(name))
        shard.flush()
        shard.close()
    return edge.EdgeShard.load(str(folder / _SHARD), _config(card))


def _config(card: IndexCard) -> edge.EdgeConfig:
    """How vectors are kept and the graph is built.

    Vectors and payloads are files that the system maps and reads ahead (`Cached`): it may drop them where memory is
    short, and a query takes a quarter of the time of one that meets each page for the first time.
    """
    return edge.EdgeConfig(
        vectors={
            name: edge.EdgeVectorParams(
                model.dimension,
                edge.Distance.Cosine,
                datatype=_DATATYPES[card.storage.datatype],
                memory=edge.Memory.Cached,
            )
            for name, model in card.models.items()
        },
        hnsw_config=edge.HnswIndexConfig(GRAPH_LINKS, GRAPH_CANDIDATES, SCANNED_KILOBYTES),
        quantization_config=_codes(card.storage),
        payload_memory=edge.Memory.Cached,
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=_SEGMENTS, max_segment_size=_SEGMENT_KILOBYTES),
    )


def _codes(
    storage: Storage,
) -> edge.TurboQuantQuantizationConfig | edge.ScalarQuantizationConfig | None:
    if storage.quantization == "turbo4":
        return edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=edge.Memory.Pinned)
    if storage.quantization == "int8":
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Pinned)
    return None


def make_from_shard(folder: Path, card: IndexCard, fetch: Callable[[Path], None]) -> None:
    """Make a folder of a server's shard, with its graphs, so that nothing is built anew.

    Args:
        folder: a new or empty one.
        card: the server's.
        fetch: writes the shard's snapshot into a file.

    Raises:
        RadSearchError: what was fetched is no shard that this engine opens, or the folder cannot be made.
    """

    def fill(half_made: Path) -> None:
        file = half_made / "shard.snapshot"
        fetch(file)
        try:
            edge.EdgeShard.unpack_snapshot(str(file), str(half_made / _SHARD))
            file.unlink()
            _index_fields(edge.EdgeShard.load(str(half_made / _SHARD), _config(card)))
        except Exception as error:
            raise RadSearchError(f"the server's shard cannot be used here: {' '.join(str(error).split())}") from error

    make_folder(folder, card, fill)


def _fill(folder: Path, card: IndexCard) -> None:
    """An empty shard. Its payload indexes are there before the first point: the graph is built with them in mind."""
    (folder / _SHARD).mkdir()
    _index_fields(edge.EdgeShard.create(str(folder / _SHARD), _config(card)))


def _index_fields(shard: edge.EdgeShard) -> None:
    for name, kind in INDEXED_FIELDS.items():
        shard.update(edge.UpdateOperation.create_field_index(name, _FIELD_TYPES[kind]))
    shard.flush()
    shard.close()


class EmbeddedIndex(Index):
    """A folder with one shard of Qdrant Edge and a card that names the models."""

    def __init__(self, folder: Path, *, sole_writer: bool, patience_seconds: float) -> None:
        self.location = str(folder)
        self._folder = folder
        self._held = Holding(
            folder, lambda card: _loaded(folder, card), sole_writer=sole_writer, patience_seconds=patience_seconds
        )
        self.card = self._held.card
        self._settled = self.card.unsettled  # their vectors went when the shard was loaded
        if self.card.unsettled:
            self.settle()
            self._settled = ()

    def _add_models(self, card: IndexCard, new: Mapping[str, Fingerprint]) -> None:
        if new:
            self._store_card(replace(self.card, unsettled=tuple(new)))
        for name, fingerprint in new.items():
            self._update(
                edge.UpdateOperation.create_dense_vector(
                    name, fingerprint.dimension, edge.Distance.Cosine, datatype=_DATATYPES[card.storage.datatype]
                )
            )
        self._store_card(replace(card, unsettled=()))

    def _update(self, operation: edge.UpdateOperation) -> None:
        with self._held.using(to_change=True) as shard:
            shard.update(operation)

    def _query(self, request: edge.QueryRequest) -> list[edge.ScoredPoint]:
        with self._held.using() as shard:
            return shard.query(request)

    def _store_card(self, card: IndexCard) -> None:
        with self._held.using() as shard:
            shard.flush()  # what it says is on the disk first
        write_card(self._folder, card)
        self.card = card

    def _drop_vector(self, name: str) -> None:
        if name not in self._settled:
            self._update(edge.UpdateOperation.delete_vector_name(name))

    def _set_models(self, ids: Sequence[str], models: Sequence[str]) -> None:
        self._update(edge.UpdateOperation.set_payload(list(ids), {"models": list(models)}))

    def pages(self, *, vectors_of: Sequence[str] = ()) -> Iterator[list[Stored]]:
        yield from self._scrolled(None, vectors_of)

    def sample(self, model: str, count: int) -> list[Stored]:
        having = _filter(Conditions((AnyOf("models", (model,)),)))
        request = edge.QueryRequest(count, query=edge.Sample.Random, filter=having, with_vector=[model])
        return [stored for stored in map(stored_of, self._query(request)) if model in stored.vectors]

    def _list(self, conditions: Conditions, limit: int, after: str | None) -> Listing:
        request = edge.ScrollRequest(
            offset=after, limit=limit, filter=_filter(conditions), with_payload=True, with_vector=False
        )
        with self._held.using() as shard:
            found, offset = shard.scroll(request)
        return Listing([stored_of(record) for record in found], None if offset is None else str(offset))

    def _draw(self, conditions: Conditions, count: int) -> list[Stored]:
        request = edge.QueryRequest(
            count, query=edge.Sample.Random, filter=_filter(conditions), with_payload=True, with_vector=False
        )
        return [stored_of(point) for point in self._query(request)]

    def _scrolled(self, wanted: edge.Filter | None, vectors_of: Sequence[str] = ()) -> Iterator[list[Stored]]:
        vectors: bool | list[str] = list(vectors_of) or False
        offset = None
        while True:
            request = edge.ScrollRequest(
                offset=offset, limit=_PAGE, filter=wanted, with_payload=True, with_vector=vectors
            )
            with self._held.using() as shard:
                found, offset = shard.scroll(request)
            yield [stored_of(record) for record in found]
            if offset is None:
                return

    def _write(self, images: Sequence[IndexedImage]) -> None:
        size = sum(vector.nbytes for image in images for vector in image.vectors.values())
        require_room(self._folder, WRITING_BYTES + _TIMES_WRITTEN * size)
        whole = [image for image in images if not image.kept]
        if whole:
            points = [edge.Point(image.id, plain(image.vectors), image.payload) for image in whole]
            self._update(edge.UpdateOperation.upsert_points(points))
        changed = [image for image in images if image.kept]
        vectors = [edge.PointVectors(image.id, plain(image.vectors)) for image in changed if image.vectors]
        if vectors:
            self._update(edge.UpdateOperation.update_vectors(vectors))
        for image in changed:
            self._update(edge.UpdateOperation.overwrite_payload([image.id], image.payload))
        self._held.let_others_in()

    def delete(self, ids: Sequence[str]) -> None:
        self._update(edge.UpdateOperation.delete_points(list(ids)))

    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        wanted: bool | list[str] = list(vectors_of) if vectors_of else False
        with self._held.using() as shard:
            return [stored_of(record) for record in shard.retrieve(list(ids), with_payload=True, with_vector=wanted)]

    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        wanted = edge.Filter(must=[_condition(AnyOf(field, tuple(values)))])
        return [stored for page in self._scrolled(wanted) for stored in page]

    def _find(self, query: Query, effort: Effort) -> list[Found]:
        rescore = effort.oversampling > 0
        params = edge.SearchParams(
            hnsw_ef=effort.candidates,
            exact=effort.exact,
            quantization=edge.QuantizationSearchParams(rescore=rescore, oversampling=max(1.0, effort.oversampling)),
            acorn=edge.AcornSearchParams(enable=True) if effort.acorn else None,
        )
        request = edge.QueryRequest(
            query.limit,
            query=edge.Query.Nearest(query.vector.tolist(), using=query.model),
            filter=_filter(query.conditions),
            params=params,
            score_threshold=query.threshold,
            with_payload=query.with_payload,
        )
        return [Found(str(point.id), float(point.score), point.payload or {}) for point in self._query(request)]

    def _facets(self, field: str, conditions: Conditions, limit: int) -> dict[str | int, int]:
        # What the engine calls inexact counts a point twice that is in two segments, which no point is between two
        # updates; "exact" counts anew for each value, which takes thirty times as long.
        request = edge.FacetRequest(field, limit=limit, exact=False, filter=_filter(conditions))
        with self._held.using() as shard:
            answer = shard.facet(request)
        return {hit.value: hit.count for hit in answer.hits if hit.count}

    def _count(self, conditions: Conditions, *, exact: bool) -> int:
        with self._held.using() as shard:
            return shard.count(edge.CountRequest(filter=_filter(conditions), exact=exact))

    def finish(self) -> None:
        with self._held.using(to_change=True) as shard:
            told = shard.info()
            if told.indexed_vectors_count < told.points_count * len(self.card.models):  # all is written once more
                require_room(self._folder, WRITING_BYTES + bytes_on_disk(self._folder))
            shard.optimize()
            shard.flush()

    def is_wanted(self) -> bool:
        return self._held.is_wanted()

    def close(self) -> None:
        self._held.close()


def _filter(conditions: Conditions) -> edge.Filter | None:
    if not conditions:
        return None
    return edge.Filter(
        must=[_condition(condition) for condition in conditions.must],
        must_not=[_condition(condition) for condition in conditions.must_not],
    )


def _condition(condition: Condition) -> edge.HasIdCondition | edge.FieldCondition | edge.IsEmptyCondition:
    match condition:
        case Missing(name):
            return edge.IsEmptyCondition(name)
        case Within(name, span):
            return edge.FieldCondition(name, range=edge.RangeFloat(gte=span.low, lte=span.high))
        case AnyOf("id", values):
            return edge.HasIdCondition(set(values))
        case AnyOf(name, values):
            return edge.FieldCondition(name, match=edge.MatchAny(list(values)))
