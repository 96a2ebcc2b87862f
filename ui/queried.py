"""What is searched by, beside its hits: files, indexed images, judged hits, words."""

import contextlib
from dataclasses import replace

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.index import Stored
from ui import session
from ui.cards import Shown
from ui.gallery import Action, show_grid
from ui.parting import draw_part, picture_of_original
from ui.pictures import part_of
from ui.searching import Surroundings, Upload
from ui.state import sole_query
from ui.viewer import Part

_DROP = Action("drop", "close", "Take this one out of the query", "Remove")
_PART = Action("part", "crop", "Search by a part of this picture", "Part")
_WIDTH = 130


def show_query(known: dict[str, Stored], shared: Surroundings) -> None:
    """All that is searched by, each with a way to take it back. Args: known: the indexed ones, by id."""
    state, uploads = session.current(), session.uploads()
    sole = sole_query(state, uploads)
    part = state.part if sole else None
    with st.container(gap="xsmall", width=150, key="query"):
        if state.text and not (state.ids or state.liked or uploads):
            st.caption("words")
            st.text(state.text)
        files = [_of_file(upload, part) for upload in uploads]
        points = [_of_point(point, known.get(point), part, shared) for point in state.ids]
        judged = [
            replace(_shown(point, known.get(point)), id=f"{field}/{point}", head=head, kind=field)
            for head, field in (("like", "liked"), ("unlike", "disliked"))
            for point in getattr(state, field)
        ]
        seen = [known[point] for point in state.ids if point in known]
        can_part = sole and (bool(uploads) or any(_has_original(point, shared) for point in seen))
        show_grid([*files, *points], (_DROP, _PART) if can_part else (_DROP,), key="queries", width=_WIDTH)
        if judged:
            show_grid(judged, (_DROP,), key="judged", width=_WIDTH)
        if can_part:
            draw_part(lambda: uploads[0].picture if uploads else picture_of_original(seen[0], shared))


def _of_file(upload: Upload, part: Part | None) -> Shown:
    picture = upload.picture if part is None else part_of(upload.picture, part)
    head = "file" if part is None else "part of the file"
    return Shown(f"file/{upload.token}", upload.facts, picture=picture, head=head, kind="query")


def _of_point(point: str, stored: Stored | None, part: Part | None, shared: Surroundings) -> Shown:
    """An indexed image; its part comes from the original, where that can be read (else the search says why not)."""
    image = replace(_shown(point, stored), id=f"ids/{point}", head="query", kind="query")
    if stored is not None and part is not None:
        with contextlib.suppress(RadSearchError):
            picture = part_of(picture_of_original(stored, shared), part)
            return replace(image, picture=picture, head="part of the query")
    return image


def _shown(point: str, stored: Stored | None) -> Shown:
    return Shown(point) if stored is None else Shown.of_point(stored)


def _has_original(stored: Stored, shared: Surroundings) -> bool:
    with contextlib.suppress(RadSearchError):
        return shared.originals.are_known(stored)
    return False
