"""An embedded index as one file, and back."""

import os
import shutil
import tarfile
from pathlib import Path

from radsearch.errors import IndexMissingError, RadSearchError, SettingsError
from radsearch.index.embedded import open_embedded_index
from radsearch.index.folder import CARD, HOLDER
from radsearch.settings import Settings


def snapshot(settings: Settings, file: Path) -> int:
    """Write the whole index into a TAR file; nobody else has it meanwhile.

    Returns:
        The number of images in it.

    Raises:
        RadSearchError: there is no index, another process holds it, or the file cannot be written or is there already.
    """
    folder = _folder(settings)
    half = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open_embedded_index(settings, create_for=()) as index:
            if file.exists():
                raise SettingsError(f"{file} exists; name a new file")
            index.finish()
            count = index.count()
            half.touch(mode=0o600)  # it holds what the index holds
            with tarfile.open(half, "w") as archive:
                archive.add(folder, arcname=".", filter=lambda member: None if member.name == f"./{HOLDER}" else member)
        half.replace(file)
    except OSError as error:
        raise RadSearchError(f"the snapshot {file} cannot be written ({error.strerror})") from error
    finally:
        half.unlink(missing_ok=True)
    return count


def restore(file: Path, settings: Settings) -> int:
    """Unpack a snapshot into a new or empty folder; a kill leaves either none or a whole index there.

    Returns:
        The number of images in it.

    Raises:
        RadSearchError: the file is no snapshot of ours, or the folder holds something.
    """
    folder = _folder(settings)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise IndexMissingError(f"{folder} exists and is not empty; name a new folder")
    half = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        half.mkdir(mode=0o700, parents=True)
        with tarfile.open(file) as archive:
            archive.extractall(half, filter="data")
        half.chmod(0o700)
        if not (half / CARD).is_file():
            raise IndexMissingError(f"{file} is no snapshot of an index of ours")
        half.rename(folder)
    except (tarfile.TarError, EOFError) as error:
        raise IndexMissingError(f"{file} is no snapshot, or is damaged ({type(error).__name__})") from error
    except OSError as error:
        raise RadSearchError(f"the snapshot {file} cannot be restored to {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    with open_embedded_index(settings, create_for=()) as index:
        return index.count()


def _folder(settings: Settings) -> Path:
    if "://" in settings.index:
        raise SettingsError(
            "this is for an index in a folder: a Qdrant server has snapshots of its own (POST "
            "/collections/NAME/snapshots), and `index copy` brings an index from or to a server"
        )
    return Path(settings.index).expanduser()
