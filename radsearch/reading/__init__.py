"""Bytes on disk -> `StudyImage`s: every file, archived or uploaded, is read here.

Files are recognised by their content, never by their ending.
"""

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import nifti, raster
from radsearch.reading.choice import ALL_FRAMES, FrameChoice, choice_of
from radsearch.reading.isolation import renew_time_limit
from radsearch.study import FileIdentity, StudyImage, TextRisk

__all__ = ["ALL_FRAMES", "FrameChoice", "choice_of", "identify", "read", "study_uid"]

_HEAD_BYTES = 540
_DICOM_MARK = slice(128, 132)

# A data set written without preamble starts with a tag of group 0002 or 0008, little endian (PS3.10 asks for the
# preamble, but files from before 1996 and some exports lack it).
_BARE_DICOM_STARTS = (b"\x02\x00", b"\x08\x00")


def identify(path: Path, pseudonymizer: Pseudonymizer, *, name: str, choice: FrameChoice = ALL_FRAMES) -> FileIdentity:
    """Tell a file from all others without decoding a picture.

    Args:
        path: the file.
        pseudonymizer: makes the pseudonyms.
        name: what names the file where it carries no identifier of its own: data set and relative path, or full path.
        choice: which frames are taken.

    Raises:
        UnreadableImageError: the file is none of ours, or its header cannot be read.
        OSError: the file cannot be opened.
    """
    kind = _recognise(path)
    uid: str | None = None
    text_risk: TextRisk | None = None
    frames, chosen = 1, choice.of(1, is_cine=False)
    if kind == "dicom":
        from radsearch.reading import dicom

        told = dicom.read_identity(path, choice)
        uid, frames, chosen, text_risk = told.uid, told.frames, told.chosen, told.text_risk
    elif kind == "nifti":
        frames = nifti.count_frames(path)
        chosen = choice.of(frames, is_cine=False)
    instance = pseudonymizer.pseudonym("instance", uid or name)
    content = pseudonymizer.content(path, each_chunk=renew_time_limit)  # a large file on a slow disk is no hang
    return FileIdentity(instance, content, frames, chosen, text_risk)


def read(path: Path, pseudonymizer: Pseudonymizer, numbers: Sequence[int] | None = None) -> Iterator[StudyImage]:
    """Read the frames with these numbers (from 1, ascending), or every one, one at a time.

    Raises:
        UnreadableImageError: as `identify`; also when a frame is damaged or no decoder is installed for it.
        OSError: the file cannot be opened.
    """
    kind = _recognise(path)
    if kind == "raster":
        yield raster.read(path)
    elif kind == "nifti":
        yield from nifti.read(path, numbers or range(1, nifti.count_frames(path) + 1))
    else:
        from radsearch.reading import dicom

        yield from dicom.read(path, pseudonymizer, numbers)


def study_uid(path: Path) -> str | None:
    """The Study Instance UID of a DICOM file, for a link to its viewer: it leads to the patient.

    Returns:
        None where the file is none of DICOM's, or has none.

    Raises:
        UnreadableImageError, OSError: as `identify`.
    """
    if _recognise(path) != "dicom":
        return None
    from radsearch.reading import dicom

    return dicom.read_study_uid(path)


def _recognise(path: Path) -> Literal["dicom", "nifti", "raster"]:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise UnreadableImageError("not a regular file", skipped=True)
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise UnreadableImageError("empty file")
    if head[_DICOM_MARK] == b"DICM":
        return "dicom"
    if head.startswith(raster.SIGNATURES):
        return "raster"
    if nifti.is_nifti(head, path):
        return "nifti"
    if head.startswith(_BARE_DICOM_STARTS):
        return "dicom"
    raise UnreadableImageError("not an image", skipped=True)
