"""What the flows have in common: the index that a deployment names, and how a refusal becomes a failed run."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Failed

from radsearch.errors import RadSearchError, SettingsError
from radsearch.settings import Settings, load_settings, without_credentials


def settings_for(index: str | None) -> Settings:
    """The environment's settings, with the index that the deployment names.

    Raises:
        SettingsError: a variable is wrong, or the index's address holds a password, which a server would keep.
    """
    settings = load_settings()
    if index is None:
        return settings
    if without_credentials(index) != index:
        raise SettingsError("an index's address holds no password here: set RADSEARCH_QDRANT_API_KEY")
    return replace(settings, index=index)


def failed(error: RadSearchError) -> State[Any]:
    """A run that failed for a reason, which is its message: no traceback, and nothing else of the data."""
    return Failed(message=str(error))


def key_of(words: Sequence[str | Path]) -> str:
    """A name for an artifact: Prefect takes lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, words)).lower()).strip("-")
