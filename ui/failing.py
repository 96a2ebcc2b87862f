"""The queries of a run that fail, as cards: what each was, and what its nearest neighbour was."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st

from radsearch.search import is_id
from ui import session
from ui.cards import Shown
from ui.gallery import BROWSE_ACTIONS, show_grid
from ui.holdings import jobs
from ui.miss_files import Miss, read_misses
from ui.searching import Surroundings
from ui.state import LOT

_FRESH_SECONDS = 60  # the index may be changed by others
_Found = list[tuple[Miss, Shown]]


def show_misses(folder: Path, shared: Surroundings) -> None:
    """In lots, the worst first.

    Raises:
        RadSearchError: the run's queries cannot be read, or the index cannot.
    """
    read = read_misses(folder)
    if not read.misses:
        st.caption("None: the nearest image of every query has a class in common with it.")
        return
    if jobs().running("ingest") and not shared.settings.on_server:
        st.caption(f"{read.number:,} queries; their pictures are shown when the ingest is done.")
        return
    slot = time.monotonic() // _FRESH_SECONDS
    found = _found(read.misses, (str(folder), read, shared.place, jobs().state, slot), shared)
    lots = -(-len(found) // LOT)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(_counted(read.number, len(read.misses), len(found)))
        page = st.pagination(lots, key="misses-page") if lots > 1 else 1
    some = [replace(shown, rest=_said(miss)) for miss, shown in found[LOT * (page - 1) : LOT * page]]
    session.note_shown(shared.audit, "misses", [image.id for image in some])
    show_grid(some, BROWSE_ACTIONS, key="misses")


def _found(misses: Sequence[Miss], key: object, shared: Surroundings) -> _Found:
    """Those that the index has, asked for once and not with every click."""
    kept: tuple[object, _Found] | None = st.session_state.get("misses-found")
    if kept is not None and kept[0] == key:
        return kept[1]
    with shared.index() as index:
        points = {point.id: point for point in index.retrieve([miss.id for miss in misses if is_id(miss.id)])}
    found = [(miss, Shown.of_point(points[miss.id])) for miss in misses if miss.id in points]
    st.session_state["misses-found"] = (key, found)
    return found


def _counted(number: int, kept: int, found: int) -> str:
    words = [f"{number:,} queries, the worst by mAP@10 first"]
    words += [f"the {kept:,} worst of them are shown"] * (kept < number)
    words += [f"{kept - found:,} are not in this index (any more) and are passed over"] * (found < kept)
    return "; ".join(words)


def _said(miss: Miss) -> str:
    own, other = (", ".join(name.rpartition("/")[2] for name in classes) for classes in (miss.classes, miss.found))
    if own == other:  # the same finding of another region or modality
        own, other = ", ".join(miss.classes), ", ".join(miss.found)
    return f"was {own}, nearest {other or 'none'}"
