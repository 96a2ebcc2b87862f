"""A file to search by: what it is, how it looks, and its vectors, each found out once."""

from functools import cached_property
from pathlib import Path

from radsearch.errors import NothingToSearchError, no_such_frame
from radsearch.privacy import Pseudonymizer
from radsearch.reading import choice_of
from radsearch.reading.isolation import limits_of
from radsearch.rendering.apart import Shown, reader_apart
from radsearch.search.embedders import Embedders
from radsearch.settings import Settings
from radsearch.study import FileIdentity, Fingerprint, Vectors


class QueryFile:
    """Read when it is first asked for something, in a process apart; after `shown` the file itself is not needed.

    vectors: of its picture, by the model's fingerprint.
    """

    def __init__(
        self, path: Path, settings: Settings, pseudonymizer: Pseudonymizer, *, frame: int | None = None
    ) -> None:
        """Args: frame: its number, from 1; by default the middle one of those that an ingest takes."""
        self._path = path
        self._frame = frame
        self._choice = choice_of(settings)
        self._reader = reader_apart(pseudonymizer, limits_of(settings))
        self.pseudonymizer = pseudonymizer
        self.vectors: dict[Fingerprint, Vectors] = {}

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
