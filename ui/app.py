"""The page: drop an image, filter, see what looks like it."""

import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from radsearch.errors import RadSearchError, UnreadableImageError
from radsearch.index import open_index
from radsearch.privacy import load_pseudonymizer
from radsearch.search import Searcher, Wanted
from radsearch.settings import Settings, load_settings
from radsearch.study import Hit, SearchFilter
from ui.results import rows_of

_FIELDS = ("modality", "region", "pathology", "dataset")


def page() -> None:
    """Draw the page; every error is a sentence on it."""
    st.set_page_config(page_title="radsearch", layout="wide")
    st.title("radsearch")
    st.caption("Images that look like yours. For research, not for diagnosis.")
    try:
        settings = load_settings()
        where = _filters(settings)
        hits = _search(settings, where)
    except UnreadableImageError as error:
        st.error(f"This file cannot be searched by: {error.reason}.")
    except RadSearchError as error:
        st.error(str(error))
    except OSError as error:
        st.error(f"This file cannot be opened: {error.strerror}.")
    else:
        _show(hits)


def _filters(settings: Settings) -> SearchFilter:
    """Choices with their counts. The embedded index is held only while it is asked, so that an ingest can get in."""
    with open_index(settings) as index:
        counts = {name: index.facets(name, SearchFilter()) for name in _FIELDS}
        st.sidebar.metric("images indexed", f"{index.count():,}")
    modality, region, pathology, dataset = (_choice(name, counts[name]) for name in _FIELDS)
    return SearchFilter(modality, region, pathology, dataset=dataset)


def _choice(name: str, counts: dict[str | int, int]) -> tuple[str, ...]:
    values = [str(value) for value in counts]
    return tuple(st.sidebar.multiselect(name, values, format_func=lambda value: f"{value} ({counts[value]:,})"))


def _search(settings: Settings, where: SearchFilter) -> list[Hit] | None:
    uploaded = st.file_uploader("A DICOM, NIfTI, PNG or JPEG file")
    point = st.text_input("or the id of an indexed image")
    limit = st.sidebar.slider("hits", 1, 50, 10)
    same_patient = st.sidebar.toggle("also the query's own patient", value=False)
    wanted = Wanted(limit, where, allow_same_patient=same_patient)
    if uploaded is None and not point:
        return None
    pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
    with open_index(settings) as index:
        searcher = Searcher(index, settings, pseudonymizer)
        if uploaded is None:
            return searcher.by_id(point.strip(), wanted)
        index.admit((), pseudonymizer.check)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload"
            path.write_bytes(uploaded.getbuffer())
            return searcher.by_image(path, wanted)


def _show(hits: list[Hit] | None) -> None:
    if hits is None:
        st.info("Drop an image above, or name an indexed one.")
    elif not hits:
        st.info("No indexed image passes the filter.")
    else:
        rows: list[dict[str, Any]] = rows_of(hits)
        st.dataframe(rows, hide_index=True, width="stretch")


page()
