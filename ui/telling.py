"""What went wrong, in a sentence on the page; where the index is busy the page comes back by itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from radsearch.errors import IndexBusyError, IndexMissingError, RadSearchError
from radsearch.settings import Settings, load_settings
from ui.escaping import as_markdown
from ui.hiding import may_show

_AGAIN_SECONDS = 3.0


@contextmanager
def sentences() -> Iterator[None]:
    """Say every error that a person can act on; a bug keeps its traceback, in the server's log."""
    try:
        yield
    except IndexBusyError:
        st.warning(
            "The index is in use by another program, most likely an ingest. This page tries again by itself.",
            icon=":material/hourglass_top:",
        )
        st.session_state["busy-since"] = time.monotonic()
        _try_again()
    except IndexMissingError as error:
        say(str(error))
        st.info("To make an index: python -m ingest FOLDER. To see one with real studies: make demo.")
    except RadSearchError as error:
        say(str(error))


@contextmanager
def noticed() -> Iterator[None]:
    """For a callback: an error that a person can act on is said by the run that follows."""
    try:
        yield
    except RadSearchError as error:
        st.session_state["notice"] = str(error)


def say(words: str) -> None:
    """Say that something could not be done; the words may hold anything."""
    st.error(_to_show(words))


def say_empty() -> None:
    """Say that there is no image yet, and how one comes."""
    st.info("The index is empty. Images come into it with: python -m ingest FOLDER")


def _to_show(words: str) -> str:
    """As Markdown, without the paths that the settings do not show."""
    try:
        settings = load_settings()
    except RadSearchError:  # which may be what is said
        settings = Settings()
    plain = may_show(words, settings)
    return as_markdown(plain[:1].upper() + plain[1:])


@st.fragment(run_every=_AGAIN_SECONDS)
def _try_again() -> None:
    if time.monotonic() - st.session_state["busy-since"] >= _AGAIN_SECONDS - 1:
        st.rerun()
