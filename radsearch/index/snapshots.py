"""An index as one file, and back: a folder as a TAR file of ours, a server's collection as Qdrant's own snapshot."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from radsearch.errors import DamagedIndexError, IndexMissingError, RadSearchError, SettingsError
from radsearch.index.damage import require_room
from radsearch.index.embedded import open_embedded_index
from radsearch.index.folder import CARD, HOLDER
from radsearch.index.holding import LOCK, WAITING
from radsearch.settings import Settings

_CONTENTS = "snapshot.json"
_PLAIN: Literal["r:"] = "r:"  # neither kind is compressed, so that none can be a bomb
_MAPS = "./maps"  # of radsearch.maps; can be made anew


def snapshot(settings: Settings, file: Path) -> int:
    """Write the whole index into a file; of a folder nobody else has it meanwhile.

    Returns:
        The number of images in it.

    Raises:
        RadSearchError: there is no index, another process holds it, or the file cannot be written or is there already.
    """
    if file.exists():
        raise SettingsError(f"{file} exists; name a new file")
    with _written_aside(file) as half:
        if settings.on_server:
            from radsearch.index.server_files import take_snapshot

            return take_snapshot(settings, half)
        folder = settings.index_folder
        with open_embedded_index(settings, create_for=(), sole_writer=True) as index:
            index.finish()
            count = index.count()
            with tarfile.open(half, "w") as archive:
                archive.add(folder, arcname=".", filter=_lasting)
                _add_contents(archive, folder, count)
            return count


def restore(file: Path, settings: Settings) -> int:
    """Make of a snapshot a new folder or collection; a kill leaves either none or a whole folder.

    Returns:
        The number of images in it.

    Raises:
        RadSearchError: the file is no snapshot of such an index, or something is there already.
    """
    try:
        kind = _kind_of(file)
    except (tarfile.TarError, EOFError) as error:
        raise IndexMissingError(f"{file} is no snapshot, or is damaged ({type(error).__name__})") from error
    except OSError as error:
        raise RadSearchError(f"the snapshot {file} cannot be read ({error.strerror})") from error
    if kind is None:
        raise IndexMissingError(f"{file} is no snapshot of an index")
    if (kind == "server") != settings.on_server:
        other = "a Qdrant server's" if kind == "server" else "an index in a folder"
        raise IndexMissingError(
            f"{file} is a snapshot of {other}: restore it there, and bring it elsewhere by `index copy`"
        )
    if settings.on_server:
        from radsearch.index.server_files import restore_snapshot

        return restore_snapshot(file, settings)
    return _unpack(file, settings)


@contextmanager
def _written_aside(file: Path) -> Iterator[Path]:
    """Gives what is to be written; it gets the name of `file` where all went well."""
    half = file.absolute().with_name(f".{file.absolute().name}.{os.getpid()}")
    try:
        half.touch(mode=0o600)  # it holds what the index holds
        yield half
        half.replace(file)
    except OSError as error:
        raise RadSearchError(f"the snapshot {file} cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)


def _kind_of(file: Path) -> Literal["folder", "server"] | None:
    with tarfile.open(file, _PLAIN) as archive:
        for member in _members(archive):
            match member.name.removeprefix("./"):
                case name if name == CARD:
                    return "folder"
                case "config.json":  # beside a folder a shard
                    return "server"
    return None


def _unpack(file: Path, settings: Settings) -> int:
    """Unpack aside, look whether it is all there and opens, and move it into place."""
    folder = settings.index_folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise IndexMissingError(f"{folder} exists and is not empty; name a new folder")
    half = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        half.mkdir(mode=0o700, parents=True)
        with tarfile.open(file, _PLAIN) as archive:
            require_room(half, sum(member.size for member in _members(archive)))
            archive.extractall(half, filter=_without_links)  # noqa: S202 -- a narrower filter than `data`  # nosec B202
        count = _complete(half)
        if count is None:  # the engine is given no file that has not been checked
            raise IndexMissingError(f"the snapshot {file} is damaged: not all of it is there")
        with open_embedded_index(replace(settings, index=str(half)), create_for=()) as index:
            if index.count() != count:
                raise IndexMissingError(f"the snapshot {file} is damaged: not all of it is there")
        half.chmod(0o700)
        half.rename(folder)
    except (tarfile.TarError, EOFError) as error:
        raise IndexMissingError(f"{file} is no snapshot, or is damaged ({type(error).__name__})") from error
    except DamagedIndexError as error:
        raise IndexMissingError(f"the snapshot {file} is damaged: it cannot be opened") from error
    except OSError as error:
        raise RadSearchError(f"the snapshot {file} cannot be restored to {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return count


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Those of an archive, each behind the one before: a size below 0 would have them read for ever (CVE-2025-8194)."""
    for member in archive:
        if archive.offset <= member.offset:
            raise tarfile.ReadError("its members are no list")
        yield member


def _without_links(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """An index has none, and by a chain of them the `data` filter of some Pythons is led outside (CVE-2025-4517)."""
    if member.issym():
        raise tarfile.SpecialFileError(member)
    return tarfile.data_filter(member, folder)


def _add_contents(archive: tarfile.TarFile, folder: Path, count: int) -> None:
    """As the last member what there must be before it: a TAR file that is cut may look like a shorter one."""
    files = {name: _checksum(folder / name) for name in archive.getnames() if (folder / name).is_file()}
    content = json.dumps({"images": count, "files": files}).encode()
    member = tarfile.TarInfo(f"./{_CONTENTS}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _complete(folder: Path) -> int | None:
    """The number of images that an unpacked snapshot must have; None where something is missing or has changed."""
    try:
        contents = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        (folder / _CONTENTS).unlink()
        listed = {folder / name: checksum for name, checksum in contents["files"].items()}
        whole = all(_is_within(file, folder) and _checksum(file) == checksum for file, checksum in listed.items())
        return int(contents["images"]) if whole else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError):  # of loops, too
        return None


def _is_within(file: Path, folder: Path) -> bool:
    """Whether it is a file of the snapshot's own: its list may name any file of this machine, or a device."""
    return file.resolve().is_relative_to(folder.resolve()) and file.is_file()


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _lasting(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What belongs to the index, not to those who have it or wait for it; maps are written while others have it."""
    passing = member.name in (f"./{HOLDER}", _MAPS) or member.name.startswith((f"./{WAITING}", f"./{LOCK}"))
    return None if passing else member
