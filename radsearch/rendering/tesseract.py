"""Tesseract, the program, on one grey picture: where it sees words, how sure it is of them, and never what they say."""

import os
import subprocess
from dataclasses import dataclass, replace

from radsearch.errors import UnreadableImageError
from radsearch.settings import TESSERACT
from radsearch.study import Picture

_SECONDS = 30.0  # of one run; a picture of 2048 x 2048 takes about 3
_COMMAND = (TESSERACT, "stdin", "stdout", "--psm", "11", "--dpi", "150", "tsv")  # 11: sparse text, in no order
_ONE_THREAD = {"OMP_THREAD_LIMIT": "1"}  # its threads wait for each other longer than they work
_WORD_LEVEL = "5"
_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Word:
    """What may be a word. Left, top, width and height in pixels; confidence from 0 to 100; how many letters, digits."""

    left: float
    top: float
    width: float
    height: float
    confidence: float
    letters: int

    def moved(self, by: float) -> "Word":
        """The same word so many pixels further down and to the right."""
        return replace(self, left=self.left + by, top=self.top + by)

    def scaled(self, factor: float) -> "Word":
        """The same word in a picture so many times as large."""
        left, top, width, height = (side * factor for side in (self.left, self.top, self.width, self.height))
        return replace(self, left=left, top=top, width=width, height=height)


def read_words(picture: Picture) -> list[Word]:
    """The words of a (rows, columns) uint8 picture of dark text on light ground.

    Raises:
        UnreadableImageError: the program does not run, fails or takes too long.
    """
    rows, columns = picture.shape
    try:
        done = subprocess.run(  # noqa: S603 -- a fixed command; the picture is its input  # nosec B603
            _COMMAND,
            input=b"P5 %d %d 255\n" % (columns, rows) + picture.tobytes(),
            capture_output=True,
            check=True,
            timeout=_SECONDS,
            env={**os.environ, **_ONE_THREAD},
        )
    except subprocess.TimeoutExpired as error:
        raise UnreadableImageError("it takes too long to look for text in it") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise UnreadableImageError(f"text cannot be looked for: {TESSERACT} does not run") from error
    lines = (line.split("\t", _COLUMNS - 1) for line in done.stdout.decode("utf-8", "replace").split("\n"))
    return [_word(cells) for cells in lines if len(cells) == _COLUMNS and cells[0] == _WORD_LEVEL]


def _word(cells: list[str]) -> Word:
    left, top, width, height, confidence = (float(cell) for cell in cells[6:11])
    return Word(left, top, width, height, confidence, sum(letter.isalnum() for letter in cells[11]))
