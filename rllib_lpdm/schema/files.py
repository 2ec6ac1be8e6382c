"""Opens files that may come from anyone: regular ones only, up to a length."""

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast


def open_file(path: Path, limit: int) -> BinaryIO:
    """Opens a regular file for reading; a FIFO or a device might keep its reader for ever.

    Args:
        path: on this machine, or behind a URL.
        limit: bytes that the file may have.

    Raises:
        OSError: there is no such file, it cannot be read, is not regular, or is too long.
    """
    if getattr(path, "protocol", "") in ("file", "local"):
        path = Path(cast(Any, path).path)
    elif getattr(path, "protocol", ""):  # behind a URL, where all files are regular
        file = cast(BinaryIO, path.open("rb"))
        try:
            check_file(path, {"type": "file", "size": getattr(file, "size", None)}, limit)
        except OSError:
            file.close()
            raise
        return file
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        kind = "file" if stat.S_ISREG(status.st_mode) else "other"
        check_file(path, {"type": kind, "size": status.st_size}, limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_file(path: object, about: Mapping[str, Any], limit: int) -> None:
    """Raises OSError unless fsspec describes a regular file of at most ``limit`` bytes."""
    if about["type"] != "file":
        reason = f"it is not a regular file, and may be longer than {limit} bytes"
        raise OSError(errno.EINVAL, reason, str(path))
    if (about.get("size") or 0) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit} bytes", str(path))


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file; takes and raises what :func:`open_file` does."""
    with open_file(path, limit) as file:
        return file.read(limit)
