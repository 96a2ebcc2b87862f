"""The files behind indexed images, where the private catalogue leads to them; the last frames are kept."""

import threading
from collections import OrderedDict
from pathlib import Path

from radsearch.catalogue import catalogue_of
from radsearch.errors import TEXT_REFUSED, RadSearchError, UnreadableImageError
from radsearch.index import Stored
from radsearch.privacy import Pseudonymizer, load_pseudonymizer
from radsearch.reading import ALL_FRAMES
from radsearch.reading.isolation import limits_of
from radsearch.rendering import Rendered, render_with_steps, text_policy_of
from radsearch.rendering.apart import ReaderApart, reader_apart
from radsearch.search import QueryFile
from radsearch.settings import Settings
from radsearch.study import Picture, StudyImage

_MOST_BYTES = 256 << 20  # of kept frames' pixels
_MOST_FILES = 16
_Version = tuple[Path, int, int]


class Originals:
    """Of one index; threads may share it. Every file is read in a process apart, and is shown to be the indexed one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = catalogue_of(settings)
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[_Version, int], StudyImage] = OrderedDict()
        self._files: OrderedDict[tuple[_Version, int], QueryFile] = OrderedDict()
        self._contents: dict[_Version, str] = {}

    def are_known(self, point: Stored) -> bool:
        """Whether the catalogue knows where the image's file was. Raises RadSearchError where it cannot be read."""
        instance = point.payload.get("instance")
        return self._catalogue is not None and instance is not None and self._catalogue.path_of(instance) is not None

    def open_file(self, point: Stored) -> Path | None:
        """Where the image's file was, if its data set has no patients and this is known. Raises as `are_known`."""
        if point.payload.get("dataset") not in self._settings.open_datasets or not self.are_known(point):
            return None
        return self._catalogue.path_of(point.payload["instance"]) if self._catalogue else None

    def frame(self, point: Stored, number: int) -> StudyImage:
        """A frame of the image's file as it was read, by its number from 1.

        Raises:
            RadSearchError: a sentence; the file is gone, has changed, or cannot be read.
        """
        version = self._version(point)
        key = version, number
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        try:
            image = self._reader.read(version[0], number)
        except (UnreadableImageError, OSError) as error:
            if isinstance(error, UnreadableImageError) and error.reason.startswith(TEXT_REFUSED):
                raise RadSearchError(f"The original is not shown: {error.reason}.") from error
            raise RadSearchError("The original cannot be read any more.") from error
        with self._lock:
            self._frames[key] = image
            while len(self._frames) > 1 and sum(one.pixels.nbytes for one in self._frames.values()) > _MOST_BYTES:
                self._frames.popitem(last=False)
        return image

    def render(self, image: StudyImage) -> Rendered:
        """A frame of `frame`'s, at any window, as an ingest renders it; raises RadSearchError."""
        return render_with_steps(image, text_policy_of(self._settings))

    def picture(self, point: Stored) -> Picture:
        """The picture of the image's own frame, as models see it. Raises as `frame`."""
        return self.render(self.frame(point, point.payload.get("frame") or 1)).picture

    def query_file(self, point: Stored) -> QueryFile:
        """The image's file to search by, at its frame. Raises as `frame`."""
        number = point.payload.get("frame") or 1
        key = self._version(point), number
        with self._lock:
            if key not in self._files:
                self._files[key] = QueryFile(key[0][0], self._settings, self._pseudonymizer, frame=number)
            self._files.move_to_end(key)
            while len(self._files) > _MOST_FILES:
                self._files.popitem(last=False)
            return self._files[key]

    def viewer_of(self, point: Stored) -> str | None:
        """The address of the image's study in the viewer of the settings; None where there is none of either."""
        if self._settings.viewer is None:
            return None
        try:
            uid = self._reader.study_uid(self._version(point)[0])
        except (UnreadableImageError, OSError) as error:
            raise RadSearchError("The original cannot be read any more.") from error
        return None if uid is None else self._settings.viewer.replace("{study}", uid)

    def _version(self, point: Stored) -> _Version:
        """The image's file as it is now, which is checked once to be the one that was indexed."""
        path = self._catalogue.path_of(point.payload.get("instance", "")) if self._catalogue else None
        if path is None:
            raise RadSearchError("Where the original of this image is has not been kept.")
        try:
            told = path.stat()
            version = path, told.st_size, told.st_mtime_ns
            if version not in self._contents:
                identity = self._reader.identify(path, name=str(path), choice=ALL_FRAMES)
                self._contents[version] = identity.content
        except (UnreadableImageError, OSError) as error:
            raise RadSearchError("The original is not where it was when it was indexed.") from error
        if self._contents[version] != point.payload.get("content"):
            raise RadSearchError("The original has changed since it was indexed.")
        return version

    @property
    def _pseudonymizer(self) -> Pseudonymizer:
        settings = self._settings
        return load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())

    @property
    def _reader(self) -> ReaderApart:
        return reader_apart(self._pseudonymizer, limits_of(self._settings), text_policy_of(self._settings))
