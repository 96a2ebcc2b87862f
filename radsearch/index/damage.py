"""An embedded index on a bad disk: files that are lost or cut, and no room for more.

The engine takes a segment without its version file for the rest of a killed run and leaves it away, and some lost
files for empty ones. So whoever closes an index notes the sizes of its files, and whoever opens it compares them. Bytes
that have changed are found by `verify` only. The engine's files are mapped into memory, and where the disk is full the
system ends the process that fills them. So there has to be room before.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

from radsearch.errors import DamagedIndexError, DiskFullError

FILES = "files.json"
OPENING_BYTES = 96 << 20  # two pieces of the engine's log, and what it touches while it loads
WRITING_BYTES = 256 << 20  # for a write, beside what is written: other processes fill disks, too

_SEGMENTS = Path("shard", "segments")
_PASSING = "_journal.dat"  # the engine removes such files when it loads


def note_files(folder: Path) -> None:
    """Write down what there is. Call it when all is on the disk, and before anybody else can change it."""
    half_written = folder / f".{FILES}.{os.getpid()}"
    with contextlib.suppress(OSError):  # without it nothing is compared
        with half_written.open("w", encoding="utf-8") as stream:
            json.dump(_files(folder), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        half_written.replace(folder / FILES)


def forget_files(folder: Path) -> None:
    """Call it before anything is changed; on return it is so after a crash, too."""
    (folder / FILES).unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_files(folder: Path) -> None:
    """Compare the files with what was noted, where the index was closed after its last change.

    Raises:
        DamagedIndexError: one is missing or has another size.
    """
    noted = _noted(folder)
    for name, size in noted.items():
        path = folder / _SEGMENTS / name
        now = path.stat().st_size if path.is_file() else None
        if now != size and _noted(folder) == noted:  # else somebody changes it right now
            raise damaged(folder, f"{path} is {'missing' if now is None else f'of {now} bytes instead of {size}'}")


def damaged(folder: Path, what: str) -> DamagedIndexError:
    """The error, with the ways out."""
    return DamagedIndexError(
        f"the index in {folder} is damaged: {what}. Restore a snapshot of it, or remove the folder and ingest again; "
        f"to go on with what is left, remove {folder / FILES}"
    )


def words_of_engine(error: BaseException) -> str | None:
    """What the engine says, in one line; None for an error that is not its own."""
    if type(error) is Exception or type(error).__name__ == "PanicException":
        return " ".join(str(error).split())
    return None


def require_room(folder: Path, wanted: int) -> None:
    """Raises DiskFullError where the disk has less room than so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise DiskFullError(
            f"the disk of {folder} has {free >> 20} MB left where {wanted >> 20} MB are wanted: make room "
            "and start again; what was stored stays stored"
        )


def bytes_on_disk(folder: Path) -> int:
    """What the segments take; the engine's files are longer than what is in them."""
    files = (folder / _SEGMENTS).rglob("*")
    return sum(path.stat().st_blocks * 512 for path in files if path.is_file())


def _files(folder: Path) -> dict[str, int]:
    segments = folder / _SEGMENTS
    found = (path for path in sorted(segments.rglob("*")) if path.is_file() and not path.name.endswith(_PASSING))
    return {str(path.relative_to(segments)): path.stat().st_size for path in found}


def _noted(folder: Path) -> dict[str, int]:
    try:
        noted = json.loads((folder / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}
