"""What a worker process answers, packed and unpacked: a file may have taken the worker over, so only records pass.

All but plain values is packed as a call of one of the makers below, so that no class crosses: of a class that a pickle
can name it can also set the attributes, and of numpy's own it can make arrays over any memory.
"""

import importlib
import io
import pickle
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radsearch import errors

_ROOMS = ("radsearch.", "ingest.")
_BUILTINS = (complex, frozenset, range, set, slice)
_PLAIN_NUMBERS = re.compile(r"[<>|][biufc]\d{1,2}")
_PROTOCOL = 5  # the first with bytes that may be written to, as an array's have to be


class NoAnswerError(Exception):
    """What came from a worker is no answer of ours."""


def pack(answer: object) -> bytes:
    """For `unpack`. Raises what pickle raises for what it does not know."""
    stream = io.BytesIO()
    _Packer(stream, _PROTOCOL).dump(answer)
    return stream.getvalue()


def unpack(answer: bytes) -> Any:
    """Numbers, texts, arrays, paths, errors of ours and of the system, and frozen records of ours.

    Nothing is called that does more than make one of these.

    Raises:
        NoAnswerError: something else is in it, or it is damaged.
    """
    try:
        return _Unpacker(io.BytesIO(answer)).load()
    except Exception as error:  # pickle promises no particular one
        raise NoAnswerError from error


class _Maker:
    """A function under its name in this module; a pickle can call it, and do nothing else with it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *parts: Any) -> Any:
        return self._make(*parts)

    def __reduce__(self) -> str:
        return self._make.__name__.removeprefix("_make")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("an answer of a worker would change what makes it")


def _make_array(numbers: bytearray, kind: str, shape: tuple[int, ...]) -> Any:
    if not _PLAIN_NUMBERS.fullmatch(kind):
        raise pickle.UnpicklingError(f"an answer of a worker holds an array of {kind}")
    return np.frombuffer(numbers, kind).reshape(shape)


def _make_number(numbers: bytearray, kind: str) -> Any:
    return _make_array(numbers, kind, (1,))[0]


def _make_path(path: str) -> Path:
    return Path(path)


def _make_record(room: str, name: str, values: tuple[Any, ...]) -> Any:
    kind = getattr(importlib.import_module(room), name, None) if room.startswith(_ROOMS) else None
    if not isinstance(kind, type) or kind.__module__ != room or not _is_record(kind):
        raise pickle.UnpicklingError(f"an answer of a worker holds {room}.{name}")
    record: Any = object.__new__(kind)
    for field, value in zip(fields(kind), values, strict=True):
        object.__setattr__(record, field.name, value)
    return record


def _make_error(name: str, words: tuple[Any, ...], facts: dict[str, Any]) -> errors.RadSearchError:
    kind = getattr(errors, name)
    if not issubclass(kind, errors.RadSearchError):
        raise pickle.UnpicklingError(f"an answer of a worker holds {name}")
    error: errors.RadSearchError = kind.__new__(kind, *words)
    vars(error).update(facts)
    return error


def _make_fault(words: tuple[Any, ...]) -> OSError:
    return OSError(*words)


_array, _number, _path = _Maker(_make_array), _Maker(_make_number), _Maker(_make_path)
_record, _error, _fault = _Maker(_make_record), _Maker(_make_error), _Maker(_make_fault)
_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    **{(__name__, maker.__reduce__()): maker for maker in (_array, _number, _path, _record, _error, _fault)},
    **{("builtins", kind.__name__): kind for kind in _BUILTINS},
}


class _Packer(pickle.Pickler):
    def reducer_override(self, one: Any) -> Any:
        """How a value is packed that is none of pickle's own."""
        if isinstance(one, np.ndarray | np.number | np.bool_) and _PLAIN_NUMBERS.fullmatch(one.dtype.str):
            shape = (one.shape,) if isinstance(one, np.ndarray) else ()
            return _array if shape else _number, (bytearray(one.tobytes()), one.dtype.str, *shape)
        if isinstance(one, Path):
            return _path, (str(one),)
        if isinstance(one, errors.RadSearchError):
            return _error, (type(one).__name__, one.args, vars(one))
        if isinstance(one, OSError):
            return _fault, ((str(one),) if one.errno is None else (one.errno, one.strerror, one.filename),)
        if _is_record(type(one)):
            room, name = type(one).__module__, type(one).__name__
            return _record, (room, name, tuple(getattr(one, field.name) for field in fields(one)))
        return NotImplemented


class _Unpacker(pickle.Unpickler):  # nosec B301 # what it makes is chosen below
    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"an answer of a worker holds {module}.{name}")
        return found


def _is_record(kind: type) -> bool:
    return is_dataclass(kind) and bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]  # dataclasses' own
