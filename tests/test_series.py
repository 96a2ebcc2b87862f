"""A series as a query: which slices ask, how series are scored, and what is refused; on the real engine."""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from radsearch.__main__ import main
from radsearch.errors import NothingToSearchError, UnknownNameError
from radsearch.index import Index, IndexedImage, open_index
from radsearch.search import Ranking, Searcher, Wanted, series
from radsearch.search.series import evenly, in_order, slices_of
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Hit, SearchFilter

FIRST = Fingerprint("first", "sha256:1", 5, "8 px", "float32", 1)
SECOND = Fingerprint("second", "sha256:2", 5, "8 px", "float32", 1)
ALL = Wanted(100, models=("first",))
# Series: its patient and its number of slices. `own` is the query's patient's other one.
SERIES = {"query": ("ann", 3), "own": ("ann", 2), "long": ("bob", 40), "short": ("cem", 1), "other": ("cem", 4)}
SERIES |= {f"s{number}": (f"p{number}", 3) for number in range(6)}
SLICES = [(name, number) for name, (_, count) in SERIES.items() for number in range(count)]
LONE = len(SLICES)  # an image of no series


def vectors(seed: int) -> "np.ndarray":
    rows = np.random.default_rng(seed).normal(size=(LONE + 1, 5))
    rows[:, 0] += 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


OF_FIRST, OF_SECOND = vectors(1), vectors(2)


def point(number: int) -> str:
    return str(uuid.UUID(int=number + 1))


def image(number: int) -> IndexedImage:
    payload: dict[str, object] = {"patient": "dot", "modality": "CT", "models": ["first", "second"]}
    if number < LONE:
        name, place = SLICES[number]
        payload |= {"patient": SERIES[name][0], "series": name, "study": f"study of {name}"}
        payload |= {"modality": "MR" if name in {"s0", "s1"} else "CT", "extra": {"slice": str(100 - place)}}
    return IndexedImage(point(number), {"first": OF_FIRST[number], "second": OF_SECOND[number]}, payload)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    settings = Settings(index=str(tmp_path_factory.mktemp("series") / "index"), quantization="none")
    with open_index(settings, create_for=[FIRST, SECOND]) as opened:
        opened.admit([FIRST, SECOND], "check")
        opened.write([image(number) for number in range(LONE + 1)])
        yield opened


@pytest.fixture
def searcher(index: Index) -> Searcher:
    return Searcher(index, Settings())


def names(hits: list[Hit]) -> list[str | None]:
    return [hit.facts.series for hit in hits]


def written_out(query: str, among: list[str], depth: int, cosines: "np.ndarray") -> dict[str, tuple[float, str]]:
    """Series by series: the score, and the id of the best slice."""
    asking = [number for number, (name, _) in enumerate(SLICES) if name == query]
    found = [number for number, (name, _) in enumerate(SLICES) if name in among]
    first = {slice_: sorted(found, key=lambda n, s=slice_: -cosines[s, n])[:depth] for slice_ in asking}
    rows: dict[str, list[float]] = defaultdict(list)
    best: dict[str, tuple[float, str]] = {}
    for name in {SLICES[number][0] for numbers in first.values() for number in numbers}:
        for slice_ in asking:
            mine = [float(cosines[slice_, number]) for number in first[slice_] if SLICES[number][0] == name]
            rows[name].append(max(mine, default=float(min(cosines[slice_, number] for number in first[slice_]))))
            seen = [(float(cosines[slice_, n]), point(n)) for n in first[slice_] if SLICES[n][0] == name]
            best[name] = max([best.get(name, (-2.0, "")), *seen])
    return {name: (float(np.mean(row)), best[name][1]) for name, row in rows.items()}


OTHERS = [name for name in SERIES if name not in {"query", "own"}]


@pytest.mark.parametrize("depth", [100, 20, 3])
def test_series_are_scored_by_the_mean_of_the_best_cosines(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    monkeypatch.setattr(series, "_DEPTH", depth)
    expected = written_out("query", OTHERS, depth, OF_FIRST @ OF_FIRST.T)
    hits = searcher.by_series("query", ALL)
    assert names(hits) == sorted(expected, key=lambda name: -expected[name][0])
    np.testing.assert_allclose([hit.score for hit in hits], [expected[str(name)][0] for name in names(hits)], atol=1e-5)
    assert [hit.id for hit in hits] == [expected[str(name)][1] for name in names(hits)]
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert (len(hits) < len(OTHERS)) == (depth < 100)


def test_of_several_models_it_is_the_mean_cosine(searcher: Searcher) -> None:
    expected = written_out("query", OTHERS, 100, (OF_FIRST @ OF_FIRST.T + OF_SECOND @ OF_SECOND.T) / 2)
    hits = searcher.by_series("query", replace(ALL, models=("first", "second")))
    np.testing.assert_allclose(
        [hit.score for hit in hits], sorted((s for s, _ in expected.values()), reverse=True), atol=1e-5
    )
    assert [hit.id for hit in hits] == [expected[str(name)][1] for name in names(hits)]


def test_a_series_is_named_by_its_pseudonym_or_by_an_image_of_it(searcher: Searcher) -> None:
    assert searcher.by_series(point(1), ALL) == searcher.by_series("query", ALL)
    assert searcher.by_series(point(1).upper(), ALL) == searcher.by_series("query", ALL)


def test_the_own_patient_may_be_allowed_but_never_the_series_itself(searcher: Searcher) -> None:
    assert set(names(searcher.by_series("query", ALL))) == set(OTHERS)
    assert set(names(searcher.by_series("query", replace(ALL, allow_same_patient=True)))) == {*OTHERS, "own"}


def test_a_filter_a_threshold_and_pages_hold(searcher: Searcher) -> None:
    of_mr = replace(ALL, where=SearchFilter(modality=("MR",)))
    assert set(names(searcher.by_series("query", of_mr))) == {"s0", "s1"}
    not_s0 = replace(ALL, where=SearchFilter(modality=("MR",), none_of={"series": ("s0",)}))
    assert names(searcher.by_series("query", not_s0)) == ["s1"]
    whole = searcher.by_series("query", ALL)
    pages = [searcher.by_series("query", replace(ALL, limit=4, ranking=Ranking(page=page))) for page in range(1, 5)]
    assert [hit for page in pages for hit in page] == whole
    assert [len(page) for page in pages] == [4, 4, 1, 0]
    least = (whole[2].score + whole[3].score) / 2
    assert searcher.by_series("query", replace(ALL, ranking=Ranking(threshold=least))) == whole[:3]
    with pytest.raises(UnknownNameError, match="unknown modality 'PT'"):
        searcher.by_series("query", replace(ALL, where=SearchFilter(modality=("PT",))))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (point(LONE), f"the image {point(LONE)} is of no known series; search by it alone with --id"),
        (point(LONE + 1), f"no indexed series {point(LONE + 1)}, and no indexed image of that id"),
        ("quary", "no indexed series quary"),
    ],
)
def test_what_is_no_series_is_said(searcher: Searcher, asked: str, said: str) -> None:
    with pytest.raises(NothingToSearchError, match=said):
        searcher.by_series(asked, ALL)


@pytest.mark.parametrize(
    "ranking", [{"group": "patient"}, {"diversity": 0.5}, {"rerank": "votes"}, {"expand": 1}], ids=str
)
def test_what_does_not_go_with_a_series_is_refused(searcher: Searcher, ranking: dict[str, object]) -> None:
    with pytest.raises(NothingToSearchError, match="a search by a series gives series as they are"):
        searcher.by_series("query", replace(ALL, ranking=Ranking(**ranking)))


def test_pages_of_series_are_counted_from_one(searcher: Searcher) -> None:
    with pytest.raises(NothingToSearchError, match="counted from 1"):
        searcher.by_series("query", replace(ALL, ranking=Ranking(page=0)))


def test_a_series_asks_by_32_of_its_slices_in_their_order(index: Index) -> None:
    chosen = slices_of(index, "long", ["first"])
    assert len(chosen) == 32
    places = [int(str(one.payload["extra"]["slice"])) for one in chosen]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (61, 100)
    assert all(list(one.vectors) == ["first"] for one in chosen)


def test_slices_without_a_vector_of_the_model_do_not_ask(tmp_path: Path) -> None:
    with open_index(Settings(index=str(tmp_path / "index")), create_for=[FIRST, SECOND]) as partly:
        partly.admit([FIRST, SECOND], "check")
        for number, model in enumerate(["first", "second", "first"]):
            payload = {"series": "one", "models": [model], "frame": 3 - number}
            partly.write([IndexedImage(point(number), {model: OF_FIRST[number]}, payload)])
        assert [one.id for one in slices_of(partly, "one", ["first"])] == [point(2), point(0)]
        with pytest.raises(NothingToSearchError, match="no image of the series one has a vector of first, second"):
            slices_of(partly, "one", ["first", "second"])


def test_the_command_prints_one_hit_a_series_and_the_audit_names_no_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RADSEARCH_AUDIT", str(tmp_path / "audit.jsonl"))
    with open_index(Settings(index=str(tmp_path / "index")), create_for=[FIRST]) as alone:
        alone.admit([FIRST], "check")
        images = [image(number) for number in range(LONE)]
        alone.write([replace(one, vectors={"first": one.vectors["first"]}) for one in images])
    command = ["search", "--series", "query", "--index", str(tmp_path / "index"), "--json"]
    assert main([*command, "-k", "5"]) == 0
    whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({hit["series"] for hit in whole}) == 5
    assert main([*command, "-k", "2", "--page", "2"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == whole[2:4]
    (line, _) = (json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines())
    assert line["query"] == {"series": True}
    assert line["hits"] == [hit["id"] for hit in whole]
    assert main([*command, "--group", "patient"]) == 2
    assert "gives series as they are" in capsys.readouterr().err


def test_evenly_takes_the_first_and_the_last_and_no_place_twice() -> None:
    assert evenly(1) == [0]
    assert evenly(32) == list(range(32))
    assert evenly(9, 3) == [0, 4, 8]
    places = evenly(1000)
    assert (len(places), places[0], places[-1]) == (32, 0, 999)
    assert set(np.diff(places).tolist()) == {32, 33}


def test_slices_are_ordered_by_number_and_those_without_come_last(index: Index) -> None:
    points = index.retrieve([point(number) for number in (*range(5), LONE)])
    assert [one.id for one in in_order(points)] == [point(number) for number in (2, 1, 4, 0, 3, LONE)]


def test_the_order_in_which_slices_ask_changes_nothing() -> None:
    """Of one series, whose slices tie for the best: 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 as a computer adds."""
    facts = Facts(series="one")
    answers = [[Hit(point(number), score, 1, facts)] for number, score in enumerate((0.1, 0.3, 0.2, 0.3))]
    (hit,) = series._by_series(answers)
    assert hit.id == point(1)
    assert all(series._by_series(order) == [hit] for order in permutations(answers))


def test_nothing_is_found_where_nothing_may_be(searcher: Searcher) -> None:
    only_own = replace(ALL, where=SearchFilter(any_of={"series": ("own", "query")}))
    assert searcher.by_series("query", only_own) == []
