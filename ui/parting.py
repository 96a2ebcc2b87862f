"""Search by a part of a picture: it is drawn in a dialog, with the pointer or by two sliders."""

from collections.abc import Callable

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.index import Stored
from ui import session
from ui.door import stay
from ui.pictures import address_of, webp_of
from ui.searching import Surroundings
from ui.state import State, sole_query
from ui.telling import say
from ui.viewer import WHOLE, Part, View, show_picture

_LEAST = 20  # thousandths: less is a click
_WORDS = "Search by a part of this picture"


def draw_part(read_picture: Callable[[], bytes]) -> None:
    """The dialog, where it was asked for.

    Args:
        read_picture: is called when it is needed; may raise RadSearchError.
    """
    if st.session_state.get("part-drawn"):
        _draw(read_picture)


def picture_of_original(point: Stored, shared: Surroundings) -> bytes:
    """An indexed image's picture, from its original. Raises RadSearchError."""
    return webp_of(shared.originals.picture(point))


def _forget() -> None:
    st.session_state.pop("part-drawn", None)


@st.dialog(_WORDS, width="medium", on_dismiss=_forget)
def _draw(read_picture: Callable[[], bytes]) -> None:
    stay()
    try:
        address = address_of(read_picture())
    except RadSearchError as error:
        say(str(error))
        return
    part: Part = st.session_state.get("part-drawn") or WHOLE
    left, top, right, bottom = part
    view = View(address or "", "The picture to search by", part=part, height="min(55vh, 520px)")
    show_picture(view, key="part-viewer", on_part=_take)
    st.caption("Draw a frame around the finding, or set its edges here, in percent of the picture.")
    st.session_state["part-across"] = left / 10, right / 10
    st.session_state["part-down"] = top / 10, bottom / 10
    columns = st.columns(2)
    columns[0].slider("left and right", 0.0, 100.0, step=0.5, key="part-across", on_change=_take_sliders, format="%d")
    columns[1].slider("top and bottom", 0.0, 100.0, step=0.5, key="part-down", on_change=_take_sliders, format="%d")
    with st.container(horizontal=True):
        if st.button("Search by this part", type="primary", key="part-search", disabled=part == WHOLE):
            _search(part)
        if st.button("By the whole picture", key="part-whole"):
            _search(None)


def _take(part: Part) -> None:
    if part[2] - part[0] >= _LEAST and part[3] - part[1] >= _LEAST:
        st.session_state["part-drawn"] = part


def _take_sliders() -> None:
    (left, right), (top, bottom) = st.session_state["part-across"], st.session_state["part-down"]
    _take((round(left * 10), round(top * 10), round(right * 10), round(bottom * 10)))


def _search(part: Part | None) -> None:
    _forget()
    state = session.current()
    session.change(state.having(part=part if sole_query(state, session.uploads()) else None, shown=State().shown))
    st.rerun()
