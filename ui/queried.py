"""What is searched by, beside its hits: files, indexed images, judged hits, words."""

import contextlib
from collections.abc import Callable

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.index import Stored
from ui import session
from ui.cards import Shown, card_of, framed
from ui.parting import part_button, picture_of_original
from ui.pictures import part_of
from ui.searching import Surroundings
from ui.state import sole_query, without
from ui.viewer import Part

_REMOVE = "Take this one out of the query"


def show_query(known: dict[str, Stored], shared: Surroundings) -> None:
    """All that is searched by, each with a way to take it back. Args: known: the indexed ones, by id."""
    state = session.current()
    sole = sole_query(state, session.uploads())
    part = state.part if sole else None
    with st.container(gap="xsmall", width=140, key="query"):
        if state.text and not (state.ids or state.liked or session.uploads()):
            st.caption("words")
            st.text(state.text)
        for place, upload in enumerate(session.uploads()):
            picture = upload.picture if part is None else part_of(upload.picture, part)
            html = framed(picture, upload.facts, head="file" if part is None else "part of the file", kind="query")
            _example(html, f"file-{place}", "Do not search by this file", _dropping_file(place))
            if sole:
                part_button(lambda: upload.picture)  # noqa: B023 -- there is this one only
        for point in state.ids:
            stored = known.get(point)
            _example(_query_card(point, stored, part, shared), f"ids-{point}", _REMOVE, _dropping("ids", point))
            if sole and stored is not None and _has_original(stored, shared):
                part_button(lambda: picture_of_original(stored, shared))  # noqa: B023 -- likewise
        for head, field, kind in (("like", "liked", "liked"), ("unlike", "disliked", "disliked")):
            for point in getattr(state, field):
                html = card_of(_shown(point, known.get(point)), head=head, kind=kind)
                _example(html, f"{field}-{point}", _REMOVE, _dropping(field, point))


def _shown(point: str, stored: Stored | None) -> Shown:
    return Shown(point) if stored is None else Shown.of_point(stored)


def _query_card(point: str, stored: Stored | None, part: Part | None, shared: Surroundings) -> str:
    """Of an indexed image; its part comes from the original, where that can be read (else the search says why not)."""
    image = _shown(point, stored)
    if stored is not None and part is not None:
        with contextlib.suppress(RadSearchError):
            picture = part_of(picture_of_original(stored, shared), part)
            return framed(picture, image.facts, head="part of the query", kind="query")
    return card_of(image, head="query", kind="query")


def _has_original(stored: Stored, shared: Surroundings) -> bool:
    with contextlib.suppress(RadSearchError):
        return shared.originals.are_known(stored)
    return False


def _example(html: str, key: str, words: str, drop: Callable[[], None]) -> None:
    with st.container(gap="xxsmall"):
        st.html(html)
        st.button("Remove", icon=":material/close:", key=f"drop-{key}", help=words, type="tertiary", on_click=drop)


def _dropping(field: str, point: str) -> Callable[[], None]:
    def drop() -> None:
        state = session.current()
        session.change(state.having(**{field: without(getattr(state, field), point)}, part=None))

    return drop


def _dropping_file(place: int) -> Callable[[], None]:
    def drop() -> None:
        session.change(session.current().having(part=None))
        session.set_uploads([upload for number, upload in enumerate(session.uploads()) if number != place])

    return drop
