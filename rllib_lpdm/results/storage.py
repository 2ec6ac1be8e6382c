"""Where results are kept: a folder that every node sees, or a URL behind fsspec (s3://, gs://)."""

import contextlib
import os
import re
import uuid
from pathlib import Path
from typing import Any, cast

from upath import UPath

from rllib_lpdm.results.messages import one_line


class StorageError(ValueError):
    """Why results cannot be kept in a place; the message names it."""


def results_folder(output: str | Path) -> Path:
    """The folder that ``--output`` names, absolute; a URL gives a UPath, which acts like a Path.

    Raises:
        StorageError: the URL's file system is not installed or does not answer, or the URL holds a
            password.
    """
    text = str(output)
    if "://" not in text:
        return Path(text).absolute()
    if re.search("://[^/]*@", text):  # wherever it stands: URLs of fsspec can be chained
        raise StorageError(
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
        raise StorageError(f"--output {text}: {one_line(error)}") from None
    return cast(Path, folder)


def given_folder(text: str) -> Path:
    """A folder to read from; a URL gives a UPath, which acts like a Path.

    Raises:
        StorageError: the URL's file system is not installed.
    """
    if "://" not in text:
        return Path(text)
    try:
        return cast(Path, UPath(text))
    except (ImportError, ValueError) as error:
        raise StorageError(f"{text}: {one_line(error)}") from None


def is_remote(folder: Path) -> bool:
    """Whether a folder lies behind a URL: a UPath with a protocol, which acts like a Path."""
    return bool(getattr(folder, "protocol", ""))


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
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
