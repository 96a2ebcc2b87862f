"""A map as a file beside the index's thumbnails, a file a model and method. Nothing in it is ever unpickled."""

import contextlib
import hashlib
import io
import json
import re
import uuid
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from radsearch.errors import DamagedMapError, RadSearchError
from radsearch.plain_files import open_plain
from radsearch.settings import Settings, without_credentials
from radsearch.study import Fingerprint, Vectors

FOLDER = "maps"
_ID_BYTES = 36
_LARGEST_BYTES = 4_000_000  # four times what the most images take
_FAULTS = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error,
    MemoryError, OverflowError,  # of a size that is claimed
    RuntimeError,  # of what is encrypted
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Where images lie in the plane.

    method: that laid them out. fingerprint: of the model. ids: of the images, in order. places: (images, 2) float32.
    made: the day, as 2026-11-26.
    """

    method: str
    fingerprint: Fingerprint
    ids: tuple[str, ...]
    places: Vectors
    made: str


class Maps:
    """A folder of maps."""

    def __init__(self, folder: Path, *, parents: bool = False, of: str = "") -> None:
        """Have them in a folder.

        Args:
            folder: made when the first map is.
            parents: whether those around it are made, too; those of an index that was removed are not to come back.
            of: tells the maps of several indexes apart that share the folder.
        """
        self._folder, self._parents = folder, parents
        self._of = f"-{_short_hash(of)}" if of else ""

    def file(self, model: str, method: str) -> Path:
        """Where the map of a model and method is, or would be; any text may be a model's name."""
        plain = re.sub(r"[^a-z0-9._-]", "-", model.lower()).lstrip(".")[:80]
        told_apart = "" if plain == model else f"-{_short_hash(model)}"
        return self._folder / f"{plain}{told_apart}{self._of}.{method}.npz"

    def read(self, fingerprint: Fingerprint, method: str) -> Map | None:
        """The map of these vectors; None where there is none, or one of vectors with another fingerprint.

        Raises:
            DamagedMapError: it cannot be read, or is damaged.
        """
        file = self.file(fingerprint.model, method)
        try:
            with open_plain(file) as stream:
                content = stream.read(_LARGEST_BYTES + 1)
            kept = _unpacked(content, method)
        except FileNotFoundError:
            return None
        except _FAULTS as error:
            raise DamagedMapError(f"the map in {file} is damaged or cannot be read; make it anew") from error
        return kept if kept.fingerprint == fingerprint else None

    def write(self, made: Map) -> None:
        """Keep a map in the place of an earlier one; a kill leaves the one or the other.

        Raises:
            RadSearchError: it cannot be written.
        """
        file = self.file(made.fingerprint.model, made.method)
        half_written = file.with_name(f".half-{uuid.uuid4().hex}")
        try:
            self._folder.mkdir(mode=0o700, parents=self._parents, exist_ok=True)
            half_written.write_bytes(_packed(made))
            half_written.replace(file)
        except OSError as error:
            raise RadSearchError(f"no map can be written to {self._folder} ({error.strerror})") from error
        finally:
            with contextlib.suppress(OSError):
                half_written.unlink(missing_ok=True)


def maps_of(settings: Settings) -> Maps | None:
    """Those of the index that the settings name: in its folder, or of one on a server in its folder of thumbnails.

    None where the index is on a server and nothing says where its thumbnails are.

    Raises:
        SettingsError: the index is neither a folder nor an address.
    """
    if not settings.on_server:
        return Maps(settings.index_folder / FOLDER)
    of = f"{without_credentials(settings.index).rstrip('/')}\n{settings.collection}"
    folder = settings.thumbnails_folder
    return None if folder is None else Maps(folder / FOLDER, parents=True, of=of)


def _short_hash(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _packed(made: Map) -> bytes:
    stream = io.BytesIO()
    np.savez(
        stream,
        ids=np.array([point.encode("ascii") for point in made.ids], f"S{_ID_BYTES}"),
        places=made.places.astype(np.float32),
        fingerprint=np.array(json.dumps(asdict(made.fingerprint))),
        made=np.array(made.made),
    )
    return stream.getvalue()


def _unpacked(content: bytes, method: str) -> Map:
    """Raises one of `_FAULTS` where it is no map."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(one.file_size for one in archive.infolist())
    if max(unpacked, len(content)) > _LARGEST_BYTES:
        raise ValueError
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        ids, places, made = stored["ids"], stored["places"], str(stored["made"])
        fingerprint = Fingerprint(**json.loads(str(stored["fingerprint"])))
    sound = ids.ndim == 1 and ids.dtype.kind == "S" and places.dtype == np.float32 and places.shape == (len(ids), 2)
    if not sound or not np.isfinite(places).all():
        raise ValueError
    return Map(method, fingerprint, tuple(str(uuid.UUID(one.decode("ascii"))) for one in ids), places, made)
