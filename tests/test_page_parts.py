"""What the page is made of, without Streamlit: addresses, filters, escaping, collections and what is taken away."""

import csv
import io
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from demo import serving
from radsearch.errors import EmbeddingError, IndexBusyError, RadSearchError
from radsearch.index import IndexCard, IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.reading.manifest import KNOWN
from radsearch.search import Embedders, is_id
from radsearch.search.reranking import RERANKINGS
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Labels, SearchFilter, Span
from ui import asking, cards, exporting
from ui.__main__ import hang_up
from ui.cards import Shown, card_of, rest_of
from ui.cards import table_of as facts_table
from ui.escaping import as_html, as_markdown
from ui.exporting import MANIFEST_COLUMNS, archive_of, manifest_of
from ui.filters import options_of, overview_of, where_of, with_count
from ui.lease import Lease
from ui.originals import Originals
from ui.pictures import address_of, part_of, webp_of
from ui.saved import MOST_IMAGES, Collections
from ui.searching import Surroundings, asks_for_something, find
from ui.state import EXPANSIONS, LOT, MOST_SHOWN, State, query_of, sole_query, state_of
from ui.viewer import part_in, window_in
from ui.windows import CT_WINDOWS, text_of, window_of

WORDS = st.lists(st.text(min_size=1, max_size=8), max_size=4, unique=True).map(tuple)
IDS = st.lists(st.uuids().map(str), max_size=4, unique=True).map(tuple)
YEARS = st.none() | st.integers(0, 9999)
SPANS = st.builds(Span, YEARS, YEARS).map(lambda span: None if span == Span() else span)
PARTS = st.none() | st.tuples(st.integers(0, 499), st.integers(0, 499), st.integers(500, 1000), st.integers(500, 1000))
STATES = st.builds(
    State, IDS, IDS, IDS, st.text(max_size=20), WORDS, st.sampled_from(["rank", "score"]), WORDS, WORDS,
    WORDS, WORDS, WORDS, WORDS, WORDS, WORDS, SPANS, SPANS, PARTS, st.booleans(),
    st.sampled_from([None, "patient", "study", "series"]),
    st.integers(LOT, MOST_SHOWN), st.sampled_from([None, *RERANKINGS]), st.sampled_from(EXPANSIONS),
)  # fmt: skip
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)


@given(STATES)
@hypothesis.settings(deadline=None)  # the first example of a process takes longer
def test_a_state_survives_its_address(state: State) -> None:
    assert state_of(query_of(state)) == state


@given(
    st.dictionaries(
        st.sampled_from(
            [*query_of(State(text="x", same_patient=True)), "age", "group", "rerank", "expand", "shown", "id"]
        ),
        st.lists(st.text(max_size=9)),
    )
)
def test_any_address_is_some_state(query: dict[str, list[str]]) -> None:
    state = state_of(query)
    assert LOT <= state.shown <= MOST_SHOWN
    assert state.expand in EXPANSIONS
    assert state.rerank in {None, *RERANKINGS}


def test_the_state_at_the_start_has_an_empty_address() -> None:
    assert query_of(State()) == {}


def test_a_hit_is_liked_or_disliked_or_neither() -> None:
    liked = State(ids=("q",)).judged("a", liked=True)
    assert (liked.liked, liked.disliked) == (("a",), ())
    disliked = liked.judged("a", liked=False)
    assert (disliked.liked, disliked.disliked) == ((), ("a",))
    assert disliked.judged("a", liked=False).disliked == ()


def test_similar_keeps_the_filter_and_forgets_the_query() -> None:
    state = State(ids=("q",), liked=("a",), text="words", modality=("CT",), shown=96).similar_to("b")
    assert state == State(ids=("b",), modality=("CT",))
    assert state.unfiltered() == State(ids=("b",))


def test_nothing_is_searched_for_without_a_query() -> None:
    assert not asks_for_something(State(modality=("CT",), disliked=("a",), text="  "), [])
    assert asks_for_something(State(text="pneumonia"), [])


def test_filter_of_a_state() -> None:
    state = State(modality=("CT",), pathology_none=("Edema",), sex=("F",), age=Span(40, None))
    assert where_of(state) == SearchFilter(
        modality=("CT",), pathology_none=("Edema",), any_of={"sex": ("F",)}, age=Span(40, None)
    )


def test_a_chosen_value_stays_among_the_options_where_it_would_leave_nothing() -> None:
    assert options_of({"CT": 2}, ("US", "CT")) == ["CT", "US"]
    assert with_count("CT", {"CT": 1204}) == "CT (1,204)"
    assert with_count("US", {"CT": 1204}) == "US (0)"


def test_counts_of_a_facet_are_under_all_other_facets(settings: Settings) -> None:
    with open_index(settings, create_for=[MODEL]) as index:
        payloads = [
            {"modality": "CT", "region": "chest"}, {"modality": "CT", "region": "head"},
            {"modality": "MR", "region": "head"},
        ]  # fmt: skip
        index.write([
            IndexedImage(f"00000000-0000-0000-0000-00000000000{n}", {MODEL.model: np.eye(4, dtype=np.float32)[n]}, one)
            for n, one in enumerate(payloads)
        ])  # fmt: skip
        overview = overview_of(index, State(modality=("CT",), region=("head",)))
    assert (overview.total, overview.passing) == (3, 1)
    assert overview.by_facet["modality"] == {"CT": 1, "MR": 1}
    assert overview.by_facet["region"] == {"chest": 1, "head": 1}


@pytest.mark.parametrize(
    "words", ["<script>alert(1)</script>", '" onerror="alert(1)', "<img src=x onerror=alert(1)>", "a & b", "😀 'x'"]
)
def test_html_of_a_table_holds_no_markup_of_the_data(words: str) -> None:
    html, plain = facts_table({"finding": words}), facts_table({"finding": "x"})
    assert html.count("<") == plain.count("<")
    assert html.count('"') == plain.count('"')
    assert as_html(words) in html


@pytest.mark.parametrize("script", ["bars.js", "gallery.js", "viewer.js"])
def test_the_pages_own_scripts_set_words_as_text_only(script: str) -> None:
    text = (Path(cards.__file__).parent / script).read_text(encoding="utf-8")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "createContextualFragment"):
        assert way not in text


def test_a_card_says_what_is_known_and_nothing_of_what_is_not() -> None:
    facts = Facts(Labels("CT", "chest", ("Mass", "Edema")), dataset="d", view="axial")
    card = card_of(Shown("id", facts, head="1", score="0.5", kind="liked"))
    assert (card["top"], card["score"], card["finding"]) == ("1 \u00b7 CT", "0.5", "Mass, Edema")
    assert (card["rest"], card["spoken"]) == ("chest \u00b7 axial \u00b7 d", "CT chest Mass, Edema")
    bare = card_of(Shown("id"))
    assert (bare["top"], bare["finding"], bare["rest"]) == ("modality unknown", "no finding stated", "")
    assert (bare["picture"], bare["modality"], bare["note"]) == (None, "?", None)


def test_markdown_is_quoted() -> None:
    assert as_markdown("**x**") == r"\*\*x\*\*"
    assert as_markdown("a\n# b") == r"a \# b"
    assert "http:/" not in as_markdown("http://x.invalid")
    assert ":smile:" not in as_markdown(":smile:")


def test_line_of_facts_leaves_out_what_is_unknown() -> None:
    facts = Facts(Labels("CT", "chest"), sex="F", age=63, dataset="lung")
    assert rest_of(facts) == "chest · F · 63 y · lung"


def test_pictures_go_to_the_browser_as_addresses_and_nothing_else_does() -> None:
    picture = webp_of(np.zeros((600, 300), np.uint8))
    assert (address_of(picture) or "").startswith("data:image/webp;base64,")
    assert address_of(b"<svg onload=alert(1)>") is None


def test_a_value_is_taken_into_the_filter_and_out_again() -> None:
    state = State(modality=("US",), shown=MOST_SHOWN)
    assert state.toggled("modality", "CT") == State(modality=("US", "CT"))
    assert state.toggled("modality", "US") == State()


def test_collections_keep_images_notes_and_order(tmp_path: Path) -> None:
    saved = Collections(tmp_path / "new")
    assert saved.names() == {}
    assert saved.make("  lung   cases ") == "lung cases"
    saved.add("lung cases", ["b", "a"])
    saved.add("lung cases", ["a"])
    saved.note("lung cases", "for Monday")
    saved.note_image("lung cases", "a", "clear edge")
    read = Collections(tmp_path / "new").read("lung cases")
    assert read is not None
    assert (read.note, list(read.notes.items())) == ("for Monday", [("b", ""), ("a", "clear edge")])
    assert (tmp_path / "new" / "collections.sqlite").stat().st_mode & 0o077 == 0
    saved.rename("lung cases", "lungs")
    saved.remove("lungs", "b")
    assert saved.names() == {"lungs": 1}
    saved.drop("lungs")
    assert saved.read("lungs") is None


def test_what_cannot_be_saved_is_a_sentence(tmp_path: Path) -> None:
    saved = Collections(tmp_path)
    saved.make("one")
    saved.make("two")
    for attempt in (
        lambda: saved.make("  "),
        lambda: saved.rename("one", "two"),
        lambda: saved.add("gone", ["a"]),
        lambda: saved.add("one", [str(number) for number in range(MOST_IMAGES + 1)]),
    ):
        with pytest.raises(RadSearchError):
            attempt()
    (tmp_path / "file").write_text("")
    with pytest.raises(RadSearchError, match="cannot be used"):
        Collections(tmp_path / "file").make("one")


def test_manifest_has_our_columns_and_names_the_pictures_of_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(MANIFEST_COLUMNS) == set(KNOWN)
    picture = webp_of(np.zeros((4, 4), np.uint8))
    monkeypatch.setattr(exporting, "picture_of", lambda thumbnail: picture if thumbnail else None)
    images = [
        Shown("a", Facts(Labels("CT", "chest", ("Mass", "Edema, left")), patient="p", dataset="d", age=63), "name"),
        Shown("b", Facts(Labels("US"))),
    ]
    rows = list(csv.DictReader(io.StringIO(manifest_of(images))))
    assert rows[0]["labels"] == "Mass;Edema, left"
    assert (rows[0]["filepath"], rows[0]["age"], rows[1]["region"]) == ("a.webp", "63", "")
    with zipfile.ZipFile(io.BytesIO(archive_of(images))) as archive:
        assert archive.namelist() == ["manifest.csv", "a.webp"]
        assert archive.read("a.webp") == picture


@pytest.fixture
def filled(settings: Settings, pseudonymizer: Pseudonymizer) -> Settings:
    with open_index(settings, create_for=[MODEL]) as index:
        index.write([IndexedImage(pseudonymizer.point_id("x", 1), {MODEL.model: np.eye(4, dtype=np.float32)[0]}, {})])
    return settings


def test_the_index_is_open_between_two_clicks_and_let_go_of_soon_after(filled: Settings) -> None:
    lease = Lease(filled)
    with lease.index() as first:
        assert first.count() == 1
    with lease.index() as second:
        assert second is first
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            open_index(filled, sole_writer=True).close()
        except IndexBusyError:
            continue
        break
    else:
        pytest.fail("nobody else got in")
    with lease.index() as third:
        assert third.count() == 1


def test_words_are_refused_before_a_model_that_cannot_read_them_is_loaded(filled: Settings) -> None:
    around = Surroundings(filled, Lease(filled), Embedders(filled), Originals(filled))
    card = IndexCard(models={MODEL.model: MODEL})
    with pytest.raises(EmbeddingError, match="cannot read text"):
        find(State(text="pneumonia"), [], card, around)
    assert not around.embedders.is_loaded(MODEL)


def test_an_ingest_gets_in_while_the_page_is_asked_without_a_pause(filled: Settings) -> None:
    lease, stop = Lease(filled), threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                with lease.index() as index:
                    index.count()
            except IndexBusyError:
                time.sleep(0.1)

    visitors = [threading.Thread(target=keep_asking) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    try:
        time.sleep(0.5)
        open_index(replace(filled, busy_wait_seconds=10), sole_writer=True).close()
    finally:
        stop.set()
        for visitor in visitors:
            visitor.join()


@pytest.mark.parametrize(
    "text", ["", "1-2-3", "0-0-0-10", "5-5-2-9", "0-0-1001-10", "a-b-c-d", "1-2-3-4-5", "0-0-99999-5"]
)
def test_what_is_no_part_of_a_picture_is_passed_over(text: str) -> None:
    assert state_of({"part": [text]}).part is None


def test_a_part_goes_with_its_image() -> None:
    state = State(ids=("a",), part=(1, 2, 3, 4))
    assert state.similar_to("b").part is None
    assert state.unasked().part is None
    assert state.judged("b", liked=True).part == (1, 2, 3, 4)
    assert sole_query(state, [])
    assert not sole_query(state, [object()])


def test_a_part_without_its_image_is_passed_over(filled: Settings, pseudonymizer: Pseudonymizer) -> None:
    around = Surroundings(filled, Lease(filled), Embedders(filled), Originals(filled))
    with around.lease.index() as index:
        card = index.card
    liked = State(liked=(pseudonymizer.point_id("x", 1),), part=(0, 0, 9, 9))
    assert find(liked, [], card, around).hits == []


def test_a_part_is_cut_out_of_a_picture() -> None:
    picture = np.zeros((100, 200), np.uint8)
    picture[50:, 100:] = 255
    whole = webp_of(picture)
    cut = np.asarray(Image.open(io.BytesIO(part_of(whole, (500, 500, 1000, 1000)))))
    assert cut.shape[:2] == (50, 100)
    assert cut[5:, 5:].min() > 240


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "nan,5", "40,0", "40,-3", "inf,2", "a,b", "1e13,3"])
def test_what_is_no_window_is_passed_over(text: str) -> None:
    assert window_of(text) is None


@pytest.mark.parametrize("window", [*CT_WINDOWS.values(), (0.25, 0.125)])
def test_a_window_survives_its_address(window: tuple[float, float]) -> None:
    assert window_of(text_of(window)) == window


@pytest.mark.parametrize("one", ["+" + "1" * 31, "{12345678123456781234567812345678}", "1_" + "1" * 30])
def test_an_id_is_as_the_index_writes_it(one: str) -> None:
    """What Python takes for a UUID the engine does not: it would be a traceback, or for ever in a collection."""
    assert not is_id(one)
    state = state_of({"id": [one], "like": [one], "unlike": [one, "nonsense"]})
    for point in (*state.ids, *state.liked, *state.disliked):
        assert is_id(point)


def test_an_id_that_is_none_is_kept_where_the_search_says_so() -> None:
    assert state_of({"id": ["nonsense", "ABCDEF00-0000-0000-0000-000000000000"], "unlike": ["nonsense"]}) == State(
        ids=("nonsense", "abcdef00-0000-0000-0000-000000000000")
    )


def test_a_number_of_any_length_is_passed_over() -> None:
    assert state_of({"shown": ["9" * 5000]}).shown == LOT


@pytest.mark.parametrize(
    "sent",
    [None, [], 7, "abcd", ["a", "b"], [None, None], [0, 0], [0, -1], [float("nan"), 1], [1, float("inf")], [1, 2, 3]],
)
def test_what_is_no_window_is_not_taken_from_a_browser(sent: object) -> None:
    assert window_in(sent) is None


@pytest.mark.parametrize(
    "sent", [None, [], ["a"] * 4, [None] * 4, [0, 0, 1001, 10], [5, 0, 5, 10], [-1, 0, 5, 5], [0.5, 0, 5, 5], [0, 0, 9]]
)
def test_what_is_no_part_is_not_taken_from_a_browser(sent: object) -> None:
    assert part_in(sent) is None


def test_windows_and_parts_come_from_a_browser() -> None:
    assert window_in([40, 400.5]) == (40.0, 400.5)
    assert part_in([0, 10, 1000, 500]) == (0, 10, 1000, 500)


def test_who_waits_goes_on_when_closing_fails(filled: Settings) -> None:
    lease = Lease(filled)
    with lease.index() as first:
        assert first.count() == 1
    entered, results = threading.Event(), []

    def wait() -> None:
        entered.set()
        with lease.index() as index:
            results.append(index.count())

    waiting = threading.Thread(target=wait, daemon=True)
    with lease.index() as index:
        close = index.close

    def fail() -> None:
        close()
        raise OSError("no room")

    index.close = fail  # type: ignore[method-assign]

    def leave() -> None:
        with lease.index():
            lease._due = True
            waiting.start()
            entered.wait()
            time.sleep(0.2)

    with pytest.raises(OSError, match="no room"):
        leave()
    waiting.join(10)
    assert results == [1]


def test_a_page_whose_terminal_is_closed_ends_as_by_a_sigterm() -> None:
    heard: list[int] = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
        signal.signal(signal.SIGHUP, hang_up)
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert heard == [signal.SIGTERM]


def test_a_server_that_does_not_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_END_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        serving.end(process)
        assert process.returncode == -signal.SIGKILL


def test_an_upload_that_was_read_is_taken_from_the_server_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit itself keeps it until the tab is closed."""
    manager = MemoryUploadedFileManager("/upload")
    for name in ("read", "another"):
        manager.add_file("session", UploadedFileRec(name, name, "", b"pixels"))
    context = SimpleNamespace(uploaded_file_mgr=manager, session_id="session")
    monkeypatch.setattr(asking, "get_script_run_ctx", lambda: context)
    asking._forget([SimpleNamespace(file_id="read")])  # type: ignore[list-item]
    assert [file.file_id for file in manager.get_files("session", ["read", "another"])] == ["another"]
