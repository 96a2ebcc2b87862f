"""The query and how it is to be answered: files, words, examples; models, fusion, grouping."""

from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from radsearch.errors import RadSearchError
from radsearch.index import IndexCard
from ui import session
from ui.searching import LARGEST_MEGABYTES, MOST_FILES, Surroundings, read_upload, speaking_models
from ui.state import EXPANSIONS, State
from ui.telling import say

_GROUPS = {"": "every image", "study": "best of each study", "patient": "best of each patient"}
_FUSIONS = {"rank": "by rank", "score": "by score"}
_ORDERS = {
    "": "nearest first", "k-reciprocal": "shared neighbours", "diffusion": "along neighbours",
    "votes": "votes of a study",
}  # fmt: skip


def ask_for_files(around: Surroundings) -> DeltaGenerator:
    """The widget for files, which needs no index. Gives the place beside it, for `ask_for_words`."""
    taken = st.session_state.setdefault("uploads-taken", 0)
    columns = st.columns([3, 2], vertical_alignment="top")
    with columns[0]:
        files = st.file_uploader(
            "Search by files: DICOM, NIfTI, PNG or JPEG",
            accept_multiple_files=True,
            key=f"upload-{taken}",
            max_upload_size=LARGEST_MEGABYTES,
            help="A file is read, rendered and forgotten; its picture stays in this browser tab's session only.",
        )
        if files:
            st.session_state["uploads-taken"] = taken + 1
            _take(files, around)
            _forget(files)
            st.rerun()
    return columns[1]


def ask_for_words(place: DeltaGenerator, card: IndexCard, around: Surroundings) -> None:
    """The widgets for words, where a model of the index reads them, and for an indexed image."""
    with place:
        if speaking_models(card, around.settings):
            st.text_input(
                "or by words", key=session.field_key("text"), on_change=_take_text, placeholder="pleural effusion"
            )
        st.text_input("or by the id of an indexed image", key="asked-id", on_change=_take_id)


def _take(files: list[st.runtime.uploaded_file_manager.UploadedFile], around: Surroundings) -> None:
    held = session.uploads()
    faults = []
    for file in files:
        if len(held) >= MOST_FILES:
            faults.append(f"A search takes {MOST_FILES} files at most; the others were left out.")
            break
        try:
            with st.spinner("Reading the file"):
                held = [*held, read_upload(file.getbuffer(), around.settings)]
        except RadSearchError as error:
            faults.append(str(error))
    if len(held) > len(session.uploads()):
        session.change(replace(session.current(), text="", part=None, shown=State().shown, anyway=False))
    session.set_uploads(held)
    st.session_state["faults"] = list(dict.fromkeys(faults))


def _forget(files: list[st.runtime.uploaded_file_manager.UploadedFile]) -> None:
    """Streamlit keeps an upload until the tab is closed; nobody asks for these again."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        for file in files:
            context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)


def _take_text() -> None:
    session.set_uploads([])
    session.change(replace(session.current().unasked(), text=st.session_state["field-text"].strip()))


def _take_id() -> None:
    point = st.session_state["asked-id"].strip()
    st.session_state["asked-id"] = ""
    if point:
        session.set_uploads([])
        session.change(session.current().similar_to(point))


def say_faults() -> None:
    """Once, what was wrong with the files that were dropped last."""
    for words in st.session_state.pop("faults", []):
        say(words)


def options(card: IndexCard) -> None:
    """How to search."""
    state = session.current()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(card.models) > 1:
            held = [*card.models, *(name for name in state.models if name not in card.models)]
            st.multiselect(
                "models", held, key=session.field_key("models"), on_change=session.on_field("models"),
                placeholder="the usual one", width=300,
            )  # fmt: skip
        if len(state.models) > 1:
            st.selectbox(
                "fused", list(_FUSIONS), key=session.field_key("fusion"), on_change=session.on_field("fusion"),
                format_func=_FUSIONS.__getitem__, width=130,
            )  # fmt: skip
        st.selectbox(
            "show", list(_GROUPS), key=session.field_key("group", ""),
            on_change=session.on_field("group", lambda value: value or None),
            format_func=_GROUPS.__getitem__, width=200,
        )  # fmt: skip
        st.selectbox(
            "order", list(_ORDERS), key=session.field_key("rerank", ""),
            on_change=session.on_field("rerank", lambda value: value or None),
            format_func=_ORDERS.__getitem__, width=170,
            help="Of the first 100 hits, by what they say of each other; the score stays the similarity to the query.",
        )  # fmt: skip
        st.selectbox(
            "query moved by", list(EXPANSIONS), key=session.field_key("expand"), on_change=session.on_field("expand"),
            format_func=_expansion_words, width=160,
            help="The first hits of other patients are added to the query, which is then asked anew.",
        )  # fmt: skip
        st.toggle(
            "also the query's own patient", key=session.field_key("same_patient"),
            on_change=session.on_field("same_patient"), help="Off: other patients only, as in an honest comparison.",
        )  # fmt: skip


def _expansion_words(count: int) -> str:
    return {0: "no hit", 1: "the first hit"}.get(count, f"the first {count} hits")
