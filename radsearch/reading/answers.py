"""What a worker process answers, unpacked: a file may have taken the worker over, so only records pass."""

import importlib
import io
import pickle
from dataclasses import is_dataclass
from typing import Any

_ROOMS = ("radsearch.", "ingest.")
_BUILTINS = ("bytearray", "complex", "frozenset", "range", "set", "slice")
# What arrays and paths are made of.
_OTHERS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("pathlib", "PosixPath"),
    ("radsearch.errors", "_unreadable"),
}


class NoAnswerError(Exception):
    """What came from a worker is no answer of ours."""


def unpack(answer: bytes) -> Any:
    """Numbers, texts, arrays, paths, exceptions, and frozen records of ours, which do nothing when they are made.

    Raises:
        NoAnswerError: something else is in it, or it is damaged.
    """
    try:
        return _Records(io.BytesIO(answer)).load()
    except Exception as error:  # pickle promises no particular one
        raise NoAnswerError from error


class _Records(pickle.Unpickler):  # nosec B301 # what it makes is chosen below
    def find_class(self, module: str, name: str) -> Any:
        found = _found(module, name)
        if found is None:
            raise pickle.UnpicklingError(f"an answer of a worker holds {module}.{name}")
        return found


def _found(module: str, name: str) -> Any:
    """None for what may not pass. A name with a dot would reach into what a module imports."""
    if "." in name:
        return None
    if (module, name) in _OTHERS or (module == "builtins" and name in _BUILTINS):
        return getattr(importlib.import_module(module), name)
    if module != "builtins" and not module.startswith(_ROOMS):
        return None
    kind = getattr(importlib.import_module(module), name, None)
    return kind if isinstance(kind, type) and kind.__module__ == module and _is_harmless(kind) else None


def _is_harmless(kind: type) -> bool:
    return issubclass(kind, Exception) or (is_dataclass(kind) and kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]  # dataclasses' own
