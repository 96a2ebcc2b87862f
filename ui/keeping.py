"""The collection that the bookmark buttons of a page add to."""

import streamlit as st

from radsearch.errors import RadSearchError
from ui.saved import LONGEST_NAME
from ui.shared import collections
from ui.telling import noticed, say
from ui.visitor import present


def whose() -> str:
    """Who sees the collections, in a sentence."""
    private = present().account is not None
    return "Yours are seen by nobody else." if private else "They are shared by all who use this page."


def choose_collection() -> None:
    """In the sidebar: one that there is, or a new one by typing its name."""
    try:
        names = list(collections().names())
    except RadSearchError as error:  # no reason to show nothing else
        with st.sidebar:
            say(str(error))
        return
    chosen = st.session_state.get("collection")
    if chosen not in names:
        chosen = names[0] if names else None
    st.session_state["collection"] = st.session_state["chosen-collection"] = chosen
    st.sidebar.selectbox(
        "bookmark into collection",
        names,
        key="chosen-collection",
        on_change=_take,
        accept_new_options=True,
        index=None,
        placeholder="type a name for a new one",
        help=f"Up to {LONGEST_NAME} characters. {whose()}",
    )


def _take() -> None:
    name = st.session_state["chosen-collection"]
    with noticed():
        st.session_state["collection"] = collections().make(name) if name and name.strip() else None
