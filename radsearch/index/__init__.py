"""The collection of vectors: a folder (Qdrant Edge, in process) or a URL (a Qdrant server) behind one interface."""

from collections.abc import Sequence

from radsearch.index.base import Index
from radsearch.index.folder import read_ahead
from radsearch.index.granted import granted
from radsearch.index.records import IndexCard, IndexedImage, Listing, Stored
from radsearch.index.schema import FACET_FIELDS
from radsearch.settings import Settings
from radsearch.study import Fingerprint

__all__ = [
    "FACET_FIELDS",
    "Index",
    "IndexCard",
    "IndexedImage",
    "Listing",
    "Stored",
    "granted",
    "open_index",
    "read_ahead",
]


def open_index(settings: Settings, *, create_for: Sequence[Fingerprint] = (), sole_writer: bool = False) -> Index:
    """Open the index that `settings.index` names: a URL or a folder.

    Args:
        settings: where it is, how long to wait for it.
        create_for: models that a new index is made for, where there is none yet; empty to make none.
        sole_writer: for who writes. Nobody else writes into a folder until this is closed, and readers are let in
            between two writes.

    Raises:
        IndexMissingError: there is none (and none is to be made), or the folder holds something else.
        IndexBusyError: another process holds the folder.
        IndexUnreachableError: the server does not answer.
    """
    if settings.on_server:
        from radsearch.index.server import open_server_index

        return open_server_index(settings, create_for=create_for, sole_writer=sole_writer)
    from radsearch.index.embedded import open_embedded_index

    return open_embedded_index(settings, create_for=create_for, sole_writer=sole_writer)
