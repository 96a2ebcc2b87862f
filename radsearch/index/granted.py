"""An index as somebody may see it who may see some data sets only: the filter that no query can leave out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from radsearch.errors import NotAllowedError
from radsearch.index.base import Index
from radsearch.index.effort import Effort
from radsearch.index.records import Found, IndexCard, IndexedImage, Listing, Query, Stored
from radsearch.index.schema import AnyOf, Conditions
from radsearch.study import Fingerprint, SearchFilter


def granted(index: Index, datasets: Sequence[str] | None) -> Index:
    """The index with the images of these data sets only, to be read and not to be changed.

    Args:
        index: any back end's; it stays the caller's to close.
        datasets: their names. None for all of them, and for images of no data set.
    """
    return index if datasets is None else _GrantedIndex(index, tuple(datasets))


class _GrantedIndex(Index):
    """Stands on another back end at the level of conditions, through which every public question goes.

    What `Index` asks of a back end it has to say here, too: a new way to ask cannot be forgotten.
    """

    def __init__(self, index: Index, datasets: tuple[str, ...]) -> None:
        self.location, self.card = index.location, index.card
        self._index = index
        self._datasets = datasets

    def _narrowed(self, conditions: Conditions) -> Conditions:
        return replace(conditions, must=(*conditions.must, AnyOf("dataset", self._datasets)))

    def _seen(self, points: Sequence[Stored]) -> list[Stored]:
        return [point for point in points if point.payload.get("dataset") in self._datasets]

    def _with_effort(self, query: Query) -> list[Found]:
        """With the effort that the filter asks for together with this one."""
        return self._index._with_effort(replace(query, conditions=self._narrowed(query.conditions)))

    def _find(self, query: Query, effort: Effort) -> list[Found]:
        return self._index._find(replace(query, conditions=self._narrowed(query.conditions)), effort)

    def _count(self, conditions: Conditions, *, exact: bool) -> int:
        return self._index._count(self._narrowed(conditions), exact=exact)

    def about(self, where: SearchFilter) -> int:
        """Exactly: the engine's fast count takes conditions to be independent, and would hint at others' values."""
        return self.count(where)

    def _list(self, conditions: Conditions, limit: int, after: str | None) -> Listing:
        return self._index._list(self._narrowed(conditions), limit, after)

    def _draw(self, conditions: Conditions, count: int) -> list[Stored]:
        return self._index._draw(self._narrowed(conditions), count)

    def _facets(self, field: str, conditions: Conditions, limit: int) -> dict[str | int, int]:
        return self._index._facets(field, self._narrowed(conditions), limit)

    def retrieve(self, ids: Sequence[str], *, vectors_of: Sequence[str] = ()) -> list[Stored]:
        return self._seen(self._index.retrieve(ids, vectors_of=vectors_of))

    def having(self, field: str, values: Sequence[str]) -> list[Stored]:
        return self._seen(self._index.having(field, values))

    def pages(self, *, vectors_of: Sequence[str] = ()) -> Iterator[list[Stored]]:
        return (self._seen(page) for page in self._index.pages(vectors_of=vectors_of))

    def sample(self, model: str, count: int) -> list[Stored]:
        """Fewer than `count`, where others' images were drawn."""
        drawn = self._index.sample(model, count)  # may come without payload
        seen = {one.id for one in self.retrieve([one.id for one in drawn])}
        return [one for one in drawn if one.id in seen]

    def is_wanted(self) -> bool:
        return self._index.is_wanted()

    def finish(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """The index is the caller's."""

    def delete(self, ids: Sequence[str]) -> None:  # noqa: ARG002 -- the interface's
        raise _refusal()

    def _add_models(self, card: IndexCard, new: Mapping[str, Fingerprint]) -> None:  # noqa: ARG002
        raise _refusal()

    def _store_card(self, card: IndexCard) -> None:  # noqa: ARG002
        raise _refusal()

    def _drop_vector(self, name: str) -> None:  # noqa: ARG002
        raise _refusal()

    def _set_models(self, ids: Sequence[str], models: Sequence[str]) -> None:  # noqa: ARG002
        raise _refusal()

    def _write(self, images: Sequence[IndexedImage]) -> None:  # noqa: ARG002
        raise _refusal()


def _refusal() -> NotAllowedError:
    return NotAllowedError("who may see some data sets only cannot change the index")
