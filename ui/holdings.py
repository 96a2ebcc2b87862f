"""What an index holds, in numbers that are cheap to ask for; patients and studies are not, and are left out.

The jobs are no resource of Streamlit's: any visitor can clear its caches.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from radsearch.index import Index, IndexCard
from radsearch.index.damage import bytes_on_disk
from radsearch.settings import Settings
from radsearch.study import SearchFilter
from ui.filters import Counts
from ui.jobs import Jobs
from ui.searching import Surroundings

FACETS = ("modality", "region", "dataset", "split")
_FRESH_SECONDS = 30
_made: list[Jobs] = []
_making = threading.Lock()
_last: dict[tuple[object, ...], "Holdings"] = {}


@dataclass(frozen=True, slots=True)
class Holdings:
    """An index as it was. by_model: images with a vector of each. bytes: of its segments, None of a server's."""

    card: IndexCard
    images: int
    by_model: Mapping[str, int]
    by_facet: Mapping[str, Counts]
    bytes: int | None
    when: float


def jobs() -> Jobs:
    """Of this process."""
    with _making:
        if not _made:
            _made.append(Jobs())
        return _made[0]


def holdings(shared: Surroundings) -> Holdings | None:
    """What the index holds, some seconds old at most.

    While an ingest of our own has an embedded index, nobody waits for it here: as it was before, None where that is
    not known.
    """
    settings = shared.settings
    place = shared.place
    if jobs().running("ingest") and not settings.on_server:
        return _last.get(place)
    now = _holdings(shared, (*place, jobs().state))
    _last[place] = now
    return now


@st.cache_data(ttl=_FRESH_SECONDS, max_entries=20, show_spinner=False)
def _holdings(_shared: Surroundings, key: tuple[object, ...]) -> Holdings:  # noqa: ARG001 -- what the cache goes by
    with _shared.index() as index:
        return _ask(index, _shared.settings)


def _ask(index: Index, settings: Settings) -> Holdings:
    everything = SearchFilter()
    by_model = index.facets("models", everything)
    return Holdings(
        index.card,
        index.count(),
        {name: by_model.get(name, 0) for name in index.card.models},
        {name: index.facets(name, everything) for name in FACETS},
        None if settings.on_server else bytes_on_disk(settings.index_folder),
        time.time(),
    )
