"""Names of files and folders, which may tell who a patient is: shown only where the settings say so."""

import re
from collections.abc import Iterable
from pathlib import Path

from radsearch.settings import Settings

_REST = r"[^\s'\"]*"
_PATH = re.compile(rf"(?<![\w/])~?/{_REST}")
_HIDDEN = "[a path]"


def without_paths(words: str, known: Iterable[Path | None] = ()) -> str:
    """A sentence without a path: neither one that is known, which may hold spaces, nor what looks like one.

    Args:
        words: a message.
        known: paths that it may name.
    """
    for path in sorted({str(path) for path in known if path is not None} - {".", "/"}, key=len, reverse=True):
        words = re.sub(re.escape(path) + _REST, _HIDDEN, words)
    return _PATH.sub(_HIDDEN, words)


def may_show(words: str, settings: Settings) -> str:
    """A command's sentence, with its paths only where `RADSEARCH_SHOW_FILE_NAMES` is 1."""
    if settings.show_file_names:
        return words
    folders = (settings.archive_folder, settings.manifest, settings.reports_folder, settings.runs_folder)
    absolute = [path.absolute() for path in folders if path is not None]
    return without_paths(words, (*folders, *absolute, Path(settings.index)))
