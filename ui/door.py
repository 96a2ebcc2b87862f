"""The page's door: who has to log in does so here, before anything else is drawn."""

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.settings import load_settings
from ui.opening import login_is_configured, require_safe
from ui.telling import say
from ui.visitor import Visitor, audit, visitor


def let_in() -> Visitor:
    """The visitor; whoever may not see anything sees why, and this run of the page ends."""
    try:
        require_safe(st.get_option("server.address"), host=st.context.headers.get("Host"))
        known = visitor()
        if known is None:
            _ask_to_log_in()
        else:
            _greet(known)
    except RadSearchError as error:
        say(str(error))
        st.stop()
    if known is None or known.datasets == ():
        st.stop()
    return known


def stay() -> None:
    """Call it first in a fragment, which runs without the page's top: all of it is run where the visitor is another."""
    try:
        known = visitor()
    except RadSearchError:
        known = None  # the door says why
    if known is None or known != st.session_state.get("visitor"):
        st.rerun()


def log_out() -> None:
    """A line in the sidebar, where there is an account to leave."""
    if login_is_configured():
        st.sidebar.button("Log out", icon=":material/logout:", key="log-out", on_click=st.logout, type="tertiary")


def _greet(known: Visitor) -> None:
    """Into the audit, once a session; what another one has left in it is gone."""
    last = st.session_state.get("visitor")
    if last != known:
        if last is not None:
            st.session_state.clear()
        if known.account is not None:
            audit(load_settings()).note("denied" if known.datasets == () else "login")
        st.session_state["visitor"] = known
    if known.datasets == ():
        st.error("Your account may see no data set. Who looks after this archive can change that.")
        st.button("Log out", key="log-out", on_click=st.logout)


def _ask_to_log_in() -> None:
    if "visitor" in st.session_state:
        st.session_state.clear()
    st.title("radsearch", anchor=False)
    st.write("This archive is open to those who log in.")
    st.button("Log in", key="log-in", type="primary", icon=":material/login:", on_click=st.login)
