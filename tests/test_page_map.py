"""The map's page: its logic by Streamlit's own test driver on a real index, its colours and its filter by hand."""

import time
from pathlib import Path

import numpy as np
import pytest
from gallery_driver import cards
from streamlit.testing.v1 import AppTest

from radsearch.index import Index, IndexedImage, open_index
from radsearch.maps import make_map, maps_of
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Labels, Span
from ui.cards import Shown
from ui.filters import where_of
from ui.map_chart import chart_of, hover_of, legend_of, numbers_of
from ui.map_points import Placed, groups_of, passing
from ui.saved import Collections
from ui.state import State

pytestmark = pytest.mark.slow  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)
NASTY = "<b>Tumor</b> **x** ![i](http://tracker.invalid/i.png) $y$ :smile: &amp;"
PAYLOADS = (
    {"modality": "DX", "region": "chest", "pathology": [NASTY, "Edema"], "age": 40, "year": 2010, "sex": "F"},
    {"modality": "CT", "region": "chest", "pathology": ["Edema"], "age": 60, "view": "axial", "dataset": "one"},
    {"modality": "US", "pathology": ["No Finding"], "year": 2020, "dataset": "two", "sex": "M"},
    {"region": "brain"},
)


@pytest.fixture
def filled(settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number),
                {MODEL.model: np.eye(4, dtype=np.float32)[number]},
                {**payload, "models": [MODEL.model]},
            )
            for number, payload in enumerate(PAYLOADS)
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "3")
    return settings


@pytest.fixture
def page(filled: Settings) -> AppTest:
    return opened(filled)


def opened(settings: Settings) -> AppTest:
    del settings  # it is in the environment
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    return page.switch_page("views/map.py").run()


def charts(page: AppTest) -> list[str]:
    return [one.proto.spec for one in page.get("plotly_chart")]


def stored(index: Index) -> list[Shown]:
    return [Shown.of_point(point) for found in index.pages() for point in found]


def shown_of(*facts: Facts) -> list[Shown]:
    return [Shown(str(number), one) for number, one in enumerate(facts)]


def test_map_is_made_by_a_button_and_is_there_for_the_next_visitor(page: AppTest, filled: Settings) -> None:
    assert not page.exception
    assert page.info[0].value.startswith("There is no map of these vectors yet")
    page.button(key="make-map").click().run()
    assert not page.exception
    assert len(charts(page)) == 1
    assert page.button(key="make-map").label == "Make it anew"
    assert page.caption[0].value.startswith("4 of 4 images, laid out on ")
    assert len(charts(opened(filled))) == 1


def test_all_of_a_colour_come_as_a_grid_and_into_the_collection(page: AppTest, filled: Settings) -> None:
    page.button(key="make-map").click().run()
    page.selectbox(key="map-field").select("region").run()
    page.selectbox(key="map-group-region").select_index(0).run()
    assert not page.exception
    assert page.selectbox(key="map-group-region").options == ["chest (2)", "brain (1)", "unknown (1)"]
    assert len(cards(page)) == 2
    page.button(key="add-all").click().run()
    assert not page.exception
    assert Collections(filled.settings_folder).names() == {"Collection 1": 2}
    page.sidebar.multiselect(key="field-modality").select("CT").run()
    assert len(cards(page)) == 1
    assert "3 of them are outside of the filter" in page.caption[0].value


def test_images_that_have_left_the_index_leave_the_map(filled: Settings, pseudonymizer: Pseudonymizer) -> None:
    maps = maps_of(filled)
    assert maps is not None
    maps.write(make_map(lambda: open_index(filled), MODEL.model))
    with open_index(filled) as index:
        index.delete([pseudonymizer.point_id("instance", 1)])
    page = opened(filled)
    assert not page.exception
    assert page.caption[0].value.startswith("3 of 3 images")


def test_damaged_map_is_a_sentence_and_can_be_made_anew(filled: Settings) -> None:
    maps = maps_of(filled)
    assert maps is not None
    maps.write(make_map(lambda: open_index(filled), MODEL.model))
    maps.file(MODEL.model, "pca").write_bytes(b"PK\3\4rest")
    page = opened(filled)
    assert not page.exception
    assert "damaged" in page.error[0].value
    page.button(key="make-map").click().run()
    assert not page.error
    assert len(charts(page)) == 1


def test_busy_index_is_said_and_no_damaged_map(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = maps_of(filled)
    assert maps is not None
    maps.write(make_map(lambda: open_index(filled), MODEL.model))
    page = AppTest.from_file(str(APP), default_timeout=30).run()  # its counts are kept
    time.sleep(2)  # until the page lets go of the index
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "0.1")
    with open_index(filled):
        page.switch_page("views/map.py").run()
    assert not page.exception
    assert not page.error
    assert page.warning[0].value.startswith("The index is in use by another program")


@pytest.mark.parametrize(
    ("count", "words"), [(0, "The index is empty."), (2, "A map needs 3 images; the index holds 2.")]
)
def test_index_of_less_than_three_images_has_no_map(
    settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch, count: int, words: str
) -> None:
    ids = [pseudonymizer.point_id("instance", number) for number in range(count)]
    with open_index(settings, create_for=[MODEL]) as index:
        vector = np.eye(4, dtype=np.float32)[0]
        index.write([IndexedImage(point, {MODEL.model: vector}, {"models": [MODEL.model]}) for point in ids])
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    assert opened(settings).info[0].value.startswith(words)


@pytest.mark.parametrize(
    "state",
    [
        State(),
        State(modality=("XR",)),
        State(modality=("CT", "US")),
        State(region=("chest",), sex=("F",)),
        State(pathology=("Edema", "No Finding")),
        State(pathology_all=("Edema", NASTY)),
        State(pathology_none=("Edema",)),
        State(age=Span(41, None)),
        State(age=Span(None, 60), year=Span(2010, 2010)),
        State(view=("axial",), dataset=("one", "two")),
    ],
)
def test_filter_of_the_map_lets_the_same_images_pass_as_the_index(filled: Settings, state: State) -> None:
    with open_index(filled) as index:
        images = stored(index)
        wanted = {point.id for point in index.listed(where_of(state), 10).points}
    kept = passing(state, images)
    assert {image.id for image, passes in zip(images, kept, strict=True) if passes} == wanted


def test_the_ten_most_frequent_words_have_colours_and_all_images_are_in_one_group() -> None:
    names = [f"finding {number}" for number in range(12) for _ in range(20 - number)]
    images = shown_of(*(Facts(labels=Labels(pathology=(name,))) for name in names), Facts())
    groups = groups_of(images, np.ones(len(images), bool), "pathology")
    assert [group.words for group in groups] == [
        *(f"finding {number}" for number in range(10)),
        "others, of 2 values",
        "unknown",
    ]
    assert [len(group.members) for group in groups] == [*range(20, 10, -1), 10 + 9, 1]
    assert len({(group.colour, group.shape) for group in groups}) == 12
    assert sorted(np.concatenate([group.members for group in groups])) == list(range(len(images)))


def test_frequent_value_has_its_colour_under_every_filter() -> None:
    names = [f"finding {number}" for number in range(12) for _ in range(20 - number)]
    images = shown_of(*(Facts(labels=Labels(pathology=(name,))) for name in names))
    all_of_them = {group.words: group for group in groups_of(images, np.ones(len(images), bool), "pathology")}
    kept = np.array([name in ("finding 11", "finding 3", "finding 9") for name in names])
    some = groups_of(images, kept, "pathology")
    assert [group.words for group in some] == ["finding 3", "finding 9", "finding 11"]
    assert [group.colour for group in some[:2]] == [all_of_them[group.words].colour for group in some[:2]]
    assert len({group.colour for group in some}) == 3


@pytest.mark.parametrize(
    ("ages", "spans"),
    [
        ([7, 3, 5, 3], ["3", "5", "7"]),
        ([0, 95, 44, 49], ["0 to 9", "40 to 49", "90 to 99"]),
        ([1, 12, 13], ["0 to 1", "12 to 13"]),
        ([], []),
    ],
)
def test_numbers_are_in_ten_spans_at_most_that_rise(ages: list[int], spans: list[str]) -> None:
    images = shown_of(*(Facts(age=age) for age in ages), Facts())
    groups = groups_of(images, np.ones(len(images), bool), "age")
    assert [group.words for group in groups] == [*spans, "unknown"]


def test_what_the_filter_leaves_out_has_no_name_in_the_chart_and_is_in_no_group() -> None:
    images = shown_of(*(Facts(sex=sex) for sex in "FMF"))
    places = np.arange(6, dtype=np.float32).reshape(3, 2)
    kept = np.array([True, True, False])
    groups = groups_of(images, kept, "sex")
    faint, *traces = chart_of(Placed(images, places, ""), groups, kept)["data"]
    assert "customdata" not in faint
    assert [trace["customdata"].tolist() for trace in traces] == [[0], [1]]
    assert [trace["x"].tolist() for trace in (faint, *traces)] == [[4], [0], [2]]


def test_words_of_the_data_are_plain_words_in_hovers_and_legend() -> None:
    facts = Facts(labels=Labels("CT", None, (NASTY, "a\nb")))
    image = Shown("0", facts)
    assert hover_of(image).startswith("CT<br>&lt;b&gt;Tumor&lt;/b&gt; **x** ![i](http://tracker")
    assert "<b>Tumor" not in legend_of(groups_of([image], np.ones(1, bool), "pathology"))


def test_selection_names_each_image_once_and_foreign_points_are_passed_over() -> None:
    points = [{"customdata": 3}, {"customdata": [1]}, {"customdata": 3}, {}, "x", {"customdata": None}]
    assert numbers_of({"selection": {"points": points}}, 4) == [1, 3]
    foreign = [True, -1, 4, 1.5, float("nan"), float("inf"), 1e300, 10**400, "1", [], [[1]], {}]
    assert numbers_of({"selection": {"points": [{"customdata": one} for one in [2.0, *foreign]]}}, 4) == [2]
    assert all(numbers_of(one, 4) == [] for one in ({}, {"selection": None}, {"selection": {"points": None}}))
