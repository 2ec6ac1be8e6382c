"""Where results are kept: a folder that every node sees, or a URL behind fsspec (s3://, gs://)."""

import json
import re
from pathlib import Path
from typing import Any, cast

from upath import UPath

from rllib_lpdm.experiment.records import (
    CHECKPOINTS,
    ITERATIONS_FILE,
    RUN_FILE,
    is_remote,
    read_run,
)
from rllib_lpdm.experiment.spec import ExperimentError
from rllib_lpdm.experiment.trackers.tensorboard import FOLDER as TENSORBOARD


def results_folder(output: str | Path) -> Path:
    """The folder that ``--output`` names, absolute; a URL gives a UPath, which acts like a Path.

    Raises:
        ExperimentError: the URL's file system is not installed or does not answer, or the URL
            holds a password.
    """
    text = str(output)
    if "://" not in text:
        return Path(text).absolute()
    if re.search("://[^/]*@", text):  # wherever it stands: URLs of fsspec can be chained
        raise ExperimentError(
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
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExperimentError(f"--output {text}: {reason}") from None
    return cast(Path, folder)


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """``run.json`` of every cell in an experiment's folder, by the cell's folder name.

    Raises:
        ValueError: one of them is damaged.
    """
    if is_remote(folder):
        return _read_remote_runs(folder)
    runs = {path.parent.name: read_run(path.parent) for path in folder.glob(f"*/{RUN_FILE}")}
    return {name: run for name, run in runs.items() if run is not None}


def _read_remote_runs(folder: Any) -> dict[str, dict[str, Any]]:
    """As above with one request for all, because each takes tens of milliseconds."""
    paths = folder.fs.glob(f"{folder.path.rstrip('/')}/*/{RUN_FILE}")
    contents = folder.fs.cat(paths, on_error="omit") if paths else {}
    runs = {}
    for path, content in contents.items():
        try:
            runs[path.split("/")[-2]] = dict(json.loads(content))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); delete the cell's folder") from None
    return runs


class RemoteCell:
    """Carries a cell's folder between its URL and the machine that trains it.

    What is published is always whole: checkpoints first, then the rows and what TensorBoard shows
    of them, then ``run.json``, which names the checkpoints; then those it no longer names are
    deleted.

    Args:
        remote: the cell's folder behind the URL.
        local: an empty folder on this machine.
    """

    def __init__(self, remote: Any, local: Path) -> None:
        self._remote, self._local = remote, local
        self._fs = remote.fs
        self._published: set[str] = set()
        self._abandoned: set[str] = set()

    def fetch(self) -> None:
        """Brings the files that ``run.json`` names, if there are any.

        A checkpoint that it does not name was lost on its way, and goes with the next one.
        """
        run = read_run(self._remote)
        if run is None:
            return
        self._local.mkdir(parents=True, exist_ok=True)
        for name in run.get("checkpoints", []):
            target = self._local / CHECKPOINTS / name
            target.mkdir(parents=True)
            self._fs.get(f"{self._path(CHECKPOINTS, name)}/", f"{target}/", recursive=True)
            self._published.add(name)
        found = self._fs.glob(self._path(CHECKPOINTS, "iteration_*"))
        self._abandoned = {path.rpartition("/")[2] for path in found} - self._published
        for name in (ITERATIONS_FILE, RUN_FILE):
            if self._fs.exists(self._path(name)):
                self._fs.get_file(self._path(name), str(self._local / name))

    def publish(self) -> None:
        """Writes the local folder's state behind the URL."""
        self._fs.makedirs(self._path(), exist_ok=True)
        present = {path.name for path in (self._local / CHECKPOINTS).glob("iteration_*")}
        for name in sorted(present - self._published):
            source = self._local / CHECKPOINTS / name
            self._fs.put(f"{source}/", f"{self._path(CHECKPOINTS, name)}/", recursive=True)
        if (self._local / TENSORBOARD).is_dir():
            self._fs.put(
                f"{self._local / TENSORBOARD}/", f"{self._path(TENSORBOARD)}/", recursive=True
            )
        for name in (ITERATIONS_FILE, RUN_FILE):
            if (self._local / name).exists():
                self._fs.put_file(str(self._local / name), self._path(name))
        for name in (self._published | self._abandoned) - present:
            self._fs.rm(self._path(CHECKPOINTS, name), recursive=True)
        self._published, self._abandoned = present, set()

    def _path(self, *parts: str) -> str:
        return "/".join((self._remote.path.rstrip("/"), *parts))
