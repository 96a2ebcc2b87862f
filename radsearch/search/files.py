"""A file to search by: what it is, how it looks, and its vectors, each found out once."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from radsearch.errors import NothingToSearchError, no_such_frame
from radsearch.privacy import Pseudonymizer
from radsearch.reading import choice_of
from radsearch.reading.isolation import limits_of
from radsearch.rendering import Rendered, text_policy_of
from radsearch.rendering.apart import Shown, reader_apart
from radsearch.search.embedders import Embedders
from radsearch.settings import Settings
from radsearch.study import FileIdentity, Fingerprint, Vectors

_LEAST_SIDE = 8  # pixels


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a picture, in shares of its width and height from 0 to 1, from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


class QueryFile:
    """Read when it is first asked for something, in a process apart; after `shown` the file itself is not needed.

    vectors: of its picture, by the model's fingerprint. part: where it is cut out of a picture; None for all of it.
    """

    def __init__(
        self, path: Path, settings: Settings, pseudonymizer: Pseudonymizer, *, frame: int | None = None
    ) -> None:
        """Args: frame: its number, from 1; by default the middle one of those that an ingest takes."""
        self._path = path
        self._frame = frame
        self._choice = choice_of(settings)
        self._reader = reader_apart(pseudonymizer, limits_of(settings), text_policy_of(settings))
        self.pseudonymizer = pseudonymizer
        self.vectors: dict[Fingerprint, Vectors] = {}
        self.part: Part | None = None
        self._cut: QueryFile | None = None  # the last one, so that its vectors are kept

    @cached_property
    def identity(self) -> FileIdentity:
        """Raises UnreadableImageError or OSError where the file cannot be read."""
        return self._reader.identify(self._path, name=str(self._path.resolve()), choice=self._choice)

    @property
    def number(self) -> int:
        """Of the frame, from 1. Raises NothingToSearchError where the file has none of that number."""
        if self._frame is None:
            return self.identity.frame_to_show
        if not 1 <= self._frame <= self.identity.frames:
            raise NothingToSearchError(no_such_frame(self.identity.frames, self._frame))
        return self._frame

    @cached_property
    def shown(self) -> Shown:
        """The frame's picture and facts; raises as `identity`."""
        return self._reader.show(self._path, self.number)

    def slices(self) -> list["QueryFile"]:
        """The same file at each of the frames that an ingest takes, in order; what it is, is found out once for all."""
        return [self._at(frame) for frame in self.identity.chosen]

    def _at(self, frame: int) -> "QueryFile":
        other = copy.copy(self)
        other.__dict__.pop("shown", None)
        other.vectors, other.__dict__["_frame"], other.__dict__["_cut"] = {}, frame, None
        return other

    def cut(self, part: Part) -> "QueryFile":
        """The same, to search by a part of its picture only: what shows a finding, without all that surrounds it.

        Raises:
            NothingToSearchError: the part is smaller than 8 pixels in either direction.
        """
        last = self._cut
        if last is not None and last.part == part:
            return last
        rendered = self.shown.rendered
        rows, columns = rendered.picture.shape[:2]
        left, right = (round(share * columns) for share in (part.left, part.right))
        top, bottom = (round(share * rows) for share in (part.top, part.bottom))
        if min(right - left, bottom - top) < _LEAST_SIDE:
            raise NothingToSearchError(f"a part to search by is {_LEAST_SIDE} pixels wide and high at least")
        step = f"cut to rows {top}-{bottom - 1}, columns {left}-{right - 1} of the picture: to search by that part"
        picture = np.ascontiguousarray(rendered.picture[top:bottom, left:right])
        other = copy.copy(self)
        other.vectors, other.part = {}, part
        other.__dict__["shown"] = replace(self.shown, rendered=Rendered(picture, (*rendered.steps, step)))
        self._cut = other
        return other

    def embed(self, held: Fingerprint, embedders: Embedders) -> None:
        """Have its vector by the model that an index holds vectors of, as that model is here."""
        if held not in self.vectors:
            with embedders.using(held) as embedder:
                self.vectors[embedder.fingerprint] = embedder.embed_images([self.shown.rendered.picture])[0]

    @property
    def ids(self) -> list[str]:
        """Of the points that an ingest of this file makes."""
        numbers = range(1, self.identity.frames + 1)
        return [self.pseudonymizer.point_id(self.identity.instance, number) for number in numbers]
