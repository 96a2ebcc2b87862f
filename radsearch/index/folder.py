"""The folder of an embedded index: its card, who holds it, and how it is made; nothing of the engine."""

import contextlib
import errno
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from radsearch.errors import IndexMissingError
from radsearch.index.damage import WRITING_BYTES, require_room
from radsearch.index.records import IndexCard
from radsearch.plain_files import read_plain

CARD = "radsearch.json"
HOLDER = "holder.json"
_AHEAD_BYTES = 8 << 20


def read_ahead(folder: Path) -> None:
    """Have the system keep the index's files in memory, as far as it has any: opening them takes a third of the time.

    Other threads run meanwhile, which they do not while the engine reads.
    """
    for file in folder.glob("shard/segments/**/*"):
        with contextlib.suppress(OSError), file.open("rb", buffering=0) as stream:
            while stream.read(_AHEAD_BYTES):
                pass


def holder_of(folder: Path) -> str:
    """Who has it and since when, as far as it has left word; a killed one's is overwritten by the next."""
    try:
        said = json.loads(read_plain(folder / HOLDER))
        return f" ({said['program']}, process {said['process']} on {said['host']}, since {said['since']})"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def leave_word(folder: Path) -> None:
    """Say who has the index from now on; whoever is kept waiting reads it."""
    program = Path(sys.argv[0])
    said = {
        "program": program.parent.name if program.name == "__main__.py" else program.name,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }
    with contextlib.suppress(OSError):  # a folder that may only be read
        (folder / HOLDER).write_text(json.dumps(said), encoding="utf-8")


def take_word_back(folder: Path) -> None:
    """Call it before the index is let go of: afterwards the word is another one's."""
    with contextlib.suppress(OSError):
        (folder / HOLDER).unlink(missing_ok=True)


def make_folder(folder: Path, card: IndexCard, fill: Callable[[Path], None]) -> None:
    """Make an index aside and move it into place, so that a kill leaves either none or a whole one.

    Args:
        folder: where it is to be; a new or empty one.
        card: its card.
        fill: puts what the engine wants into the folder that is given.

    Raises:
        IndexMissingError: the folder holds something else, or nothing can be made there.
    """
    folder = folder.absolute()
    half_made = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise IndexMissingError(f"{folder} exists and is no index of ours; name an empty or new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(half_made, ignore_errors=True)
        require_room(folder.parent, WRITING_BYTES)
        half_made.mkdir(mode=0o700)
        fill(half_made)
        write_card(half_made, card)
        half_made.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (folder / CARD).is_file():
            return  # somebody else has just made it
        raise IndexMissingError(f"no index can be made at {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(half_made, ignore_errors=True)


def read_card(folder: Path) -> IndexCard:
    """What the index knows of itself. Raises OSError, ValueError or IndexMismatchError where there is no such card."""
    try:
        return IndexCard.from_json(json.loads(read_plain(folder / CARD)))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def write_card(folder: Path, card: IndexCard) -> None:
    """Replace the card as a whole; on return it survives a crash."""
    half_written = folder / f".{CARD}.{os.getpid()}"
    with half_written.open("w", encoding="utf-8") as stream:
        json.dump(card.as_json(), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    half_written.replace(folder / CARD)
