"""One visitor's search: kept in the session, mirrored in the address, changed by widgets and buttons alike."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from radsearch.audit import Audit
from ui.searching import Answer, Upload
from ui.state import State, query_of, state_of


def begin(page: str) -> State:
    """Call it first on a page with a search or a filter: the state that its address means.

    Whoever comes from another page without any state in the address keeps the one he had there.
    """
    query = {name: st.query_params.get_all(name) for name in st.query_params}
    moved = st.session_state.get("page") != page
    if moved:
        close_dialogs()
    changed = st.session_state.pop("changed", False)  # by a click, which may know an address before the last one
    if query != st.session_state.get("query") and (query or not moved) and not changed:
        st.session_state["state"] = state_of(query)
    st.session_state["page"] = page
    return current()


def visit(page: str) -> None:
    """Call it on a page without a state in its address."""
    if st.session_state.get("page") != page:
        st.session_state.pop("opened", None)  # who comes back opens it again
    st.session_state["page"] = page
    close_dialogs()


def current() -> State:
    """The state as it is now."""
    state: State = st.session_state.setdefault("state", State())
    return state


def change(state: State) -> None:
    """From now on this is the state."""
    st.session_state["state"], st.session_state["changed"] = state, True
    close_dialogs()


def close_dialogs() -> None:
    """None of them is shown any more."""
    for name in ("part-drawn", "matched", "match-found"):
        st.session_state.pop(name, None)


def publish(**more: str) -> None:
    """Call it last: the address says what is shown."""
    query = query_of(current()) | {name: [value] for name, value in more.items() if value}
    st.session_state["query"] = query
    if query != {name: st.query_params.get_all(name) for name in st.query_params}:
        st.query_params.from_dict(query)


def field_key(name: str, none: str | None = None) -> str:
    """The key of the widget that shows a field of the state; its value is set to the state's, `none` for None."""
    key = f"field-{name}"
    value = getattr(current(), name)
    st.session_state[key] = list(value) if isinstance(value, tuple) else none if value is None else value
    return key


def on_field(name: str, read: Callable[[Any], Any] = lambda value: value) -> Callable[[], None]:
    """A callback that takes the widget's value into the state."""

    def take() -> None:
        value = st.session_state[f"field-{name}"]
        value = tuple(value) if isinstance(value, list) else value
        change(current().having(**{name: read(value), "shown": State().shown}))

    return take


def note_shown(audit: Audit, place: str, ids: Sequence[str]) -> None:
    """Into the audit, before these images are shown there; once while they stay."""
    noted: dict[str, frozenset[str]] = st.session_state.setdefault("noted", {})
    new = [point for point in ids if point not in noted.get(place, frozenset())]
    if new:
        audit.note("browse", ids=new)
    noted[place] = frozenset(ids)


def uploads() -> list[Upload]:
    """The files that this visitor searches by."""
    held: list[Upload] = st.session_state.setdefault("uploads", [])
    return held


def set_uploads(files: Sequence[Upload]) -> None:
    """Search by these files from now on."""
    st.session_state["uploads"] = list(files)


def remembered(key: object) -> Answer | None:
    """The answer of the last search, where it was this one."""
    last = st.session_state.get("last-search")
    return last[1] if last and last[0] == key else None


def remember(key: object, answer: Answer) -> None:
    """Keep an answer for the next click that asks for no other."""
    st.session_state["last-search"] = (key, answer)
