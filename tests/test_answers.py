"""A worker's answers: records pass as they are, and nothing that would do anything when it is made."""

import builtins
import errno
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsearch.errors import UnreadableImageError
from radsearch.reading.answers import NoAnswerError, unpack
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
    assert unpack(pickle.dumps(answer)) == answer


def test_arrays_and_exceptions_pass() -> None:
    array = np.arange(6, dtype=np.uint16).reshape(2, 3)
    whole, column, number = unpack(pickle.dumps([array, array[:, 1], np.float32(2)]))
    assert np.array_equal(whole, array)
    assert (column.tolist(), number) == ([1, 4], 2)
    raised = unpack(pickle.dumps(Raised(OSError(errno.EIO, "gone"))))
    assert raised.error.errno == errno.EIO
    assert unpack(pickle.dumps(UnreadableImageError("damaged", skipped=True))).skipped


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
        b"\x80\x04\x8c\x1bradsearch.reading.isolation\x8c\nsubprocess\x93.", pickle.dumps("x" * 99)[:-9],
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(NoAnswerError):
        unpack(answer)
