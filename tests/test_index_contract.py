"""One contract for every index back end: the folder, qdrant-client's local mode and, where one is named, a server."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from radsearch.errors import EmbeddingError, IndexMismatchError, IndexMissingError, UnknownNameError
from radsearch.index import Index, IndexedImage, embedded, server
from radsearch.index.embedded import open_embedded_index
from radsearch.index.schema import payload_of
from radsearch.index.server import open_collection
from radsearch.index.transfer import copy
from radsearch.index.verify import verify
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Greyscale, Labels, SearchFilter, Span, StudyImage
from radsearch.thumbnails import Thumbnails

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # said by the local mode, of itself
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
SERVER_URL = os.environ.get("RADSEARCH_TEST_QDRANT_URL")
BACK_ENDS = ["folder", "local mode", *(["server"] if SERVER_URL else [])]
ANY = SearchFilter()
FIRST = Fingerprint("first", "sha256:1", 4, "8 px", "float32", 1)
SECOND = Fingerprint("second", "sha256:2", 3, "16 px", "float32", 1)

# name: modality, region, findings, patient, study, data set, year
IMAGES = {
    "ct chest": ("CT", "chest", ("nodule",), "ann", "ann-1", "one", 2020),
    "ct head": ("CT", "head", (), "ann", "ann-2", "one", 2021),
    "cr chest": ("CR", "chest", ("nodule", "effusion"), "bob", "bob-1", "one", None),
    "dx hand": ("DX", "hand", ("fracture",), "cem", "cem-1", "two", None),
    "rg chest": ("RG", "chest", ("effusion",), "dot", "dot-1", "two", None),
    "mr head": ("MR", "head", ("tumour",), "eva", "eva-1", None, None),
    "unknown": (None, None, (), None, None, None, None),
}
VECTORS = {
    "ct chest": (1.0, 0.0, 0.0, 0.0),
    "ct head": (0.8, 0.6, 0.0, 0.0),
    "cr chest": (0.6, 0.8, 0.0, 0.0),
    "dx hand": (0.0, 1.0, 0.0, 0.0),
    "rg chest": (0.0, 0.6, 0.8, 0.0),
    "mr head": (0.0, 0.0, 1.0, 0.0),
    "unknown": (-0.6, 0.0, 0.0, 0.8),
}

MANY = [str(uuid.UUID(int=number)) for number in range(1, 151)]

Opener = Callable[..., Index]


def point(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def names_of(ids: "list[str]") -> list[str]:
    known = {point(name): name for name in IMAGES}
    return [known[found] for found in ids]


def unit(*numbers: float) -> "np.ndarray":
    vector = np.asarray(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def payload(name: str, *models: str) -> dict:
    modality, region, findings, patient, study, dataset, year = IMAGES[name]
    facts = Facts(labels=Labels(modality, region, findings), patient=patient, study=study, dataset=dataset, year=year)
    image = StudyImage(np.zeros((4, 5), np.uint8), Greyscale(), facts)
    return payload_of(image, content=f"content of {name}", described="said", models=models or ("first",))


def image(name: str) -> IndexedImage:
    return IndexedImage(point(name), {"first": unit(*VECTORS[name])}, payload(name))


@contextmanager
def store_of(back_end: str, folder: Path) -> Iterator[Opener]:
    """Opens one and the same store, making it for the models that are named; an earlier opening is closed first."""
    opened: list[Index] = []
    collection = f"contract-{uuid.uuid4().hex}"
    client = QdrantClient(":memory:")

    def open_it(*models: Fingerprint) -> Index:
        if back_end == "folder":
            for index in opened:
                index.close()
            opened.clear()
            settings = Settings(index=str(folder / "store"), busy_wait_seconds=0)
            opened.append(open_embedded_index(settings, create_for=models))
        elif back_end == "local mode":
            opened.append(open_collection(client, collection, "memory", create_for=models))
        else:
            opened.append(open_collection(QdrantClient(url=SERVER_URL), collection, "server", create_for=models))
        return opened[-1]

    yield open_it
    for index in opened:
        index.close()
    if back_end == "server":
        QdrantClient(url=SERVER_URL).delete_collection(collection)


@pytest.fixture(scope="module", params=BACK_ENDS)
def back_end(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def open_store(back_end: str, tmp_path: Path) -> Iterator[Opener]:
    with store_of(back_end, tmp_path) as open_it:
        yield open_it


@pytest.fixture
def index(open_store: Opener) -> Index:
    return open_store(FIRST)


@pytest.fixture
def filled(index: Index) -> Index:
    return with_all_images(index)


@pytest.fixture(scope="module")
def held(back_end: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """As `filled`, made once for all tests that only ask."""
    with store_of(back_end, tmp_path_factory.mktemp("held")) as open_it:
        yield with_all_images(open_it(FIRST))


@pytest.fixture(scope="module")
def store_for_two(back_end: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with store_of(back_end, tmp_path_factory.mktemp("two")) as open_it:
        yield open_it(FIRST, SECOND)


@pytest.fixture
def scratch(store_for_two: Index) -> Iterator[Index]:
    """A store for both models with the first one's vectors; making a folder takes half a second, so it is emptied."""
    yield with_all_images(store_for_two)
    store_for_two.delete([*map(point, IMAGES), point("a copy"), *MANY])
    assert store_for_two.count() == 0


def with_all_images(index: Index) -> Index:
    index.admit([FIRST], "check")
    index.write([image(name) for name in IMAGES])
    return index


def found(index: Index, where: SearchFilter) -> set[str]:
    hits = index.nearest({"first": unit(1, 1, 1, 1)}, where, 100)
    return set(names_of([hit.id for hit in hits]))


def test_a_store_that_is_not_there_is_said_to_be_missing(open_store: Opener) -> None:
    with pytest.raises(IndexMissingError):
        open_store()


def test_a_new_store_is_empty_and_answers_every_question(index: Index) -> None:
    assert index.count() == 0
    assert index.facets("modality", ANY) == {}
    assert index.nearest({"first": unit(1, 0, 0, 0)}, ANY, 3) == []
    assert index.retrieve([point("ct chest")], vectors_of=["first"]) == []
    assert index.having("content", ["content of ct chest"]) == []


def test_what_is_written_is_retrieved(held: Index) -> None:
    (stored,) = held.retrieve([point("cr chest")], vectors_of=["first"])
    assert stored.id == point("cr chest")
    assert stored.payload == payload("cr chest")
    np.testing.assert_allclose(stored.vectors["first"], VECTORS["cr chest"], atol=1e-6)
    assert stored.vectors["first"].dtype == np.float32


def test_retrieve_gives_the_points_that_there_are_and_no_vector_unasked(held: Index) -> None:
    stored = held.retrieve([point("ct chest"), point("nobody"), point("mr head")])
    assert {item.id for item in stored} == {point("ct chest"), point("mr head")}
    assert all(not item.vectors for item in stored)


def test_fields_that_are_unknown_of_an_image_are_absent(held: Index) -> None:
    (stored,) = held.retrieve([point("unknown")])
    assert set(stored.payload) == {"frame", "frames", "rows", "columns", "content", "described", "models"}


def test_writing_twice_gives_one_point_with_the_later_payload(scratch: Index) -> None:
    changed = replace(image("ct head"), payload=payload("mr head"), vectors={"first": unit(0, 0, 0, 1)})
    scratch.write([changed])
    assert scratch.count() == len(IMAGES)
    (stored,) = scratch.retrieve([point("ct head")], vectors_of=["first"])
    assert stored.payload == payload("mr head")
    np.testing.assert_allclose(stored.vectors["first"], [0, 0, 0, 1], atol=1e-6)
    assert scratch.facets("modality", ANY)["MR"] == 2


def test_what_is_deleted_is_gone_and_unknown_ids_do_no_harm(scratch: Index) -> None:
    scratch.delete([point("ct head"), point("nobody")])
    assert scratch.count() == len(IMAGES) - 1
    assert scratch.retrieve([point("ct head")]) == []
    assert "ct head" not in found(scratch, ANY)


def test_what_is_written_is_there_after_the_store_was_opened_again(open_store: Opener) -> None:
    first = open_store(FIRST)
    first.admit([FIRST], "check")
    first.write([image(name) for name in IMAGES])
    first.finish()
    again = open_store()
    assert again.count() == len(IMAGES)
    assert again.card.models == {"first": FIRST}
    again.admit([], "check")
    np.testing.assert_allclose(
        again.retrieve([point("mr head")], vectors_of=["first"])[0].vectors["first"], VECTORS["mr head"], atol=1e-6
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (SearchFilter(), set(IMAGES)),
        (SearchFilter(modality=("CT",)), {"ct chest", "ct head"}),
        (SearchFilter(modality=("CT", "MR")), {"ct chest", "ct head", "mr head"}),
        (SearchFilter(modality=("XR",)), {"cr chest", "dx hand", "rg chest"}),
        (SearchFilter(modality=("CR",)), {"cr chest"}),
        (SearchFilter(region=("chest",)), {"ct chest", "cr chest", "rg chest"}),
        (SearchFilter(region=("chest",), modality=("XR",)), {"cr chest", "rg chest"}),
        (SearchFilter(pathology=("effusion", "tumour")), {"cr chest", "rg chest", "mr head"}),
        (SearchFilter(pathology_none=("nodule",)), set(IMAGES) - {"ct chest", "cr chest"}),
        (SearchFilter(pathology=("effusion",), pathology_none=("nodule",)), {"rg chest"}),
        (SearchFilter(dataset=("two",)), {"dx hand", "rg chest"}),
        (SearchFilter(without_ids=(point("ct chest"), point("unknown"))), set(IMAGES) - {"ct chest", "unknown"}),
        (SearchFilter(without_patients=("ann", "eva")), {"cr chest", "dx hand", "rg chest", "unknown"}),
        (SearchFilter(without_studies=("ann-1",)), set(IMAGES) - {"ct chest"}),
        (SearchFilter(region=("chest",), without_patients=("bob",)), {"ct chest", "rg chest"}),
        (SearchFilter(region=("liver",)), set()),
        (SearchFilter(pathology_all=("nodule", "effusion")), {"cr chest"}),
        (SearchFilter(pathology_all=("nodule",), pathology=("tumour",)), set()),
        (SearchFilter(any_of={"study": ("ann-2", "cem-1"), "patient": ("ann",)}), {"ct head"}),
        (SearchFilter(any_of={"modality": ("XR",)}, region=("hand",)), {"dx hand"}),
        (SearchFilter(none_of={"modality": ("XR",)}), {"ct chest", "ct head", "mr head", "unknown"}),
        (SearchFilter(none_of={"region": ("chest", "hand"), "dataset": ("one",)}), {"mr head", "unknown"}),
        (SearchFilter(year=Span(2020, 2020)), {"ct chest"}),
        (SearchFilter(year=Span(2021)), {"ct head"}),
        (SearchFilter(year=Span(high=2030)), {"ct chest", "ct head"}),
        (SearchFilter(age=Span(0, 120)), set()),
        (SearchFilter(present=("year",)), {"ct chest", "ct head"}),
        (SearchFilter(present=("pathology", "dataset")), {"ct chest", "cr chest", "dx hand", "rg chest"}),
        (SearchFilter(absent=("pathology",)), {"ct head", "unknown"}),
        (SearchFilter(absent=("dataset",), present=("region",)), {"mr head"}),
    ],
)
def test_a_filter_gives_what_it_says_to_search_count_and_facets(
    held: Index, where: SearchFilter, expected: set[str]
) -> None:
    assert found(held, where) == expected
    assert held.count(where) == len(expected)
    assert sum(held.facets("content", where).values()) == len(expected)


@pytest.mark.parametrize(
    "where",
    [
        SearchFilter(any_of={"patient_name": ("x",)}),
        SearchFilter(none_of={"extra": ("x",)}),
        SearchFilter(any_of={"year": ("2020",)}),  # a number is no word
        SearchFilter(present=("frames",)),
        SearchFilter(absent=("id",)),
        SearchFilter(any_of={"id": ("no id",)}),
    ],
)
def test_a_field_that_one_cannot_filter_by_is_answered_with_those_that_one_can(
    held: Index, where: SearchFilter
) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown field .*; one can filter by: .*modality"):
        held.count(where)
    with pytest.raises(UnknownNameError):
        held.nearest({"first": unit(1, 0, 0, 0)}, where, 3)


def test_a_threshold_leaves_out_what_is_less_like_the_query(held: Index) -> None:
    query = {"first": unit(1, 0, 0, 0)}
    assert names_of([hit.id for hit in held.nearest(query, ANY, 10, threshold=0.7)]) == ["ct chest", "ct head"]
    assert held.nearest(query, SearchFilter(modality=("MR",)), 10, threshold=0.5) == []


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.ones(3, np.float32), "has not the length 4"),
        (np.ones((1, 4), np.float32), "has not the length 4"),
        (np.zeros(4, np.float32), "not finite or has no length"),
        (np.array([1, np.nan, 0, 0], np.float32), "not finite or has no length"),
        (np.array([1, np.inf, 0, 0], np.float32), "not finite or has no length"),
    ],
)
def test_a_vector_that_is_none_of_the_models_is_neither_stored_nor_searched_for(
    scratch: Index, vector: "np.ndarray", said: str
) -> None:
    good = image("ct chest")
    with pytest.raises(EmbeddingError, match=f"a vector of first (is )?{said}"):
        scratch.write([replace(good, id=MANY[0]), replace(good, id=MANY[1], vectors={"first": vector})])
    assert scratch.count() == len(IMAGES)
    with pytest.raises(EmbeddingError, match=said):
        scratch.nearest({"first": vector}, ANY, 3)
    with pytest.raises(UnknownNameError, match="unknown model 'third'"):
        scratch.write([replace(good, vectors={"third": vector})])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"year": "2020"}, "'year' has no str"),
        ({"age": True}, "'age' has no bool"),
        ({"modality": 3}, "'modality' has no int"),
        ({"pathology": ["a", 3]}, "'pathology' has no list"),
        ({"patient_name": "Marker^Patient"}, "no field 'patient_name'"),
    ],
)
def test_a_payload_that_the_schema_does_not_know_is_not_stored(
    scratch: Index, change: dict[str, object], said: str
) -> None:
    good = image("ct chest")
    with pytest.raises(IndexMismatchError, match=said) as caught:
        scratch.write([replace(good, id=MANY[0], payload={**good.payload, **change})])
    assert "Marker" not in str(caught.value)
    assert scratch.count() == len(IMAGES)


def test_facets_count_every_value_the_most_frequent_first(held: Index) -> None:
    assert held.facets("pathology", ANY) == {"nodule": 2, "effusion": 2, "fracture": 1, "tumour": 1}
    assert list(held.facets("modality", ANY).values()) == [2, 1, 1, 1, 1]
    assert held.facets("label_path", SearchFilter(region=("chest",))) == {
        "CT/chest/nodule": 1,
        "XR/chest/nodule": 1,
        "XR/chest/effusion": 2,
    }
    assert held.facets("models", ANY) == {"first": len(IMAGES)}


def test_facets_of_a_number_keep_it_a_number(held: Index) -> None:
    assert held.facets("year", ANY) == {2020: 1, 2021: 1}


def test_nearest_gives_numpys_cosine_in_falling_order(held: Index) -> None:
    query = unit(0.9, 0.5, 0.3, 0.1)
    cosine = {name: float(unit(*vector) @ query) for name, vector in VECTORS.items()}
    expected = sorted(cosine, key=cosine.__getitem__, reverse=True)
    hits = held.nearest({"first": query}, ANY, 5)
    assert names_of([hit.id for hit in hits]) == expected[:5]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([hit.score for hit in hits], [cosine[name] for name in expected[:5]], atol=1e-5)


def test_a_hit_carries_the_facts_of_its_image(held: Index) -> None:
    (hit,) = held.nearest({"first": unit(1, 0, 0, 0)}, SearchFilter(dataset=("one",), region=("chest",)), 1)
    assert hit.facts.labels == Labels("CT", "chest", ("nodule",))
    assert (hit.facts.patient, hit.facts.study, hit.facts.dataset) == ("ann", "ann-1", "one")
    assert (hit.facts.year, hit.facts.sex, hit.frame) == (2020, None, 1)


def test_nearest_is_the_same_after_the_store_was_made_fast(held: Index) -> None:
    query = {"first": unit(0.2, 0.9, 0.4, 0.0)}
    before = [(hit.id, round(hit.score, 5)) for hit in held.nearest(query, ANY, 7)]
    held.finish()
    assert [(hit.id, round(hit.score, 5)) for hit in held.nearest(query, ANY, 7)] == before


def test_having_takes_several_values_and_reads_on_behind_a_page(
    scratch: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (embedded, server):
        monkeypatch.setattr(module, "_PAGE", 2)
    names = sorted(VECTORS)
    found = [stored.id for stored in scratch.having("content", [f"content of {name}" for name in names])]
    assert len(names) > 2
    assert sorted(found) == sorted(point(name) for name in names)
    assert scratch.having("content", ["no such content"]) == []


def test_having_gives_every_point_of_that_content(scratch: Index) -> None:
    scratch.write([replace(image("ct chest"), id=point("a copy"))])
    assert {stored.id for stored in scratch.having("content", ["content of ct chest"])} == {
        point("ct chest"),
        point("a copy"),
    }
    (only,) = scratch.having("content", ["content of mr head"])
    assert only.payload == payload("mr head")


def test_a_new_model_gets_a_vector_of_its_own_beside_the_first(filled: Index, open_store: Opener) -> None:
    filled.admit([FIRST, SECOND], "check")
    backfill = IndexedImage(
        point("ct head"), {"second": unit(0, 3, 4)}, payload("ct head", "first", "second"), kept=("first",)
    )
    filled.write([backfill])
    (stored,) = filled.retrieve([point("ct head")], vectors_of=["first", "second"])
    np.testing.assert_allclose(stored.vectors["first"], VECTORS["ct head"], atol=1e-6)
    np.testing.assert_allclose(stored.vectors["second"], [0, 0.6, 0.8], atol=1e-6)
    assert stored.payload == payload("ct head", "first", "second")
    assert filled.count() == len(IMAGES)
    assert filled.facets("models", ANY) == {"first": len(IMAGES), "second": 1}
    assert open_store().card.models == {"first": FIRST, "second": SECOND}


def test_a_point_without_a_models_vector_is_never_its_hit(scratch: Index) -> None:
    assert scratch.nearest({"second": unit(1, 0, 0)}, ANY, 5) == []
    (stored,) = scratch.retrieve([point("ct head")], vectors_of=["first", "second"])
    assert set(stored.vectors) == {"first"}


def test_a_kept_payload_is_replaced_as_a_whole(scratch: Index) -> None:
    scratch.write(
        [IndexedImage(point("ct chest"), {"second": unit(1, 0, 0)}, payload("unknown", "first", "second"), ("first",))]
    )
    (stored,) = scratch.retrieve([point("ct chest")])
    assert stored.payload == payload("unknown", "first", "second")
    assert scratch.count(SearchFilter(modality=("CT",))) == 1


def test_a_changed_image_loses_the_other_models_vectors(scratch: Index) -> None:
    both = {"first": unit(1, 0, 0, 0), "second": unit(1, 0, 0)}
    scratch.write([IndexedImage(point("ct chest"), both, payload("ct chest", "first", "second"))])
    scratch.write([IndexedImage(point("ct chest"), {"first": unit(0, 1, 0, 0)}, payload("ct chest"))])
    (stored,) = scratch.retrieve([point("ct chest")], vectors_of=["first", "second"])
    assert set(stored.vectors) == {"first"}


def test_fusion_puts_first_what_both_models_rank_high(scratch: Index) -> None:
    scratch.delete([point(name) for name in IMAGES])
    by_first = {"ct chest": 0.9, "ct head": 0.8, "cr chest": 0.1}  # ranks 1, 2, 3
    by_second = {"ct chest": 0.1, "ct head": 0.8, "mr head": 0.9}  # ranks 3, 2, 1
    for name in ("ct chest", "ct head", "cr chest", "mr head"):
        vectors = {}
        if name in by_first:
            vectors["first"] = unit(by_first[name], np.sqrt(1 - by_first[name] ** 2), 0, 0)
        if name in by_second:
            vectors["second"] = unit(by_second[name], np.sqrt(1 - by_second[name] ** 2), 0)
        scratch.write([IndexedImage(point(name), vectors, payload(name, *vectors))])
    hits = scratch.nearest({"first": unit(1, 0, 0, 0), "second": unit(1, 0, 0)}, ANY, 10)
    # With k = 60 being seen by both counts for more than being first for one.
    assert set(names_of([hit.id for hit in hits[:2]])) == {"ct chest", "ct head"}
    assert names_of([hit.id for hit in hits[2:]]) == ["mr head", "cr chest"]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    # 1 / (60 + rank), with the rank counted from 0 as Qdrant does.
    np.testing.assert_allclose([hit.score for hit in hits[2:]], [1 / 60, 1 / 62], rtol=1e-5)


def test_fusion_obeys_filter_and_limit(scratch: Index) -> None:
    scratch.write(
        [
            IndexedImage(point(name), {"second": unit(1, number, 0)}, payload(name, "first", "second"), ("first",))
            for number, name in enumerate(IMAGES)
        ]
    )
    queries = {"first": unit(1, 0, 0, 0), "second": unit(1, 0, 0)}
    hits = scratch.nearest(queries, SearchFilter(modality=("XR",), without_patients=("cem",)), 10)
    assert set(names_of([hit.id for hit in hits])) == {"cr chest", "rg chest"}
    assert names_of([hit.id for hit in scratch.nearest(queries, ANY, 2)]) == ["ct chest", "ct head"]


def test_another_fingerprint_of_a_known_model_is_refused_and_says_the_difference(held: Index) -> None:
    other = replace(FIRST, weights="sha256:other")
    with pytest.raises(IndexMismatchError, match="weights: sha256:1 -> sha256:other"):
        held.admit([other], "check")
    with pytest.raises(IndexMismatchError, match="preprocessing"):
        held.check(replace(FIRST, preprocessing="9 px"))
    for other, way_out in (
        (replace(FIRST, weights="other"), "bring the weights that it was built with"),
        (replace(FIRST, precision="other"), f"set RADSEARCH_PRECISION to {FIRST.precision}"),
        (replace(FIRST, weights="other", rendering=99), "build a new index, or use the version that built this one"),
        (replace(FIRST, precision="other", rendering=99), "build a new index, or use the version that built this one"),
    ):
        with pytest.raises(IndexMismatchError, match=way_out):
            held.check(other)
    held.check(FIRST)
    assert held.card.models == {"first": FIRST}


def test_another_secret_is_refused(filled: Index, open_store: Opener) -> None:
    with pytest.raises(IndexMismatchError, match="another secret"):
        filled.admit([FIRST], "another check")
    again = open_store()
    with pytest.raises(IndexMismatchError, match="another secret"):
        again.admit([], "another check")
    again.admit([FIRST], "check")


def test_a_model_that_is_not_held_is_answered_with_those_that_are(held: Index) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'firts' \(did you mean 'first'\?\); .*holds: first"):
        held.require_model("firts")


def test_admitting_known_models_changes_nothing(held: Index) -> None:
    before = held.card
    held.admit([FIRST], "check")
    assert held.card is before
    assert held.count() == len(IMAGES)


def test_more_points_than_one_request_holds_are_all_written(scratch: Index) -> None:
    many = [replace(image("ct chest"), id=one) for one in MANY]
    scratch.write(many)
    assert scratch.count() == len(IMAGES) + 150
    assert len(scratch.retrieve(MANY)) == 150


def test_a_foreign_collection_is_refused_and_left_alone() -> None:
    client = QdrantClient(":memory:")
    client.create_collection("theirs", vectors_config={})
    with pytest.raises(IndexMissingError, match="no index of ours"):
        open_collection(client, "theirs", "memory", create_for=[FIRST])
    assert client.get_collection("theirs").config.metadata is None


def test_a_collection_that_another_one_has_just_made_is_opened() -> None:
    client = QdrantClient(":memory:")
    open_collection(client, "ours", "memory", create_for=[FIRST])

    def conflict(*_: object, **__: object) -> None:
        raise UnexpectedResponse(409, "Conflict", b"", httpx.Headers())

    client.collection_exists = lambda _name: False  # type: ignore[method-assign]
    client.create_collection = conflict  # type: ignore[method-assign,assignment]
    assert set(open_collection(client, "ours", "memory", create_for=[FIRST]).card.models) == {"first"}


def test_the_client_is_closed_where_there_is_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    client = QdrantClient(":memory:")
    closed: list[bool] = []
    monkeypatch.setattr(client, "close", lambda: closed.append(True))
    monkeypatch.setattr(server, "connect", lambda *_, **__: client)
    with pytest.raises(IndexMissingError):
        server.open_server_index(Settings(index="http://localhost:6333"), create_for=())
    assert closed == [True]


def counted(payloads: "list[dict]", field: str) -> dict:
    """How many payloads have each value of a field, a list's values once each."""
    values = [value for one in payloads for value in set(np.atleast_1d(one.get(field, [])).tolist())]
    return {value: values.count(value) for value in values}


def test_facets_are_exact_whatever_was_written_before(index: Index) -> None:
    """Points that were written again, changed, deleted; before and after the graph is built, in several segments."""
    random = np.random.default_rng(7)
    index.admit([FIRST], "check")
    held: dict[str, dict] = {}
    for step in range(24):
        names = [f"image {number}" for number in random.integers(0, 400, 60)]
        if step % 3 == 2:
            names = [name for name in names if point(name) in held]
            index.delete([point(name) for name in names])
            for name in set(names):
                del held[point(name)]
        else:
            images = []
            for name in set(names):
                said = {
                    "modality": str(random.choice(["CT", "MR", "US"])),
                    "pathology": [str(one) for one in random.choice(list("abcdef"), random.integers(1, 4))],
                    "year": int(random.integers(2000, 2004)),
                    "models": ["first"],
                }
                kept = ("first",) if step % 3 and point(name) in held else ()
                images.append(IndexedImage(point(name), {"first": unit(*random.normal(size=4))}, said, kept))
                held[point(name)] = said
            index.write(images)
        if step % 5 == 4:
            index.finish()
        for where, passes in (
            (SearchFilter(), lambda _: True),
            (SearchFilter(modality=("CT", "MR")), lambda one: one["modality"] in ("CT", "MR")),
            (SearchFilter(pathology=("a",)), lambda one: "a" in one["pathology"]),
        ):
            passing = [one for one in held.values() if passes(one)]
            for field in ("modality", "pathology", "year"):
                assert index.facets(field, where) == counted(passing, field)


def test_pages_hold_every_point_once(scratch: Index) -> None:
    stored = [point for page in scratch.pages(vectors_of=["first"]) for point in page]
    assert sorted(names_of([point.id for point in stored])) == sorted(IMAGES)
    for one in stored:
        (name,) = names_of([one.id])
        assert one.payload == payload(name)
        np.testing.assert_allclose(one.vectors["first"], unit(*VECTORS[name]), atol=1e-6)


def test_a_sample_is_of_points_that_have_a_vector_of_the_model(scratch: Index) -> None:
    both = IndexedImage(MANY[0], {"first": unit(1, 2, 3, 4), "second": unit(1, 0, 0)}, {"models": ["first", "second"]})
    scratch.write([both])
    assert [point.id for point in scratch.sample("second", 10)] == [MANY[0]]
    sampled = scratch.sample("first", 5)
    assert len({point.id for point in sampled}) == 5
    assert all(point.vectors["first"].shape == (4,) for point in sampled)
    assert len(scratch.sample("first", 100)) == len(IMAGES) + 1


def test_nearest_of_all_is_numpys(held: Index) -> None:
    query = unit(1, 2, 3, 4)
    cosines = {name: float(query @ unit(*vector)) for name, vector in VECTORS.items()}
    hits = held.nearest_of_all("first", query, ANY, 3)
    assert names_of([hit.id for hit in hits]) == sorted(cosines, key=lambda name: -cosines[name])[:3]
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True)[:3], abs=1e-5)


def test_a_dropped_model_is_gone_from_vectors_payloads_and_card(filled: Index, open_store: Opener) -> None:
    filled.admit([FIRST, SECOND], "check")
    images = [IndexedImage(one, {"second": unit(1, 0, 0)}, {"models": ["second"]}) for one in MANY[:2]]
    both = IndexedImage(MANY[2], {"first": unit(1, 2, 3, 4), "second": unit(1, 0, 0)}, {"models": ["first", "second"]})
    filled.write([*images, both])
    with pytest.raises(UnknownNameError, match="unknown model 'third'"):
        filled.drop_model("third")
    filled.drop_model("second")
    _holds_only_the_first(filled)
    index = open_store()
    _holds_only_the_first(index)
    index.admit([FIRST, replace(SECOND, weights="sha256:another")], "check")  # the name is free for another one
    assert index.nearest({"second": unit(1, 0, 0)}, ANY, 3) == []
    index.write([both])
    assert [hit.id for hit in index.nearest({"second": unit(1, 0, 0)}, ANY, 3)] == [MANY[2]]


def _holds_only_the_first(index: Index) -> None:
    assert index.card.models == {"first": FIRST}
    assert index.facets("models", ANY) == {"first": len(IMAGES) + 1}
    assert index.count() == len(IMAGES) + 3
    with pytest.raises(UnknownNameError):
        index.nearest({"second": unit(1, 0, 0)}, ANY, 3)
    with pytest.raises(IndexMismatchError, match="the only model"):
        index.drop_model("first")


def test_an_index_finds_what_it_holds(held: Index) -> None:
    verdict = verify(held, "first", 50)
    assert (verdict.sampled, verdict.found_themselves, verdict.sound) == (len(IMAGES), len(IMAGES), True)
    kept = {one.where: (one.kept, one.queries, one.recall) for one in verdict.recalls}
    assert kept["no filter"] == (7, 7, 1.0)
    assert kept["modality CT"] == (2, 7, 1.0)
    assert len(kept) == 6
    assert {one.where for one in verify(held, "first", 5, field="dataset").recalls} == {
        "no filter",
        "dataset one",
        "dataset two",
    }
    with pytest.raises(UnknownNameError):
        verify(held, "second", 5)
    for field in ("year", "frame", "no such"):
        with pytest.raises(UnknownNameError, match="unknown field"):
            verify(held, "first", 5, field=field)


def test_a_payload_is_changed_without_any_vector_and_beside_others_that_are_not(scratch: Index) -> None:
    """As an ingest does that only adds thumbnails."""
    thumbnail = {"thumbnail": "0" * 64}
    changed = IndexedImage(point("ct chest"), {}, {**payload("ct chest"), **thumbnail}, kept=("first",))
    whole = IndexedImage(MANY[0], {"first": unit(1, 2, 3, 4)}, {"models": ["first"], **thumbnail})
    scratch.write([changed])
    scratch.write([changed, whole])
    (stored,) = scratch.retrieve([point("ct chest")], vectors_of=["first"])
    assert stored.payload == {**payload("ct chest"), **thumbnail}
    np.testing.assert_allclose(stored.vectors["first"], VECTORS["ct chest"], atol=1e-6)
    hits = {hit.id: hit.thumbnail for hit in scratch.nearest({"first": unit(1, 0, 0, 0)}, ANY, 100)}
    assert (hits[point("ct chest")], hits[MANY[0]], hits[point("ct head")]) == ("0" * 64, "0" * 64, None)


def test_verify_counts_the_thumbnails_that_are_named_and_lost(scratch: Index, tmp_path: Path) -> None:
    kept = Thumbnails(tmp_path / "thumbnails")
    names = {"ct chest": kept.write(b"there"), "ct head": kept.write(b"lost"), "mr head": kept.write(b"damaged")}
    scratch.write([replace(image(name), payload={**payload(name), "thumbnail": one}) for name, one in names.items()])
    (kept.folder / names["ct head"][:2] / f"{names['ct head']}.webp").unlink()
    (kept.folder / names["mr head"][:2] / f"{names['mr head']}.webp").write_bytes(b"dam")
    verdict = verify(scratch, "first", 50, thumbnails=kept)
    assert (verdict.lost_thumbnails, verdict.sound) == (2, True)
    assert verify(scratch, "first", 50).lost_thumbnails == 0


def test_of_a_model_without_vectors_nothing_is_said_to_be_sound(scratch: Index) -> None:
    verdict = verify(scratch, "second", 5)
    assert (verdict.sampled, verdict.sound) == (0, False)


def test_an_index_that_misses_the_nearest_is_not_sound(held: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = type(held).nearest

    def poor(index: Index, queries: dict, where: SearchFilter, limit: int) -> list:
        return nearest(index, queries, where, limit)[1:]

    monkeypatch.setattr(type(held), "nearest", poor)
    verdict = verify(held, "first", 50)
    assert verdict.found_themselves == 0
    assert verdict.recalls[0].recall == pytest.approx(6 / 7)
    assert not verdict.sound


def test_an_index_is_copied_with_all_it_holds_and_a_copy_goes_on(filled: Index, tmp_path: Path) -> None:
    with store_of("folder", tmp_path / "copy") as open_copy:
        target = open_copy(FIRST)
        copied = copy(filled, target)
        assert (copied.written, copied.there) == (len(IMAGES), 0)
        assert target.card.models == filled.card.models
        assert target.card.secret_check == filled.card.secret_check
        for name in IMAGES:
            (stored,) = target.retrieve([point(name)], vectors_of=["first"])
            assert stored.payload == payload(name)
            np.testing.assert_allclose(stored.vectors["first"], unit(*VECTORS[name]), atol=1e-6)
        target.delete([point("mr head")])
        again = copy(filled, target)
        assert (again.written, again.there) == (1, len(IMAGES) - 1)
        assert target.count() == len(IMAGES)


def test_thumbnails_are_copied_with_their_points_also_where_those_are_there(filled: Index, tmp_path: Path) -> None:
    here, there = Thumbnails(tmp_path / "here"), Thumbnails(tmp_path / "there")
    name = here.write(b"thumbnail")
    filled.write([replace(image("mr head"), payload={**payload("mr head"), "thumbnail": name})])
    with store_of("folder", tmp_path / "copy") as open_copy:
        target = open_copy(FIRST)
        copy(filled, target)
        assert not there.folder.exists()
        assert copy(filled, target, thumbnails=(here, there)).written == 0
        assert there.read(name) == b"thumbnail"


def test_a_copy_into_another_archives_index_is_refused(filled: Index, tmp_path: Path) -> None:
    with store_of("folder", tmp_path / "copy") as open_copy:
        target = open_copy(FIRST)
        target.admit([FIRST], "another check")
        with pytest.raises(IndexMismatchError, match="another secret"):
            copy(filled, target)
        assert target.count() == 0


def test_a_copy_that_is_not_the_same_is_said(filled: Index, tmp_path: Path) -> None:
    with store_of("folder", tmp_path / "copy") as open_copy:
        target = open_copy(FIRST)
        target.admit([FIRST], "check")
        target.write([replace(image(name), vectors={"first": unit(1, 1, 1, 1)}) for name in IMAGES])
        with pytest.raises(IndexMismatchError, match=r"the vectors of first in .* are not those of the source"):
            copy(filled, target)


def test_a_copy_leaves_the_targets_other_models_where_the_image_is_the_same(filled: Index, tmp_path: Path) -> None:
    with store_of("folder", tmp_path / "copy") as open_copy:
        target = open_copy(FIRST)
        copy(filled, target)
        target.admit([FIRST, SECOND], "check")
        second = np.ones(SECOND.dimension, np.float32)
        same, other = "ct chest", "mr head"
        for name, content in ((same, f"content of {same}"), (other, "older content")):
            both = {**payload(name, "first", "second"), "content": content}
            target.write([IndexedImage(point(name), {"first": unit(*VECTORS[name]), "second": second}, both)])
        copied = copy(filled, target)
        assert (copied.written, copied.there) == (1, len(IMAGES) - 1)
        stored = {one.id: one for one in target.retrieve([point(same), point(other)], vectors_of=["first", "second"])}
        assert set(stored[point(same)].vectors) == {"first", "second"}
        assert stored[point(same)].payload["models"] == ["first", "second"]
        assert set(stored[point(other)].vectors) == {"first"}
        assert stored[point(other)].payload == payload(other)


def test_images_under_a_filter_are_listed_lot_by_lot_each_once(held: Index) -> None:
    chest = SearchFilter(region=("chest",))
    first = held.listed(chest, 2)
    assert len(first.points) == 2
    assert first.after is not None
    second = held.listed(chest, 2, after=first.after)
    assert second.after is None
    listed = [*first.points, *second.points]
    assert sorted(names_of([one.id for one in listed])) == ["cr chest", "ct chest", "rg chest"]
    assert [one.id for one in held.listed(chest, 9).points] == [one.id for one in listed]
    assert listed[0].payload == payload(*names_of([listed[0].id]))


def test_images_drawn_by_chance_pass_the_filter(held: Index) -> None:
    assert sorted(names_of([one.id for one in held.drawn(SearchFilter(region=("head",)), 5)])) == ["ct head", "mr head"]
    drawn = held.drawn(ANY, 4)
    assert len({one.id for one in drawn}) == 4
    assert drawn[0].payload == payload(*names_of([drawn[0].id]))
