"""Read and render one file, such as an uploaded query, in a process apart: it cannot take the caller along."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import FrameChoice, identify, read, study_uid
from radsearch.reading.isolation import IsolatedPool, Limits, Refusal
from radsearch.rendering import Rendered, TextPolicy, render, render_with_steps
from radsearch.rendering.text import find_text
from radsearch.study import Facts, FileIdentity, StudyImage

_Identify = tuple[Path, str, FrameChoice]
_Show = tuple[Path, int]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One frame as it is seen, and its facts."""

    rendered: Rendered
    facts: Facts


class ReaderApart:
    """As `reading` and `rendering`, behind one worker process, which is kept for the next file."""

    def __init__(self, pseudonymizer: Pseudonymizer, limits: Limits, policy: TextPolicy) -> None:
        self._pool = IsolatedPool(_Order(pseudonymizer, policy), 1, limits)

    def identify(self, path: Path, *, name: str, choice: FrameChoice) -> FileIdentity:
        """As `reading.identify`; a file that crashes the worker or reaches a limit raises UnreadableImageError too."""
        (answer,) = self._pool.begin(_identify, [(path, name, choice)]).results()
        return _unless_refused(answer)

    def show(self, path: Path, number: int) -> Shown:
        """One frame of a file (number from 1); raises as `identify`."""
        (answer,) = self._pool.begin(_show, [(path, number)]).results()
        return _unless_refused(answer)

    def read(self, path: Path, number: int) -> StudyImage:
        """One frame of a file as it was read (number from 1), with the places of text in it; raises as `identify`.

        A file that the policy refuses raises UnreadableImageError.
        """
        (answer,) = self._pool.begin(_read, [(path, number)]).results()
        return _unless_refused(answer)

    def study_uid(self, path: Path) -> str | None:
        """As `reading.study_uid`; raises as `identify`."""
        (answer,) = self._pool.begin(_study_uid, [path]).results()
        return _unless_refused(answer)

    def close(self) -> None:
        """End the worker."""
        self._pool.close()


@dataclass(frozen=True, slots=True)
class _Order:
    """What the worker needs to know."""

    pseudonymizer: Pseudonymizer
    policy: TextPolicy


_readers: dict[tuple[Pseudonymizer, Limits, TextPolicy], ReaderApart] = {}
_lock = threading.Lock()


def reader_apart(pseudonymizer: Pseudonymizer, limits: Limits, policy: TextPolicy) -> ReaderApart:
    """The reader of this process; its worker starts with the first call and ends with the process."""
    with _lock:
        if (pseudonymizer, limits, policy) not in _readers:
            _readers[pseudonymizer, limits, policy] = ReaderApart(pseudonymizer, limits, policy)
        return _readers[pseudonymizer, limits, policy]


def close_readers() -> None:
    """End the workers of this process's readers; the next call starts new ones."""
    with _lock:
        while _readers:
            _readers.popitem()[1].close()


def _identify(order: _Order, asked: _Identify) -> FileIdentity | Refusal:
    path, name, choice = asked
    return identify(path, order.pseudonymizer, name=name, choice=choice)


def _show(order: _Order, asked: _Show) -> Shown | Refusal:
    image = _frame(order, asked)
    return Shown(render_with_steps(image, order.policy), image.facts)


def _read(order: _Order, asked: _Show) -> StudyImage | Refusal:
    image = _frame(order, asked)
    order.policy.admit(image.text_risk)
    return replace(image, text_places=find_text(render(image))) if order.policy.blank else image


def _frame(order: _Order, asked: _Show) -> StudyImage:
    path, number = asked
    (image,) = read(path, order.pseudonymizer, [number])
    return image


def _study_uid(_order: _Order, path: Path) -> str | None:
    return study_uid(path)


def _unless_refused(answer: _Answer | Refusal) -> _Answer:
    if isinstance(answer, Refusal):
        raise UnreadableImageError(answer.reason, skipped=answer.skipped)
    return answer
