"""Files that others have put somewhere: opened only where they are plain files, as a pipe would be waited for."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path | str) -> BinaryIO:
    """The file, to be read.

    Raises:
        OSError: it cannot be opened, or is a pipe, a folder or a device.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    stream = os.fdopen(number, "rb") if stat.S_ISREG(os.fstat(number).st_mode) else None
    if stream is None:
        os.close(number)
        raise OSError(errno.EINVAL, "it is no plain file")
    return stream


def read_plain(path: Path | str) -> bytes:
    """All of it. Raises as `open_plain`."""
    with open_plain(path) as stream:
        return stream.read()
