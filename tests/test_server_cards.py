"""Several processes at one collection on a server, where nothing locks its card."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from test_index_embedded import MODEL, image

from radsearch.errors import IndexMismatchError, IndexUnreachableError
from radsearch.index import Index, IndexedImage
from radsearch.index.server import ServerIndex, open_collection
from radsearch.study import SearchFilter

SECOND = replace(MODEL, model="second", dimension=3)
THIRD = replace(MODEL, model="third", dimension=3)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerIndex, "close", lambda _self: None)  # all share it
        yield client


def opened(client: QdrantClient, *, to_write: bool = True) -> ServerIndex:
    return open_collection(client, "shared", "memory", create_for=[MODEL], to_write=to_write)


def with_vector(number: int, name: str) -> IndexedImage:
    there = image(number)
    vectors = {**there.vectors, name: np.eye(3, dtype=np.float32)[0]}
    return replace(there, vectors=vectors, payload={**there.payload, "models": ["first", name]})


def test_two_that_add_a_model_each_at_the_same_time_both_have_it(client: QdrantClient) -> None:
    one, other = opened(client), opened(client)
    one.admit([SECOND], "check")
    other.admit([THIRD], "check")
    one.write([with_vector(1, "second")])
    other.write([with_vector(2, "third")])
    for index in (opened(client), other):
        assert set(index.card.models) == {"first", "second", "third"}
        assert index.card.unsettled == ()
        assert index.card.secret_check == "check"  # noqa: S105 -- no password


def test_one_that_overwrites_the_card_is_noticed(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = opened(client), opened(client)
    other.admit([], "check")
    old, add = other.card, ServerIndex._add_models
    times = 0

    def add_and_be_overwritten(self: ServerIndex, *arguments: object) -> None:
        nonlocal times
        add(self, *arguments)  # type: ignore[arg-type]
        times += 1
        if times < 3:
            other._store_card(old)

    monkeypatch.setattr(ServerIndex, "_add_models", add_and_be_overwritten)
    one.admit([SECOND], "check")
    assert times == 3
    assert set(opened(client).card.models) == {"first", "second"}


def test_one_that_is_always_overwritten_gives_up(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = opened(client), opened(client)
    other.admit([], "check")
    old, add = other.card, ServerIndex._add_models

    def add_and_be_overwritten(self: ServerIndex, *arguments: object) -> None:
        add(self, *arguments)  # type: ignore[arg-type]
        other._store_card(old)

    monkeypatch.setattr(ServerIndex, "_add_models", add_and_be_overwritten)
    with pytest.raises(IndexUnreachableError, match="others keep changing the card"):
        one.admit([SECOND], "check")


def test_a_model_that_another_one_has_just_added_otherwise_is_refused(client: QdrantClient) -> None:
    one, other = opened(client), opened(client)
    one.admit([SECOND], "check")
    with pytest.raises(IndexMismatchError, match="weights"):
        other.admit([replace(SECOND, weights="sha256:other")], "check")
    with pytest.raises(IndexMismatchError, match="another secret"):
        other.admit([THIRD], "another check")


def test_vectors_that_a_kill_has_left_are_not_taken_for_the_new_ones(client: QdrantClient) -> None:
    """Killed between the vector and the card, and tried again with another dimension."""
    opened(client).admit([], "check")
    config = models.DenseVectorConfig(size=8, distance=models.Distance.COSINE)
    client.create_vector_name("shared", "second", vector_name_config=models.DenseVectorNameConfig(dense=config))
    index = opened(client)
    index.admit([SECOND], "check")
    index.write([with_vector(1, "second")])
    (stored,) = index.retrieve([image(1).id], vectors_of=["second"])
    assert stored.vectors["second"].shape == (3,)


def unfinished_drop(client: QdrantClient) -> Index:
    index = opened(client)
    index.admit([SECOND], "check")
    index.write([with_vector(1, "second"), with_vector(2, "second")])
    card = index.card
    rest = {"first": card.models["first"]}
    index._store_card(replace(card, models=rest, unsettled=("second",)))
    return index


def test_who_reads_changes_nothing_and_who_writes_finishes_what_a_kill_has_left(client: QdrantClient) -> None:
    unfinished_drop(client)
    reader = opened(client, to_write=False)
    assert reader.card.unsettled == ("second",)
    assert reader.count(SearchFilter(any_of={"models": ("second",)})) == 2
    writer = opened(client)
    assert writer.card.unsettled == ()
    assert writer.count(SearchFilter(any_of={"models": ("second",)})) == 0
    assert writer.count() == 2


def test_a_drop_that_another_one_has_finished_leaves_alone_what_came_after(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened(client)
    index.admit([SECOND], "check")
    index.write([with_vector(1, "second")])
    pages = ServerIndex.pages

    def pages_while_another_is_faster(self: ServerIndex, **more: object) -> Iterator[list]:
        monkeypatch.setattr(ServerIndex, "pages", pages)
        other = opened(client)  # and finishes the drop
        other.admit([SECOND], "check")
        other.write([with_vector(1, "second")])
        yield from pages(self, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ServerIndex, "pages", pages_while_another_is_faster)
    index.drop_model("second")
    after = opened(client)
    assert set(after.card.models) == {"first", "second"}
    assert after.count(SearchFilter(any_of={"models": ("second",)})) == 1
    (stored,) = after.retrieve([image(1).id], vectors_of=["second"])
    assert set(stored.vectors) == {"second"}
