"""Move a file for good: nothing is overwritten, and a kill at any moment loses nothing."""

import contextlib
import errno
import filecmp
import itertools
import os
import shutil
from pathlib import Path

from ingest.arrivals import trace_of

# The file system knows no hard links, or one may not link a file that somebody else owns.
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


def move(source: Path, target: Path) -> Path:
    """Move a file, across file systems too; after a kill the same call goes on where it was.

    Where another file has the name already, it gets a number; where that is the very same one, the source is removed.

    Returns:
        Where it is now.

    Raises:
        OSError: the disk is full, a permission is missing; EBUSY where the source changed meanwhile, EINVAL where the
            target is the source itself by another path. It stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for place in _places(target):
        if os.path.lexists(place):
            if _is_itself(source, place):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if _same(source, place):
                _half_of(place).unlink(missing_ok=True)
                source.unlink()
                return place
            continue
        with contextlib.suppress(FileExistsError):  # somebody was faster: the next name
            _put(source, place)
            return place
    raise AssertionError  # there is always a next name


def _is_itself(source: Path, place: Path) -> bool:
    """One file by two paths, through a link or a second mount; two names of a file are two links to it."""
    with contextlib.suppress(OSError):
        return source.samefile(place) and source.lstat().st_nlink == 1
    return False


def _places(target: Path) -> "itertools.chain[Path]":
    numbered = (target.with_name(f"{target.stem}.{number}{target.suffix}") for number in itertools.count(1))
    return itertools.chain([target], numbered)


def _put(source: Path, place: Path) -> None:
    try:
        _rename(source, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, place)


def _rename(source: Path, place: Path) -> None:
    """Unlike `rename`, linking never overwrites."""
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        source.rename(place)
    else:
        source.unlink()


def _copy(source: Path, place: Path) -> None:
    """To another file system: whole and on its disk before the source goes."""
    half = _half_of(place)
    before = trace_of(source.stat())
    try:
        half.touch(mode=0o600)
        shutil.copyfile(source, half)
        with contextlib.suppress(OSError):  # its times and mode are worth no failure
            shutil.copystat(source, half)
        _sync(half)
        if trace_of(source.stat()) != before:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        _rename(half, place)
    finally:
        half.unlink(missing_ok=True)
    _sync(place.parent)
    source.unlink()


def _half_of(place: Path) -> Path:
    """Where a copy is made; one that a kill left is overwritten."""
    return place.with_name(f".{place.name}.moving")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
