"""A grid of images, with what can be done with each."""

from collections.abc import Callable, Sequence

import streamlit as st

from radsearch.errors import RadSearchError
from ui import session
from ui.cards import Shown, card_of
from ui.escaping import as_markdown
from ui.shared import collections

_CARD_PIXELS = 160


Actions = Callable[[Shown], None]


def show_grid(
    images: Sequence[Shown], actions: Actions, *, key: str, width: int = _CARD_PIXELS, below: Actions | None = None
) -> None:
    """As many columns as there is room for; `actions` draws the buttons below each, `below` what comes under them."""
    grid = st.grid("auto", min_column_width=width, key=key)
    state = session.current()
    for image in images:
        kind = "liked" if image.id in state.liked else "disliked" if image.id in state.disliked else ""
        with grid.cell(), st.container(gap="xxsmall"):
            st.html(card_of(image, kind=kind))
            with st.container(horizontal=True, gap="xxsmall", horizontal_alignment="distribute"):
                actions(image)
            if below is not None:
                below(image)


def search_actions(image: Shown) -> None:
    """Of a hit."""
    similar_button(image)
    _icon("like", "thumb_up", "More like this", image, lambda: _judge(image.id, liked=True))
    _icon("unlike", "thumb_down", "Less like this", image, lambda: _judge(image.id, liked=False))
    add_button(image)
    open_button(image)


def browse_actions(image: Shown) -> None:
    """Of an image that was not searched for."""
    similar_button(image)
    add_button(image)
    open_button(image)


def similar_button(image: Shown) -> None:
    """Search by this image."""
    _icon("similar", "image_search", "Find images similar to this one", image, lambda: _similar(image.id))


def add_button(image: Shown) -> None:
    """Into the collection that is chosen on this page."""
    name = st.session_state.get("collection")
    words = f"Add to {as_markdown(name)}" if name else "Add to a new collection"
    _icon("add", "bookmark_add", words, image, lambda: _add(image.id))


def open_button(image: Shown) -> None:
    """Its own page."""
    _icon("open", "open_in_full", "Open", image, lambda: go("study", image=image.id))


def go(page: str, **query: str) -> None:
    """Call it in a button's callback: the next run begins on that page."""
    st.session_state["go"] = (page, query)


def _icon(name: str, icon: str, words: str, image: Shown, act: Callable[[], None]) -> None:
    st.button("", icon=f":material/{icon}:", help=words, key=f"{name}-{image.id}", type="tertiary", on_click=act)


def _similar(point: str) -> None:
    session.set_uploads([])
    session.change(session.current().similar_to(point))
    go("search")


def _judge(point: str, *, liked: bool) -> None:
    session.change(session.current().judged(point, liked=liked))


def _add(point: str) -> None:
    saved = collections()
    try:
        name = saved.make(st.session_state.get("collection") or "Collection 1")
        saved.add(name, [point])
    except RadSearchError as error:
        st.session_state["notice"] = str(error)
        return
    st.session_state["collection"] = name
    st.toast(f"Added to {as_markdown(name)}")
