"""Where results are kept: a folder that every node sees, or a URL behind fsspec (s3://, gs://)."""

import contextlib
import errno
import fcntl
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from upath import UPath

from rllib_lpdm.results.layout import LOCK_FILE, MOST_BYTES
from rllib_lpdm.schema import files
from rllib_lpdm.schema.messages import UserError, one_line

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


def results_folder(output: str | Path) -> Path:
    """The folder that ``--output`` names, absolute; a URL gives a UPath, which acts like a Path.

    Raises:
        UserError: the URL's file system is not installed or does not answer, or the URL holds a
            password.
    """
    text = str(output)
    if "://" not in text:
        return Path(text).absolute()
    if re.search("://[^/]*@", text):  # wherever it stands: URLs of fsspec can be chained
        raise UserError(
            "--output: credentials in a URL would be written into every run.json; give them to "
            "the file system's own environment variables or files instead"
        )
    try:
        folder: Any = UPath(text, use_listings_cache=False)  # others write there, too
        if "://" not in str(folder) or text.endswith("://"):
            raise ValueError("names no folder of a file system that is known")
        if text.startswith("memory:"):
            raise ValueError("is in this process's memory, where no other process could write")
        (folder / "name").exists()  # asks the server, which may be out of reach
    except Exception as error:  # a file system raises whatever it meets
        raise UserError(f"--output {text}: {one_line(error)}") from None
    return cast(Path, folder)


def given_folder(text: str) -> Path:
    """A folder to read from; a URL gives a UPath, which acts like a Path.

    Raises:
        UserError: the URL's file system is not installed.
    """
    if "://" not in text:
        return Path(text)
    try:
        return cast(Path, UPath(text))
    except (ImportError, ValueError) as error:
        raise UserError(f"{text}: {one_line(error)}") from None


def is_remote(folder: Path) -> bool:
    """Whether a folder lies behind a URL: a UPath with a protocol, which acts like a Path."""
    return bool(getattr(folder, "protocol", ""))


def open_file(path: Path, limit: int | None = None) -> BinaryIO:
    """Opens a file as :func:`rllib_lpdm.schema.files.open_file`; its name may have the limit."""
    return files.open_file(path, MOST_BYTES[path.name] if limit is None else limit)


def read_file(path: Path, limit: int | None = None) -> bytes:
    """Reads a file as :func:`rllib_lpdm.schema.files.read_file`; its name may have the limit."""
    return files.read_file(path, MOST_BYTES[path.name] if limit is None else limit)


@contextlib.contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Keeps other processes out of a folder until the context ends, or this process does.

    Where the file system has no locks, the context goes on without one and says so; behind a URL
    it says nothing.

    Args:
        folder: one that exists.
        patience: seconds to wait for another process.

    Raises:
        OSError: the lock's file cannot be made.
        UserError: another process has the folder.
    """
    if is_remote(folder):
        yield
        return
    path, until = folder / LOCK_FILE, time.monotonic() + patience
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() >= until:
            raise UserError(f"{folder} is in use by another run; wait for it or stop it")
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # deleted with the folder
            path.unlink()
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """The descriptor of a lock's file; None where another process has the lock."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its owner deletes the file at the end, and this one may have been opened before.
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError as error:
        if error.errno in _NO_LOCKS:
            reason = f"its file system has no locks ({error.strerror})"
            print(
                f"warning: {path.parent} is not locked: {reason}; start no other run into it",
                file=sys.stderr,
                flush=True,
            )
            return descriptor
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file in one piece: a reader sees the old one or the new one, never a part.

    Raises:
        OSError: the disk is full or read-only; the old file is as it was.
    """
    if is_remote(path):  # where a file appears whole
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def drop_unfinished_files(folder: Path) -> None:
    """Deletes what processes left in a folder that were killed in :func:`write_whole`."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) and path.is_file():
            path.unlink(missing_ok=True)
