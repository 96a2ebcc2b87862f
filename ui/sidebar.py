"""The filter beside the pictures: facets with the number of images that each choice leaves."""

import streamlit as st

from radsearch.study import Span
from ui import session
from ui.filters import TITLES, Counts, Overview, options_of, with_count
from ui.state import State

_MAIN = ("modality", "region")
_MORE = ("dataset", "view", "sex")


def show_filter(overview: Overview) -> None:
    """Draw it; a choice changes the state before the next run."""
    with st.sidebar:
        line = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        line.markdown(f"**{overview.passing:,}** of {overview.total:,} images")
        if session.current() != session.current().unfiltered():
            line.button("Clear", key="clear-filter", on_click=_clear, type="tertiary", help="Remove the whole filter")
        for name in _MAIN:
            _words(name, overview.by_facet[name])
        _findings(overview)
        for name in _MORE:
            if overview.by_facet[name] or getattr(session.current(), name):
                _words(name, overview.by_facet[name])
        for name, title in (("age", "age in years"), ("year", "year")):
            _span(name, title, overview.by_facet[name])


def _clear() -> None:
    session.change(session.current().unfiltered())


def _words(name: str, counts: Counts, title: str | None = None) -> None:
    st.multiselect(
        title or TITLES.get(name, name),
        options_of(counts, getattr(session.current(), name)),
        key=session.field_key(name),
        on_change=session.on_field(name),
        format_func=lambda value: with_count(value, counts),
        placeholder="any",
    )


def _findings(overview: Overview) -> None:
    state = session.current()
    _words("pathology", overview.by_facet["pathology"], "finding: any of")
    with st.expander("all of, none of", expanded=bool(state.pathology_all or state.pathology_none)):
        _words("pathology_all", overview.by_facet["pathology_all"], "finding: all of")
        _words("pathology_none", overview.by_facet["pathology_all"], "finding: none of")


def _span(name: str, title: str, counts: Counts) -> None:
    """A slider over the values that there are; at both ends it is no condition, so that unknown ones pass too."""
    chosen: Span | None = getattr(session.current(), name)
    stated = [bound for bound in (chosen.low, chosen.high) if bound is not None] if chosen else []
    values = [*(int(value) for value in counts), *stated]
    if len(set(values)) < 2:  # noqa: PLR2004 -- one value leaves nothing to choose
        return
    low, high = min(values), max(values)
    key = f"field-{name}"
    low_now = low if chosen is None or chosen.low is None else chosen.low
    high_now = high if chosen is None or chosen.high is None else chosen.high
    st.session_state[key] = (max(low, low_now), max(min(high, high_now), low, low_now))

    def take() -> None:
        first, last = st.session_state[key]
        span = Span(first if first > low else None, last if last < high else None)
        wanted = None if span == Span() else span
        session.change(session.current().having(**{name: wanted, "shown": State().shown}))

    st.slider(title, low, high, key=key, on_change=take)
