"""Bytes on disk -> `StudyImage`s: every file, archived or uploaded, is read here.

Files are recognised by their content, never by their ending.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import raster
from radsearch.study import FileIdentity, StudyImage

_HEAD_BYTES = 132
_PREAMBLE_BYTES = 128

# A data set written without preamble starts with a tag of group 0002 or 0008, little endian (PS3.10 asks for the
# preamble, but files from before 1996 and some exports lack it).
_BARE_DICOM_STARTS = (b"\x02\x00", b"\x08\x00")


def identify(path: Path, pseudonymizer: Pseudonymizer, *, name: str) -> FileIdentity:
    """Tell a file from all others without decoding a picture.

    Args:
        path: the file.
        pseudonymizer: makes the pseudonyms.
        name: what names the file where it carries no identifier of its own: data set and relative path, or full path.

    Raises:
        UnreadableImageError: the file is none of ours, or its header cannot be read.
        OSError: the file cannot be opened.
    """
    if _recognise(path) == "raster":
        return FileIdentity(pseudonymizer.pseudonym("instance", name), pseudonymizer.content(path), frames=1)
    from radsearch.reading import dicom

    uid, frames = dicom.read_identity(path)
    instance = pseudonymizer.pseudonym("instance", uid or name)
    return FileIdentity(instance, pseudonymizer.content(path), frames)


def read(path: Path, pseudonymizer: Pseudonymizer) -> Iterator[StudyImage]:
    """Read every frame of a file, one at a time.

    Raises:
        UnreadableImageError: as `identify`; also when a frame is damaged or no decoder is installed for it.
        OSError: the file cannot be opened.
    """
    if _recognise(path) == "raster":
        yield raster.read(path)
    else:
        from radsearch.reading import dicom

        yield from dicom.read(path, pseudonymizer)


def _recognise(path: Path) -> Literal["dicom", "raster"]:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise UnreadableImageError("empty file")
    if head[_PREAMBLE_BYTES:] == b"DICM":
        return "dicom"
    if head.startswith(raster.SIGNATURES):
        return "raster"
    if head.startswith(_BARE_DICOM_STARTS):
        return "dicom"
    raise UnreadableImageError("not an image", skipped=True)
