"""The page's logic, run by Streamlit's own test driver on a real index."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_driver import ask, cards, hits
from streamlit.testing.v1 import AppTest

from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.reading import choice_of, identify
from radsearch.settings import Settings
from radsearch.study import Fingerprint
from radsearch.thumbnails import FOLDER, Thumbnails, thumbnail_of
from ui.saved import Collections

pytestmark = pytest.mark.slow  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)
NASTY = "<b>Tumor</b> **x** ![i](http://tracker.invalid/i.png) $y$ :smile:"


@pytest.fixture
def page(settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        kept = Thumbnails(settings.index_folder / FOLDER).write(thumbnail_of(np.zeros((8, 8), np.uint8)))
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number),
                {MODEL.model: np.eye(4, dtype=np.float32)[number]},
                {
                    "modality": "CT" if number < 2 else "US", "pathology": [NASTY], "patient": str(number),
                    "thumbnail": kept, "series": "one" if number < 2 else "two", "age": 40 + number,
                },
            )
            for number in range(4)
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "3")
    return AppTest.from_file(str(APP), default_timeout=30)


@pytest.fixture
def ids(pseudonymizer: Pseudonymizer) -> list[str]:
    return [pseudonymizer.point_id("instance", number) for number in range(4)]


def address(page: AppTest) -> dict[str, str]:
    return {name: "|".join(value) if isinstance(value, list) else value for name, value in page.query_params.items()}


def search_by(page: AppTest, point: str) -> AppTest:
    page.query_params["id"] = point
    return page.run()


def test_page_opens_with_filters_that_carry_their_counts(page: AppTest) -> None:
    page.run()
    assert not page.exception
    assert page.sidebar.multiselect(key="field-modality").options == ["CT (2)", "US (2)"]
    assert page.info[0].value.startswith("Drop an image above")
    assert [one.value for one in page.caption][-1] == "For research. Not for diagnosis."


def test_search_by_id_shows_all_others_under_the_filter_and_says_so_in_the_address(
    page: AppTest, ids: list[str]
) -> None:
    page.run()
    page.sidebar.multiselect(key="field-modality").select("US")
    page.text_input(key="asked-id").set_value(ids[0]).run()
    assert not page.exception
    assert sorted(hits(page)) == sorted(ids[2:])
    assert address(page) == {"id": ids[0], "modality": "US"}


def test_counts_follow_the_other_facets_and_keep_the_choices_of_their_own(page: AppTest) -> None:
    page.run()
    page.sidebar.multiselect(key="field-modality").select("US").run()
    assert page.sidebar.multiselect(key="field-modality").options == ["CT (2)", "US (2)"]
    assert page.sidebar.multiselect(key="field-pathology").options == [f"{NASTY} (2)"]
    page.button(key="clear-filter").click().run()
    assert page.sidebar.multiselect(key="field-pathology").options == [f"{NASTY} (4)"]
    assert address(page) == {}


def test_the_address_alone_brings_a_search_back(page: AppTest, ids: list[str]) -> None:
    page.query_params["modality"] = "CT"
    page.query_params["age"] = "41-41"
    search_by(page, ids[3])
    assert hits(page) == [ids[1]]
    assert page.sidebar.multiselect(key="field-modality").value == ["CT"]
    assert page.sidebar.slider(key="field-age").value == (41, 41)


def test_an_address_of_nonsense_opens_all_the_same(page: AppTest) -> None:
    for name, value in {"age": "x-y", "shown": "-3", "group": "dog", "fusion": "?", "modality": "ZZ"}.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    assert page.sidebar.multiselect(key="field-modality").value == ["ZZ"]


def test_like_and_dislike_search_again_and_can_be_taken_back(page: AppTest, ids: list[str]) -> None:
    search_by(page, ids[0])
    assert len(hits(page)) == 3
    ask(page, "like", ids[1])
    ask(page, "unlike", ids[2])
    assert hits(page) == [ids[3]]
    assert address(page) == {"id": ids[0], "like": ids[1], "unlike": ids[2]}
    ask(page, "drop", f"disliked/{ids[2]}")
    assert sorted(hits(page)) == sorted(ids[2:])


def test_similar_makes_a_hit_the_query(page: AppTest, ids: list[str]) -> None:
    search_by(page, ids[0])
    ask(page, "similar", ids[1])
    assert address(page) == {"id": ids[1]}
    assert sorted(hits(page)) == sorted([ids[0], *ids[2:]])


def test_words_of_the_data_are_shown_as_they_are(page: AppTest, ids: list[str]) -> None:
    search_by(page, ids[0])
    card = cards(page)[1]
    assert card["picture"].startswith("data:image/webp;base64,")
    assert card["finding"] == NASTY  # set as text, by the page itself: seen in a browser in test_page_browser.py


def test_nonsense_id_is_answered_with_a_sentence(page: AppTest) -> None:
    page.run()
    page.text_input(key="asked-id").set_value("<i>nonsense</i>").run()
    assert not page.exception
    assert "no id of an indexed image" in page.error[0].value
    assert "<i>" not in page.error[0].value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.dcm", b"\0" * 128 + b"DICM" + b"broken", "cannot be searched by"), ("a.zip", b"PK\3\4rest", "cannot be")],
)
def test_files_that_are_no_picture_are_a_sentence(page: AppTest, name: str, content: bytes, words: str) -> None:
    page.run()
    page.file_uploader[0].upload(name, content).run()
    assert not page.exception
    assert words in page.error[0].value


def test_missing_index_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSEARCH_INDEX", str(tmp_path / "none"))
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not page.exception
    assert page.error[0].value.startswith("There is no index in")


def test_empty_index_says_how_to_fill_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_index(settings, create_for=[MODEL]).close()
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not page.exception
    assert page.info[0].value.startswith("The index is empty")


def test_busy_index_is_a_sentence_and_the_page_comes_back(
    page: AppTest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "0.1")
    with open_index(settings):
        page.run()
        assert not page.exception
        assert page.warning[0].value.startswith("The index is in use by another program")
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "3")
    page.run()
    assert not page.warning


def test_browse_pages_through_what_passes_and_draws_by_chance(page: AppTest, ids: list[str]) -> None:
    page.run()
    page.switch_page("views/browse.py").run()
    assert not page.exception
    assert "Images 1 to 4 of 4" in [one.value for one in page.markdown]
    assert len(cards(page)) == 4
    page.sidebar.multiselect(key="field-modality").select("US").run()
    assert len(cards(page)) == 2
    page.button(key="chance").click().run()
    assert not page.exception
    assert len(cards(page)) == 2
    ask(page, "similar", ids[2])
    assert address(page) == {"id": ids[2], "modality": "US"}
    assert hits(page) == [ids[3]]


def test_study_shows_an_image_with_the_others_of_its_series(page: AppTest, ids: list[str]) -> None:
    search_by(page, ids[3])
    ask(page, "open", ids[0])
    assert not page.exception
    assert address(page) == {"image": ids[0]}
    assert [one.value for one in page.subheader] == ["Others of its series (1)"]
    ask(page, "open", ids[1])
    assert address(page) == {"image": ids[1]}


def test_study_of_an_unknown_image_is_a_sentence(page: AppTest) -> None:
    page.run()
    page.switch_page("views/study.py").run()
    assert page.info[0].value.startswith("Open an image")
    page.query_params["image"] = "nonsense"
    page.run()
    assert not page.exception
    assert page.error[0].value.startswith("No image of that id")


def test_collection_is_made_by_a_bookmark_and_outlives_the_session(
    page: AppTest, ids: list[str], settings: Settings
) -> None:
    search_by(page, ids[0])
    ask(page, "add", ids[1])
    ask(page, "add", ids[2])
    assert not page.exception
    assert Collections(settings.settings_folder).names() == {"Collection 1": 2}
    later = AppTest.from_file(str(APP), default_timeout=30).run()
    later.switch_page("views/collections.py").run()
    assert not later.exception
    assert len(cards(later)) == 2
    ask(later, "take-out", ids[1])
    assert [card["id"] for card in cards(later)] == [ids[2]]
    ask(later, "note", ids[2], "second reader")
    assert [card["note"] for card in cards(later)] == ["second reader"]


def test_upload_of_an_indexed_picture_is_that_image_and_needs_no_model(
    page: AppTest, ids: list[str], settings: Settings, pseudonymizer: Pseudonymizer, write_png: Callable[..., Path]
) -> None:
    path = write_png()
    content = identify(path, pseudonymizer, name="", choice=choice_of(settings)).content
    with open_index(settings) as index:
        payload = {"content": content, "frame": 1, "patient": "0", "modality": "CT"}
        index.write([IndexedImage(ids[0], {MODEL.model: np.eye(4, dtype=np.float32)[0]}, payload)])
    page.run()
    page.file_uploader[0].upload("picture.png", path.read_bytes()).run()
    assert not page.exception
    assert not page.error
    assert sorted(hits(page)) == sorted(ids[1:])
    assert cards(page)[0]["picture"].startswith("data:image/webp;base64,")
    ask(page, "drop", cards(page, among="drop")[0]["id"])
    assert page.info[0].value.startswith("Drop an image above")


@pytest.fixture
def many(settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Thirty images of ten patients, along a quarter of a circle: by one model in order, by another in sevens."""
    other = replace(MODEL, model="efficientnet-lite1")
    with open_index(settings, create_for=[MODEL, other]) as index:
        index.admit([MODEL, other], pseudonymizer.check)
        turns = np.linspace(0, np.pi / 2, 30)
        circle = np.stack([np.cos(turns), np.sin(turns), 0 * turns, 0 * turns], axis=1).astype(np.float32)
        index.write([
            IndexedImage(
                pseudonymizer.point_id("instance", number),
                {MODEL.model: circle[number], other.model: circle[7 * number % 30]},
                {"modality": "CT", "patient": str(number // 3), "models": [MODEL.model, other.model]},
            )
            for number in range(30)
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    return AppTest.from_file(str(APP), default_timeout=30)


def test_more_hits_come_by_a_button_and_are_in_the_address(many: AppTest, ids: list[str]) -> None:
    search_by(many, ids[0])
    assert len(hits(many)) == 24
    many.button(key="more").click().run()
    assert len(hits(many)) == 27  # all but those of the query's own patient
    assert address(many)["shown"] == "48"
    assert any(one.value.startswith("27 hits; there are no more") for one in many.caption)


def test_best_of_each_patient_is_one_hit_a_patient(many: AppTest, ids: list[str]) -> None:
    search_by(many, ids[0])
    many.selectbox(key="field-group").set_value("patient").run()
    assert not many.exception
    assert len(hits(many)) == 9
    assert address(many)["group"] == "patient"


def test_another_order_of_the_first_hits_is_in_the_address(many: AppTest, ids: list[str]) -> None:
    """By the other model the images of a patient lie apart, so that their votes count."""
    many.query_params["model"] = "efficientnet-lite1"
    search_by(many, ids[0])
    nearest, scores = hits(many), {card["id"]: card["score"] for card in cards(many, among="like")}
    many.selectbox(key="field-rerank").set_value("votes").run()
    assert not many.exception
    assert address(many)["rerank"] == "votes"
    assert hits(many) != nearest
    shown = {card["id"]: card["score"] for card in cards(many, among="like")}
    assert {point: shown[point] for point in shown.keys() & scores.keys()} == {
        point: scores[point] for point in shown.keys() & scores.keys()
    }


def test_a_query_that_is_moved_by_its_first_hits_is_in_the_address(
    many: AppTest, ids: list[str], pseudonymizer: Pseudonymizer
) -> None:
    """From image 0 towards the images 3 to 7: image 4 is the nearest to their middle."""
    search_by(many, ids[0])
    assert hits(many)[0] == pseudonymizer.point_id("instance", 3)
    many.selectbox(key="field-expand").set_value(5).run()
    assert not many.exception
    assert address(many)["expand"] == "5"
    assert hits(many)[0] == pseudonymizer.point_id("instance", 4)


def test_own_patient_comes_back_where_that_is_asked_for(many: AppTest, ids: list[str]) -> None:
    search_by(many, ids[0])
    assert ids[1] not in hits(many)
    many.toggle(key="field-same_patient").set_value(True).run()
    assert hits(many)[0] == ids[1]
    assert address(many)["same-patient"] == "1"


def test_two_models_are_fused_by_their_mean_score(many: AppTest, ids: list[str], pseudonymizer: Pseudonymizer) -> None:
    search_by(many, ids[0])
    alone = hits(many)
    many.multiselect(key="field-models").set_value(["efficientnet-lite0", "efficientnet-lite1"]).run()
    many.selectbox(key="field-fusion").set_value("score").run()
    assert not many.exception
    assert address(many)["fusion"] == "score"
    step = np.pi / 2 / 29
    mean = [(np.cos(step * one) + np.cos(step * (7 * one % 30))) / 2 for one in range(30)]
    expected = sorted(range(3, 30), key=lambda one: -mean[one])
    assert hits(many)[0] == pseudonymizer.point_id("instance", expected[0]) != alone[0]
    assert float(cards(many, among="like")[0]["score"]) == pytest.approx(mean[expected[0]], abs=1e-3)


NO_BUTTONS: tuple[object, ...] = (
    ("nonsense", "x", None), ("similar", "<i>", None), ("bar", "shown", "3"), ("bar", "modality", ""),
    ("bar", "modality", "\ud800"), ("drop", "models/x", None), ("drop", "file/x", None), ("drop", "", None),
    ("note", "x", "y"), ("open", 5, None), ("like", ["a"], None), "similar", 7, ("similar",), {"similar": 1},
)  # fmt: skip


def test_what_no_button_asks_for_is_passed_over(page: AppTest, ids: list[str]) -> None:
    search_by(page, ids[0])
    before = address(page)
    for asked in NO_BUTTONS:
        page.session_state["asked"] = asked
        page.run()
        assert not page.exception, asked
        assert address(page) == before, asked


def test_collection_with_an_id_of_nonsense_can_be_seen_and_mended(
    page: AppTest, ids: list[str], settings: Settings
) -> None:
    saved = Collections(settings.settings_folder)
    saved.add(saved.make("one"), ["+" + "1" * 31, ids[1]])
    page.run()
    page.switch_page("views/collections.py").run()
    assert not page.exception
    assert [card["id"] for card in cards(page)] == [ids[1]]
    assert page.warning[0].value.startswith("1 of its images")


def test_note_of_a_collection_is_the_last_one_whoever_wrote_it(page: AppTest, settings: Settings) -> None:
    saved = Collections(settings.settings_folder)
    saved.make("one")
    page.run()
    page.switch_page("views/collections.py").run()
    saved.note("one", "of somebody else")
    page.run()
    assert page.text_area[0].value == "of somebody else"


def test_collections_that_cannot_be_read_leave_the_search_as_it_is(
    page: AppTest, ids: list[str], settings: Settings
) -> None:
    settings.settings_folder.mkdir(parents=True, exist_ok=True)
    (settings.settings_folder / "collections.sqlite").write_bytes(b"no database at all, but long enough" * 99)
    search_by(page, ids[0])
    assert not page.exception
    assert len(hits(page)) == 3
    ask(page, "add", ids[1])
    assert not page.exception
    assert "cannot be used" in page.error[0].value


def test_a_second_click_that_came_too_early_does_no_harm_in_browse(many: AppTest) -> None:
    many.run()
    many.switch_page("views/browse.py").run()
    many.button(key="next").click().run()
    many.session_state["starts"] = many.session_state["starts"][:1]  # as after two clicks on Previous
    many.button(key="previous").click().run()
    assert not many.exception
    assert "Images 1 to 24 of 30" in [one.value for one in many.markdown]


def test_two_uploads_of_the_same_file_are_taken_out_one_by_one(page: AppTest, write_png: Callable[..., Path]) -> None:
    page.run()
    content = write_png().read_bytes()
    page.file_uploader[0].upload("one.png", content).run()
    page.file_uploader[0].upload("two.png", content).run()
    first, second = [card["id"] for card in cards(page, among="drop")]
    assert first != second
    ask(page, "drop", first)
    page.session_state["asked"] = ("drop", first, None)
    page.run()
    assert [card["id"] for card in cards(page, among="drop")] == [second]
