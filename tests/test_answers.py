"""A worker's answers: records pass as they are, and nothing that would do anything when it is made."""

import builtins
import errno
import importlib
import os
import pickle
import subprocess
from collections.abc import Callable
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsearch.errors import DiskFullError, UnknownNameError, UnreadableImageError
from radsearch.reading import answers
from radsearch.reading.answers import NoAnswerError, pack, unpack
from radsearch.reading.isolation import IsolatedPool, Refusal
from radsearch.reading.worker import Raised
from radsearch.study import Facts, Labels


@pytest.mark.parametrize(
    "answer",
    [
        "text", 7, None, 1.5, b"bytes", {"a": [1, (2,)]}, frozenset({1}), Path("/a/b"),
        Refusal("damaged", skipped=True),
        Facts(Labels("CT", "chest", ("a",)), age=3, extra={"a": "b"}),
    ],
)  # fmt: skip
def test_a_record_passes_as_it_is(answer: object) -> None:
    passed = unpack(pack(answer))
    assert (type(passed), passed) == (type(answer), answer)


@pytest.mark.parametrize("kind", ["?", "u1", "<i2", ">u2", "<i8", "<f4", "<f8", "<c16"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (2, 3, 4)])
def test_arrays_pass_whatever_their_layout_and_may_be_written_to(kind: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    read_only = array.copy()
    read_only.setflags(write=False)
    for laid_out in (array, np.asfortranarray(array), array[..., ::-1] if shape else array, array.T, read_only):
        passed = unpack(pack(laid_out))
        assert (passed.dtype, passed.shape, passed.flags.writeable) == (laid_out.dtype, laid_out.shape, True)
        assert np.array_equal(passed, laid_out)


def test_numbers_of_numpy_pass() -> None:
    numbers = [np.float32(2), np.uint8(3), np.bool_(True)]
    passed = unpack(pack(numbers))
    assert [(type(one), one) for one in passed] == [(type(one), one) for one in numbers]


def test_errors_pass_with_what_they_say() -> None:
    raised = unpack(pack(Raised(OSError(errno.ENOENT, "gone", Path("a")))))
    assert isinstance(raised.error, FileNotFoundError)
    assert (raised.error.errno, raised.error.filename) == (errno.ENOENT, Path("a"))
    assert str(unpack(pack(Raised(BadGzipFile("no gzip")))).error) == "no gzip"
    unreadable = unpack(pack(UnreadableImageError("damaged", skipped=True)))
    assert (unreadable.reason, unreadable.skipped, str(unreadable)) == ("damaged", True, "damaged")
    for error in (DiskFullError("full"), UnknownNameError("model", "a", ["b"])):
        passed = unpack(pack(error))
        assert (type(passed), str(passed)) == (type(error), str(error))


class Order:
    """Pickled as a call."""

    def __init__(self, call: Callable[..., Any], *arguments: object) -> None:
        self.order = call, arguments

    def __reduce__(self) -> Any:
        return self.order


@pytest.mark.parametrize(
    "call", [os.system, subprocess.Popen, builtins.eval, builtins.getattr, np.load, IsolatedPool, pickle.loads]
)
def test_a_call_is_refused_and_not_made(call: Callable[..., Any]) -> None:
    with pytest.raises(NoAnswerError):
        unpack(pickle.dumps(Order(call, "x")))


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\x80", b"garbage", b"\x80\x04\x8c\x1bradsearch.reading.isolation\x8c\x10subprocess.Popen\x93.",
        b"\x80\x04\x8c\x1bradsearch.reading.isolation\x8c\nsubprocess\x93.", pack("x" * 99)[:-9],
        pack(np.array([None])), pack(np.dtype("u1")), pack(Raised),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(NoAnswerError):
        unpack(answer)


def changing(module: str, name: str) -> bytes:
    """An answer that sets an attribute of something that has a name, by pickle's order BUILD."""
    return f"c{module}\n{name}\n(N(Vresolve\nNdtb.".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pathlib", "PosixPath"), ("radsearch.errors", "_unreadable"), ("radsearch.errors", "RadSearchError"),
        ("radsearch.reading.worker", "Refusal"), ("radsearch.reading.answers", "_record"), ("builtins", "set"),
    ],
)  # fmt: skip
def test_an_answer_changes_nothing_that_has_a_name(module: str, name: str) -> None:
    before = Path.resolve
    with pytest.raises(NoAnswerError):
        unpack(changing(module, name))
    assert Path.resolve is before
    assert "resolve" not in dir(getattr(importlib.import_module(module), name)) or name == "PosixPath"


@pytest.mark.parametrize(
    "call",
    [
        Order(np.ndarray, (1,), np.dtype("O"), b"A" * 8),
        Order(answers._array, bytearray(8), "O", (1,)),
        Order(answers._array, bytearray(8), "<f8", (2,)),
        Order(answers._record, "subprocess", "Popen", ()),
        Order(answers._record, "radsearch.reading.isolation", "IsolatedPool", ("x", 1, 1)),
        Order(answers._record, "radsearch.reading.worker", "Refusal", ("a", True, "too many")),
        Order(answers._error, "exit_code", (), {}),
    ],
)
def test_no_maker_makes_anything_else(call: Order) -> None:
    with pytest.raises(NoAnswerError):
        unpack(pickle.dumps(call))
