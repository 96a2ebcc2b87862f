"""What the flows have in common: the index that a deployment names, what is tried again, how a refusal is told."""

import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.tasks import Task

from radsearch.errors import IndexBusyError, IndexRefusedError, IndexUnreachableError, RadSearchError, SettingsError
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


def is_transient(error: object) -> bool:
    """Only the disk, the network and the index are worth another try: a bug stays a bug."""
    passing = (OSError, IndexUnreachableError, IndexBusyError)
    return isinstance(error, passing) and not isinstance(error, IndexRefusedError)


def retry_if_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """A task's `retry_condition_fn`."""
    return is_transient(state.result(raise_on_failure=False))


def folder_named(path: str | Path) -> Path:
    """A folder as a deployment names it, `~` and all. Raises SettingsError where no folder can have that name."""
    try:
        if "\0" in str(path):
            raise SettingsError("a folder's name holds no NUL")
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"{path} is in the home of a user who is not known here") from error


class NamelessError(Exception):
    """A bug, told by where it was met."""


def nameless(error: Exception) -> Exception:
    """The same error without its words, which may hold a file's name; where it was raised is said instead."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, os.strerror(error.errno))
    if isinstance(error, NamelessError):
        return error
    where = traceback.extract_tb(error.__traceback__)[-1]
    return NamelessError(f"{type(error).__name__} in {Path(where.filename).name}, line {where.lineno}")


def key_of(words: Sequence[str | Path]) -> str:
    """A name for an artifact: Prefect takes lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, words)).lower()).strip("-")
