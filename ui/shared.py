"""What all sessions of the process share, each made once: settings, the open index, the models, the collections."""

import importlib
import threading
from contextlib import suppress
from dataclasses import replace

import streamlit as st

from radsearch.audit import audit_of
from radsearch.errors import RadSearchError
from radsearch.index import read_ahead
from radsearch.search import Embedders
from radsearch.settings import Settings, load_settings
from ui.filters import Overview, overview_of
from ui.lease import Lease
from ui.originals import Originals
from ui.saved import Collections
from ui.searching import Surroundings, settle
from ui.state import FILTER_FIELDS, State
from ui.visitor import present

_COUNTS_SECONDS = 10
_made: dict[Settings, Surroundings] = {}
_making = threading.Lock()


def around() -> Surroundings:
    """Settings, index and models as the visitor of this session may see them.

    Raises:
        NotAllowedError: there is none, as nobody has logged in.
    """
    seen = present()
    shared = _everything()
    return replace(shared, datasets=seen.datasets, audit=audit_of(shared.settings, seen.name))


def _everything() -> Surroundings:
    """The models are loaded when a search first needs them."""
    settings = load_settings()
    with _making:
        if settings not in _made:
            _made[settings] = Surroundings(settings, Lease(settings), Embedders(settings), Originals(settings))
        return _made[settings]


def warm_up() -> None:
    """Do now what the first visitor would wait for: open the index, and import what Streamlit needs for a grid."""
    with suppress(RadSearchError):
        shared = _everything()
        if not shared.settings.on_server:
            read_ahead(shared.settings.index_folder)
        with shared.index():
            pass
    importlib.import_module("pandas")
    settle()


def collections() -> Collections:
    """Of the settings folder: those of who has logged in, which nobody else sees; else those of all."""
    return Collections(load_settings().settings_folder, owner=present().account)


def overview(state: State, shared: Surroundings) -> Overview:
    """What the filter's widgets show; some seconds old at most."""
    where = State().having(**{name: getattr(state, name) for name in FILTER_FIELDS})
    return _overview(shared, where, (*shared.place, repr(where)))


@st.cache_data(ttl=_COUNTS_SECONDS, max_entries=200, show_spinner=False)
def _overview(_shared: Surroundings, _state: State, key: tuple[object, ...]) -> Overview:  # noqa: ARG001
    with _shared.index() as index:
        return overview_of(index, _state)
