"""Who may see some data sets only: every way to ask an index, and every way to search it, stays within them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from radsearch.errors import NotAllowedError, NothingToSearchError, UnknownNameError
from radsearch.index import Index, IndexedImage, granted
from radsearch.index.embedded import open_embedded_index
from radsearch.index.server import open_collection
from radsearch.privacy import Pseudonymizer
from radsearch.search import Ranking, Searcher, Wanted
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # said by the local mode, of itself
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]

FIRST = Fingerprint("first", "sha256:1", 4, "8 px", "float32", 1)
SECOND = Fingerprint("second", "sha256:2", 4, "8 px", "float32", 1)
ANY = SearchFilter()
DATASETS = ("ours", "theirs", None)  # of every third image
IMAGES = 12
Doors = dict[str, Callable[[Index], list[str]]]


def vector(number: int) -> "np.ndarray":
    return np.array([1.0, number / 10, (number % 3) / 5, 0.1], np.float32)


def point(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


EVERY = [point(number) for number in range(IMAGES)]
OURS = {point(number) for number in range(0, IMAGES, 3)}
THEIRS = {point(number) for number in range(1, IMAGES, 3)}


@pytest.fixture(scope="module", params=["folder", "local mode"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    models = (FIRST, SECOND)
    if request.param == "folder":
        settings = Settings(index=str(tmp_path_factory.mktemp("granted") / "index"))
        index = open_embedded_index(settings, create_for=models)
    else:
        index = open_collection(QdrantClient(":memory:"), "granted", "memory", create_for=models)
    index.admit(models, "check")
    index.write([_image(number) for number in range(IMAGES)])
    yield index
    index.close()


def _image(number: int) -> IndexedImage:
    dataset = DATASETS[number % 3]
    payload = {
        "modality": "CT", "content": f"content {number}", "patient": f"patient {number // 3}", "study": "shared",
        "region": f"region of {dataset}", "models": ["first", "second"], **({"dataset": dataset} if dataset else {}),
    }  # fmt: skip
    return IndexedImage(point(number), {"first": vector(number), "second": vector(IMAGES - number)}, payload)


def ids(answer: list) -> list[str]:
    return [one.id for one in answer]


DOORS: Doors = {
    "nearest": lambda index: ids(index.nearest({"first": vector(1)}, ANY, 100)),
    "nearest, fused": lambda index: ids(index.nearest({"first": vector(1), "second": vector(2)}, ANY, 100)),
    "nearest_of_all": lambda index: ids(index.nearest_of_all("first", vector(1), ANY, 100)),
    "listed": lambda index: ids(index.listed(ANY, 100).points),
    "listed, later": lambda index: ids(index.listed(ANY, 100, after=point(1)).points),
    "drawn": lambda index: ids(index.drawn(ANY, 100)),
    "retrieve": lambda index: ids(index.retrieve(EVERY)),
    "having": lambda index: ids(index.having("study", ["shared"])),
    "pages": lambda index: [one.id for page in index.pages() for one in page],
    "sample": lambda index: ids(index.sample("first", 100)),
    "facets": lambda index: [
        point(int(one.split()[1])) for one in index.facets("content", ANY) if isinstance(one, str)
    ],
}
COUNTS: dict[str, Callable[[Index], int]] = {
    "count": lambda index: index.count(),
    "about": lambda index: index.about(ANY),
}
CHANGES: dict[str, Callable[[Index], object]] = {
    "write": lambda index: index.write([_image(0)]),
    "delete": lambda index: index.delete([point(0)]),
    "drop_model": lambda index: index.drop_model("first"),
    "admit": lambda index: index.admit([Fingerprint("third", "sha256:3", 4, "8 px", "float32", 1)], "check"),
    "settle": lambda index: index.settle(),
}
HARMLESS = {"check", "require_blanked", "require_model", "is_wanted", "finish", "close"}


def test_every_public_way_to_an_index_is_tried_here() -> None:
    public = {name for name in vars(Index) if not name.startswith("_")}
    tried = {name.partition(",")[0] for name in (*DOORS, *COUNTS, *CHANGES)} | HARMLESS
    assert public == tried


@pytest.mark.parametrize("door", DOORS)
def test_no_question_to_the_index_is_answered_with_another_data_set(whole: Index, door: str) -> None:
    found = DOORS[door](granted(whole, ["ours"]))
    assert found
    assert set(found) <= OURS
    assert len(DOORS[door](whole)) > len(found)


@pytest.mark.parametrize("door", DOORS)
def test_who_may_see_nothing_is_shown_nothing(whole: Index, door: str) -> None:
    assert DOORS[door](granted(whole, [])) == []


@pytest.mark.parametrize("door", COUNTS)
def test_what_is_counted_is_what_may_be_seen(whole: Index, door: str) -> None:
    assert COUNTS[door](granted(whole, ["ours"])) == len(OURS)
    assert COUNTS[door](granted(whole, ["ours", "theirs"])) == len(OURS | THEIRS)
    assert COUNTS[door](granted(whole, [])) == 0


@pytest.mark.parametrize("change", CHANGES)
def test_who_may_see_some_changes_nothing(whole: Index, change: str) -> None:
    before = whole.card
    with pytest.raises(NotAllowedError):
        CHANGES[change](granted(whole, ["ours"]))
    assert whole.count() == IMAGES
    assert whole.card == before


def test_who_may_see_everything_has_the_index_itself(whole: Index) -> None:
    assert granted(whole, None) is whole


def test_images_of_no_data_set_are_for_those_who_see_everything(whole: Index) -> None:
    of_none = set(EVERY) - OURS - THEIRS
    assert of_none.isdisjoint(ids(granted(whole, ["ours", "theirs", "", "None"]).listed(ANY, 100).points))


@pytest.mark.parametrize(
    "where",
    [
        SearchFilter(dataset=("theirs",)),
        SearchFilter(dataset=("ours", "theirs")),
        SearchFilter(any_of={"dataset": ("theirs",)}),
        SearchFilter(none_of={"dataset": ("ours",)}),
        SearchFilter(absent=("dataset",)),
        SearchFilter(any_of={"content": ("content 1",)}),
        SearchFilter(without_ids=tuple(sorted(OURS))),
    ],
    ids=str,
)
def test_no_filter_widens_what_may_be_seen(whole: Index, where: SearchFilter) -> None:
    index = granted(whole, ["ours"])
    assert set(ids(index.nearest({"first": vector(1)}, where, 100))) <= OURS
    assert set(ids(index.listed(where, 100).points)) <= OURS
    assert index.count(where) <= len(OURS)
    assert set(index.facets("dataset", where)) <= {"ours"}


QUERIES: dict[str, Callable[[Searcher, Wanted], list]] = {
    "by id": lambda searcher, wanted: searcher.by_id(point(0), wanted),
    "by examples": lambda searcher, wanted: searcher.like([point(0)], [point(3)], wanted),
}
RANKINGS = {
    "as they come": Ranking(),
    "by score": Ranking(fusion="score"),
    "one a patient": Ranking(group="patient"),
    "one a study": Ranking(group="study"),
    "diverse": Ranking(diversity=0.7),
    "second page": Ranking(page=2),
    "by shared neighbours": Ranking(rerank="k-reciprocal"),
    "by a walk": Ranking(rerank="diffusion"),
    "by votes": Ranking(rerank="votes"),
    "expanded": Ranking(expand=3),
}


@pytest.mark.parametrize("models", [("first",), ("first", "second")])
@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("query", QUERIES)
def test_no_search_finds_another_data_set(
    whole: Index, settings: Settings, query: str, ranking: str, models: tuple[str, ...]
) -> None:
    limit = 1 if ranking == "second page" else 50
    wanted = Wanted(limit, models=models, allow_same_patient=True, ranking=RANKINGS[ranking])
    hits = QUERIES[query](Searcher(granted(whole, ["ours"]), settings), wanted)
    assert hits
    assert set(ids(hits)) <= OURS
    assert {hit.facts.dataset for hit in hits} == {"ours"}


@pytest.mark.parametrize("place", ["liked", "disliked"])
def test_an_image_of_another_data_set_is_no_example(whole: Index, settings: Settings, place: str) -> None:
    searcher = Searcher(granted(whole, ["ours"]), settings)
    liked, disliked = ([point(1)], []) if place == "liked" else ([point(0)], [point(1)])
    with pytest.raises(NothingToSearchError, match="no indexed image"):
        searcher.like(liked, disliked, Wanted(models=("first",)))


def test_a_name_that_only_others_have_is_unknown_and_theirs_are_not_listed(whole: Index, settings: Settings) -> None:
    searcher = Searcher(granted(whole, ["ours"]), settings)
    with pytest.raises(UnknownNameError, match="unknown dataset 'theirs'") as told:
        searcher.check_filter(SearchFilter(dataset=("theirs",)))
    assert str(told.value).endswith("holds: ours")
    with pytest.raises(UnknownNameError) as told:
        searcher.check_filter(SearchFilter(region=("region of theirs",)))
    assert str(told.value).endswith("holds: region of ours")


def test_a_file_of_another_data_set_is_not_recognised(
    settings: Settings, pseudonymizer: Pseudonymizer, tmp_path: Path, write_png: Callable[..., Path]
) -> None:
    """By its content it would be answered without a model, from a vector that is not the visitor's to use."""
    from radsearch.search import QueryFile

    file = QueryFile(write_png(), settings, pseudonymizer)
    with open_embedded_index(Settings(index=str(tmp_path / "own")), create_for=[FIRST]) as index:
        index.admit([FIRST], pseudonymizer.check)
        payload = {"content": file.identity.content, "dataset": "theirs", "frame": 1, "models": ["first"]}
        index.write([IndexedImage(point(1), {"first": vector(1)}, payload)])
        assert Searcher(index, settings).by_files([file], Wanted(models=("first",))) == []
        with pytest.raises(UnknownNameError, match="first"):  # it is a file like any other, and needs the model
            Searcher(granted(index, ["ours"]), settings).by_files([file], Wanted(models=("first",)))
