"""What all sessions of the process share, each made once: settings, the open index, the models, the collections."""

from dataclasses import astuple

import streamlit as st

from radsearch.search import Embedders
from radsearch.settings import Settings, load_settings
from ui.filters import Overview, overview_of
from ui.lease import Lease
from ui.originals import Originals
from ui.saved import Collections
from ui.searching import Surroundings
from ui.state import FILTER_FIELDS, State

_COUNTS_SECONDS = 10


def around() -> Surroundings:
    """Settings, index and models; the models are loaded when a search first needs them."""
    settings = load_settings()
    key = tuple(map(str, astuple(settings)))
    return Surroundings(settings, _lease(settings, key), _embedders(settings, key), _originals(settings, key))


def collections() -> Collections:
    """Of the settings folder."""
    return Collections(load_settings().settings_folder)


def overview(state: State, shared: Surroundings) -> Overview:
    """What the filter's widgets show; some seconds old at most."""
    where = State().having(**{name: getattr(state, name) for name in FILTER_FIELDS})
    return _overview(shared, where, (shared.settings.index, shared.settings.collection, repr(where)))


@st.cache_resource(show_spinner=False)
def _lease(_settings: Settings, key: tuple[str, ...]) -> Lease:  # noqa: ARG001 -- what the cache goes by
    return Lease(_settings)


@st.cache_resource(show_spinner=False)
def _embedders(_settings: Settings, key: tuple[str, ...]) -> Embedders:  # noqa: ARG001
    return Embedders(_settings)


@st.cache_resource(show_spinner=False)
def _originals(_settings: Settings, key: tuple[str, ...]) -> Originals:  # noqa: ARG001
    return Originals(_settings)


@st.cache_data(ttl=_COUNTS_SECONDS, max_entries=200, show_spinner=False)
def _overview(_shared: Surroundings, _state: State, key: tuple[str, ...]) -> Overview:  # noqa: ARG001
    with _shared.lease.index() as index:
        return overview_of(index, _state)
