"""Search: what to search by, the filter, and the images that look like it."""

from collections.abc import Sequence

import streamlit as st

from radsearch.index import IndexCard, Stored
from radsearch.search import is_id
from radsearch.study import Hit, SearchFilter
from ui import session
from ui.asking import ask_for_files, ask_for_words, options, say_faults
from ui.cards import Shown
from ui.escaping import as_markdown
from ui.filters import Overview
from ui.gallery import BROWSE_ACTIONS, IMAGE_SEARCH_ACTIONS, SEARCH_ACTIONS, show_grid
from ui.keeping import choose_collection
from ui.matching import draw_match
from ui.queried import show_query
from ui.searching import Answer, Surroundings, asks_for_something, find
from ui.shared import around, overview
from ui.sidebar import show_filter
from ui.state import LOT, MOST_SHOWN, State
from ui.telling import say_empty, sentences


def draw() -> None:
    """The whole page; the address is the last thing to be set."""
    state = session.begin("search")
    with sentences():
        shared = around()
        beside = ask_for_files(shared)
        counts = overview(state, shared)
        ask_for_words(beside, counts.card, shared)
        show_filter(counts)
        choose_collection()
        say_faults()
        if not counts.total:
            say_empty()
        elif not asks_for_something(state, session.uploads()):
            _invite(shared)
        else:
            _answer(state, counts, shared)
    session.publish()


def _invite(shared: Surroundings) -> None:
    """Something to begin with."""
    st.info("Drop an image above: its neighbours appear here. Or begin with one of these.")
    drawn: list[Shown] | None = st.session_state.get("invitation")
    if drawn is None:
        with shared.index() as index:
            drawn = [Shown.of_point(point) for point in index.drawn(SearchFilter(), LOT // 2)]
        st.session_state["invitation"] = drawn
    session.note_shown(shared.audit, "invitation", [image.id for image in drawn])
    show_grid(drawn, BROWSE_ACTIONS, key="invitation-grid")


def _answer(state: State, counts: Overview, shared: Surroundings) -> None:
    """The query beside its hits."""
    known = _known(state, shared)
    with st.container(horizontal=True, wrap=False, gap="medium", key="answer"):
        show_query(known, shared)
        with st.container():
            options(counts.card)
            _show_answer(state, _find(state, counts, shared))
    draw_match()


def _find(state: State, counts: Overview, shared: Surroundings) -> Answer:
    """Asked for anew only where the question is another, or the index holds other images."""
    key = (state, [upload.token for upload in session.uploads()], counts.card, counts.total, shared.settings.index)
    answer = session.remembered(key)
    if answer is None:
        with st.spinner(_waiting_words(counts.card, shared), show_time=True):
            answer = find(state, session.uploads(), counts.card, shared)
        session.remember(key, answer)
    return answer


def _show_answer(state: State, answer: Answer) -> None:
    for remark in answer.remarks:
        st.caption(as_markdown(remark))
    if answer.strange is None:
        _show_hits(state, answer.hits)
        return
    compared = as_markdown(str(answer.strange))
    st.info(f"Nothing similar enough in this archive: {compared}.", icon=":material/search_off:")
    st.button("Show the nearest all the same", key="anyway", on_click=_insist)


def _insist() -> None:
    session.change(session.current().having(anyway=True))


def _show_hits(state: State, hits: Sequence[Hit]) -> None:
    if not hits:
        st.info("No indexed image passes the filter. Fewer conditions, or the query's own patient, may help.")
        return
    by_image = bool(session.uploads() or state.ids or state.liked)
    actions = IMAGE_SEARCH_ACTIONS if by_image else SEARCH_ACTIONS
    show_grid([Shown.of_hit(hit) for hit in hits], actions, key="hits")
    if len(hits) < state.shown:
        st.caption(f"{len(hits)} hits; there are no more under this filter.")
    elif state.shown < MOST_SHOWN:
        st.button(f"{LOT} more", key="more", on_click=_more, width="stretch", icon=":material/expand_more:")


def _more() -> None:
    state = session.current()
    session.change(state.having(shown=min(state.shown + LOT, MOST_SHOWN)))


def _known(state: State, shared: Surroundings) -> dict[str, Stored]:
    """The indexed images that are searched by, remembered while the query stays."""
    wanted = (*state.ids, *state.liked, *state.disliked)
    kept: dict[str, Stored] = st.session_state.setdefault("known", {})
    missing = [point for point in wanted if point not in kept]
    if missing:
        with shared.index() as index:
            found = index.retrieve([point for point in missing if is_id(point)])
        kept |= {point.id: point for point in found}
    session.note_shown(shared.audit, "query", [point for point in wanted if point in kept])  # the search may fail
    return kept


def _waiting_words(card: IndexCard, shared: Surroundings) -> str:
    if any(shared.embedders.is_loaded(held) for held in card.models.values()):
        return "Searching"
    return "Searching; the first search by a file or by words loads the model"


draw()
