"""Collections: saved sets of images with notes, to look at and to take away."""

from dataclasses import replace

import streamlit as st

from radsearch.search import is_id
from ui import session
from ui.cards import Shown
from ui.exporting import archive_of, manifest_of, noted, table_of
from ui.gallery import SAVED_ACTIONS, show_grid
from ui.keeping import whose
from ui.saved import LONGEST_NOTE, Saved
from ui.shared import around, collections
from ui.state import LOT
from ui.telling import noticed, sentences
from ui.visitor import still_present


def draw() -> None:
    """The chosen collection."""
    session.visit("collections")
    with sentences():
        names = collections().names()
        st.caption(f"Collections are kept on this server. {whose()} Images stay in the index.")
        if not names:
            st.info("There is no collection yet. A bookmark below any image makes the first one.")
            return
        saved = collections().read(_choose(names))
        if saved is not None:
            _show(saved)


def _choose(names: dict[str, int]) -> str:
    wanted = st.session_state.get("collection") or st.query_params.get("name")
    name = wanted if wanted in names else next(iter(names))
    st.session_state["shown-collection"] = name
    chosen: str = st.selectbox(
        "collection",
        list(names),
        key="shown-collection",
        on_change=lambda: st.session_state.update(collection=st.session_state["shown-collection"]),
        format_func=lambda one: f"{one} ({names[one]:,})",
    )
    st.session_state["collection"] = chosen
    st.query_params.from_dict({"name": chosen})
    return chosen


def _show(saved: Saved) -> None:
    with around().index() as index:
        found = {point.id: point for point in index.retrieve([point for point in saved.notes if is_id(point)])}
    images = [Shown.of_point(found[point]) for point in saved.notes if point in found]
    key = f"note-{saved.name}"
    st.session_state[key] = saved.note  # as it is now, whoever wrote it
    st.text_area("note", key=key, on_change=_note, args=(saved.name,), max_chars=LONGEST_NOTE, height=80)
    lost = len(saved.notes) - len(images)
    if lost:
        st.warning(f"{lost:,} of its images are not in this index (any more); they are left out of what is exported.")
    _take_away(saved, images)
    if not images:
        st.info("No image is in it yet. A bookmark below any image adds it here.")
    page = st.pagination(-(-len(images) // LOT), key="collection-page") if len(images) > LOT else 1
    some = images[LOT * (page - 1) : LOT * page]
    session.note_shown(around().audit, "collection", [image.id for image in some])
    show_grid([replace(image, note=saved.notes[image.id]) for image in some], SAVED_ACTIONS, key="saved")


def _take_away(saved: Saved, images: list[Shown]) -> None:
    audit, require, ids = around().audit, still_present(), [image.id for image in images]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, suffix, kind, make in (
            ("Table (CSV)", "csv", "text/csv", lambda: table_of(images, saved.notes)),
            ("Manifest (CSV)", "manifest.csv", "text/csv", lambda: manifest_of(images)),
            ("Pictures (ZIP)", "zip", "application/zip", lambda: archive_of(images)),
        ):
            st.download_button(
                label, noted(make, audit, require, what=suffix, ids=ids), f"collection.{suffix}", kind,
                key=f"take-{suffix}", on_click="ignore", disabled=not images, icon=":material/download:",
            )  # fmt: skip
        with st.popover("Rename or remove", icon=":material/edit:"):
            st.text_input("new name", saved.name, key=f"name-{saved.name}", on_change=_rename, args=(saved.name,))
            st.button("Remove this collection", key="drop", on_click=_drop, args=(saved.name,))


def _note(name: str) -> None:
    with noticed():
        collections().note(name, st.session_state[f"note-{name}"])


def _rename(name: str) -> None:
    with noticed():
        st.session_state["collection"] = collections().rename(name, st.session_state[f"name-{name}"])


def _drop(name: str) -> None:
    with noticed():
        collections().drop(name)
        st.session_state["collection"] = None


draw()
