"""Read one file, such as an uploaded query, in a process apart: its decoder cannot take the caller along."""

from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import FrameChoice, identify, read
from radsearch.reading.isolation import IsolatedPool, Limits, Refusal
from radsearch.study import FileIdentity, StudyImage

_ReadFrame = tuple[Path, int]
_Identify = tuple[Path, str, FrameChoice]
_Answer = TypeVar("_Answer")


class ReaderApart:
    """As `radsearch.reading`, behind one worker process, which is kept for the next file."""

    def __init__(self, pseudonymizer: Pseudonymizer, limits: Limits) -> None:
        self._pool = IsolatedPool(pseudonymizer, 1, limits)

    def identify(self, path: Path, *, name: str, choice: FrameChoice) -> FileIdentity:
        """As `reading.identify`; a file that crashes the worker or reaches a limit raises UnreadableImageError too."""
        (answer,) = self._pool.begin(_identify, [(path, name, choice)]).results()
        return _unless_refused(answer)

    def frame(self, path: Path, number: int) -> StudyImage:
        """One frame of a file (number from 1); raises as `identify`."""
        (answer,) = self._pool.begin(_read_frame, [(path, number)]).results()
        return _unless_refused(answer)


@lru_cache(maxsize=2)
def reader_apart(pseudonymizer: Pseudonymizer, limits: Limits) -> ReaderApart:
    """The reader of this process; its worker starts with the first call and ends with the process."""
    return ReaderApart(pseudonymizer, limits)


def _identify(pseudonymizer: Pseudonymizer, asked: _Identify) -> FileIdentity | Refusal:
    path, name, choice = asked
    return identify(path, pseudonymizer, name=name, choice=choice)


def _read_frame(pseudonymizer: Pseudonymizer, asked: _ReadFrame) -> StudyImage | Refusal:
    path, number = asked
    (image,) = read(path, pseudonymizer, [number])
    return image


def _unless_refused(answer: _Answer | Refusal) -> _Answer:
    if isinstance(answer, Refusal):
        raise UnreadableImageError(answer.reason, skipped=answer.skipped)
    return answer
