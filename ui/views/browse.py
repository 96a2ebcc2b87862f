"""Browse: what the index holds, as charts that filter on a click, and its images, a page at a time or by chance."""

import streamlit as st

from radsearch.index import Stored
from ui import session
from ui.cards import Shown
from ui.charts import show_charts
from ui.filters import where_of
from ui.gallery import BROWSE_ACTIONS, show_grid
from ui.keeping import choose_collection
from ui.searching import Surroundings
from ui.shared import around, overview
from ui.sidebar import show_filter
from ui.state import LOT, State, query_of
from ui.telling import say_empty, sentences


def draw() -> None:
    """The whole page."""
    state = session.begin("browse")
    with sentences():
        shared = around()
        counts = overview(state, shared)
        show_filter(counts)
        choose_collection()
        if not counts.total:
            say_empty()
        else:
            show_charts(counts)
            _images(state, counts.passing, shared)
    session.publish()


def _images(state: State, passing: int, shared: Surroundings) -> None:
    if not passing:
        st.info("No indexed image passes the filter.")
        return
    starts = _starts(state)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        first = LOT * (len(starts) - 1)
        by_chance = st.session_state.get("by-chance", False)
        last = min(first + LOT, passing)
        st.markdown("Images by chance" if by_chance else f"Images {first + 1:,} to {last:,} of {passing:,}")
        with st.container(horizontal=True, width="content"):
            st.button("By chance", icon=":material/shuffle:", key="chance", on_click=_by_chance)
            st.button(
                "Previous",
                icon=":material/chevron_left:",
                key="previous",
                on_click=_back,
                disabled=by_chance or len(starts) == 1,
            )
            next_button = st.empty()
    points, after = _lot(state, starts[-1], shared, by_chance=by_chance)
    if by_chance:
        next_button.button("In order", icon=":material/sort:", key="in-order", on_click=_in_order)
    else:
        next_button.button(
            "Next", icon=":material/chevron_right:", key="next", on_click=_forth, args=(after,), disabled=after is None
        )
    show_grid([Shown.of_point(point) for point in points], BROWSE_ACTIONS, key="images")


def _starts(state: State) -> list[str | None]:
    """Where the lots up to this one begin; anew where the filter is another."""
    where = query_of(state.unasked())
    if st.session_state.get("browsed") != where:
        st.session_state["browsed"], st.session_state["starts"] = where, [None]
        st.session_state.pop("lot", None)
    starts: list[str | None] = st.session_state["starts"]
    return starts


def _lot(state: State, start: str | None, shared: Surroundings, *, by_chance: bool) -> tuple[list[Stored], str | None]:
    """This lot's images, asked for once and not with every click."""
    kept: tuple[object, list[Stored], str | None] | None = st.session_state.get("lot")
    if kept is not None and kept[0] == (start, by_chance):
        return kept[1], kept[2]
    with shared.index() as index:
        if by_chance:
            points, after = index.drawn(where_of(state), LOT), None
        else:
            listing = index.listed(where_of(state), LOT, after=start)
            points, after = listing.points, listing.after
    shared.audit.note("browse", ids=[point.id for point in points])
    st.session_state["lot"] = ((start, by_chance), points, after)
    return points, after


def _by_chance() -> None:
    st.session_state["by-chance"] = True
    st.session_state.pop("lot", None)


def _in_order() -> None:
    st.session_state["by-chance"] = False


def _forth(after: str) -> None:
    starts = st.session_state["starts"]
    if after != starts[-1]:  # a second click that came before the first was answered
        starts.append(after)


def _back() -> None:
    if len(st.session_state["starts"]) > 1:
        st.session_state["starts"].pop()


draw()
