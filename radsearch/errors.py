"""The only exceptions that a user reads: what, why, and what to do now; never a patient's data."""

import difflib
import sys
from collections.abc import Callable, Iterable

from radsearch.cells import printable

# Why a file is refused that reached a limit of its worker process; each names the setting that moves the limit.
TOO_LONG = "took longer than RADSEARCH_FILE_SECONDS allow"
TOO_MUCH_MEMORY = "needs more memory than RADSEARCH_FILE_MEMORY_MB allow"


class RadSearchError(Exception):
    """A failure that a person can act on. Commands print it as one line and exit with 2."""


class SettingsError(RadSearchError):
    """A setting or an argument has no usable value."""


class ManifestError(RadSearchError):
    """The manifest cannot be used as a whole (missing, no CSV, a column is missing)."""


class ModelUnavailableError(RadSearchError):
    """A model's weights are not here and could not be fetched, or do not fit its architecture."""


class EmbeddingError(RadSearchError):
    """A model gave something that is no usable vector."""


class OutOfDeviceMemoryError(EmbeddingError):
    """The device has not the memory for even one image of a model."""


class IndexMissingError(RadSearchError):
    """There is no index at the given place, or what is there is none."""


class IndexBusyError(RadSearchError):
    """Another process holds the embedded index."""


class DamagedIndexError(RadSearchError):
    """Files of the embedded index are lost, or cannot be read."""


class TooFewImagesError(RadSearchError):
    """A map of so few images shows nothing."""


class DamagedMapError(RadSearchError):
    """The file of a map cannot be read, or is none; the map can be made anew."""


class DiskFullError(RadSearchError):
    """The index's disk has not the room that a write needs."""


class IndexMismatchError(RadSearchError):
    """The index was built with other weights, preprocessing, rendering or secret than the ones in use."""


class IndexUnreachableError(RadSearchError):
    """The Qdrant server did not answer or refused the request. Trying again later may help."""


class IndexRefusedError(IndexUnreachableError):
    """The Qdrant server refused a request and would again: a wrong key, a full disk, a certificate not trusted."""


class NotAllowedError(RadSearchError):
    """Somebody asked for what is not his to see or to change."""


class NothingToSearchError(RadSearchError):
    """The query names nothing that can be searched for."""


class NobodyNewError(NothingToSearchError):
    """A model was learned from all patients that it would be measured on."""


class UnreadableImageError(RadSearchError):
    """A file was not read as pictures. `reason` is one of a few fixed phrases, so that files are counted by it.

    `skipped` tells the two outcomes apart: True for what is no picture by nature (a text file, a structured
    report), False for a picture that could not be read (truncated, no decoder).
    """

    def __init__(self, reason: str, *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.skipped = skipped

    def __reduce__(self) -> tuple[object, ...]:
        """Keep both facts when the error crosses from a worker process."""
        return (_unreadable, (self.reason, self.skipped))


def _unreadable(reason: str, skipped: bool) -> UnreadableImageError:  # noqa: FBT001 -- called by pickle, by position
    return UnreadableImageError(reason, skipped=skipped)


class UnknownNameError(RadSearchError):
    """A name that is not among the known ones. The message lists them and suggests the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "known are") -> None:
        names = sorted(known)
        lowered = {known_name.lower(): known_name for known_name in names}
        alike = difflib.get_close_matches(name.lower(), lowered, n=len(lowered) or 1, cutoff=0.5)
        nearest = min(alike, key=lambda known_name: (-_likeness(name.lower(), known_name), known_name), default=None)
        suggestion = f" (did you mean {lowered[nearest]!r}?)" if nearest else ""
        listed = ", ".join(names) if names else "none"
        super().__init__(f"unknown {kind} {name!r}{suggestion}; {where}: {listed}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the whole message when the error crosses from a worker process."""
        return (RadSearchError, self.args)


def _likeness(name: str, known_name: str) -> float:
    return difflib.SequenceMatcher(None, known_name, name).ratio()


TEXT_REFUSED = "text may be burned in"  # how the reasons begin for which RADSEARCH_BURNED_IN refuses a file


def text_may_be_burned_in(risk: str) -> str:
    """Why a file is refused that is at this risk."""
    return f"{TEXT_REFUSED} ({risk}), which RADSEARCH_BURNED_IN does not allow"


def no_such_frame(frames: int, number: int) -> str:
    """What to say to somebody who asks for a frame that a file does not have."""
    return f"the file has {frames} frame{'s' * (frames != 1)}, and no frame {number}"


def exit_code(command: Callable[[], int]) -> int:
    """Run a command's body; say an error that a person can act on in one line on stderr and give 2.

    A bug keeps its traceback. Ctrl-C gives 130, a closed pipe on stdout 0.
    """
    try:
        return command()
    except RadSearchError as error:
        sys.stderr.write(f"radsearch: {printable(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("radsearch: stopped\n")
        return 130
    except BrokenPipeError:
        sys.stdout = None  # nobody reads it any more: keep the interpreter from flushing it
        return 0
