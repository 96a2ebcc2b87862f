"""Names of files and folders, which may tell who a patient is: shown only where the settings say so."""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from radsearch.settings import Settings

_HIDDEN = "[a path]"
_ABSOLUTE = r"(?<![\w/])(?:~[\w.-]*)?/"
_NEXT = re.compile(r"(?<=[\s'\"(=:,<\[])(?:~[\w.-]*)?/")
# Where a path's last part ends, which may hold spaces, commas and parentheses ("Doe, jane (1).dcm"): before what our
# sentences go on with, and before a fault in parentheses.
_STOP = re.compile(
    r"['\"](?!\w)|\s\((?P<fault>[^()]*)\)(?=$|[;:,.])|;(?=\s[a-z]+\s)|:\s|,\s(?=(?:is|does|holds|lacks)\s)"
    r"|\s(?:cannot|exists|holds|has (?:no|had|been)|is (?:no|not|damaged|in|a|the))\b"
)
_FAULTS = frozenset(os.strerror(number) for number in errno.errorcode)
_NO_PATHS = (("http://", "http:\0\0"), ("https://", "https:\0\0"), ("nput/output", "nput\1output"))


def without_paths(words: str, known: Iterable[Path | None] = ()) -> str:
    """A sentence without a path: whatever follows the beginning of one, as far as it may still be part of it.

    Args:
        words: a message. Addresses of servers stay in it.
        known: paths that it may name; of these also relative ones are found.
    """
    start, rest, said = _beginning(known), words, ""
    for plain, masked in _NO_PATHS:
        rest = rest.replace(plain, masked)
    while begun := start.search(rest):
        following = _NEXT.search(rest, begun.end())
        end = following.start() if following else len(rest)
        path = rest[begun.start() : end]
        kept = path[_end_of(path) :]
        said, rest = f"{said}{rest[: begun.start()]}{_HIDDEN}", kept + rest[end:]
    said += rest
    for plain, masked in _NO_PATHS:
        said = said.replace(masked, plain)
    return said


def _end_of(path: str) -> int:
    """Where a path that a sentence ends with, or goes on after, is over."""
    for stop in _STOP.finditer(path, path.rindex("/")):
        if stop["fault"] is None or _is_fault(stop["fault"]):
            return stop.start()
    return len(path.rstrip())


def _is_fault(words: str) -> bool:
    """Whether it is what the system or a library calls a fault, or begins so; else it may be a part of a name."""
    plain = words.replace("nput\1output", "nput/output")
    return plain.endswith("Error") or any(fault.startswith(plain) for fault in _FAULTS if plain)


def _beginning(known: Iterable[Path | None]) -> "re.Pattern[str]":
    """How a path begins: with a slash, or as one of the known ones, of which a single word alone may be any word."""
    relative = {str(path) for path in known if path is not None and not path.is_absolute()} - {".", ""}
    several = sorted(relative, key=len, reverse=True)
    words = [rf"(?<![\w/.-]){re.escape(one)}{'' if '/' in one else '(?=/)'}" for one in several]
    return re.compile("|".join([*words, _ABSOLUTE]))


def may_show(words: str, settings: Settings) -> str:
    """A message, with its paths only where `RADSEARCH_SHOW_FILE_NAMES` is 1."""
    if settings.show_file_names:
        return words
    index = None if "://" in settings.index else Path(settings.index)
    folders = (
        index, settings.archive_folder, settings.manifest, settings.reports_folder, settings.runs_folder,
        settings.secret_file, settings.settings_folder, settings.models_folder, settings.catalogue,
        settings.thumbnails_folder, settings.audit, settings.access,
    )  # fmt: skip
    files = (settings.manifest, settings.secret_file, settings.catalogue, settings.audit, settings.access)
    parents = [path.parent for path in files if path]
    return without_paths(words, (*folders, *parents))
