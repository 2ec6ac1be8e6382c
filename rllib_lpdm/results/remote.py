"""A cell's folder behind a URL, and its copy on the machine that trains it."""

from pathlib import Path
from typing import Any

from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.results.layout import (
    CHECKPOINTS,
    ITERATIONS_FILE,
    RUN_FILE,
    TENSORBOARD,
    checkpoint_iteration,
)
from rllib_lpdm.results.record import RunRecord


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

        Raises:
            UserError: ``run.json`` is damaged.
        """
        run = RunRecord.read(self._remote)
        if run is None:
            return
        self._local.mkdir(parents=True, exist_ok=True)
        for name in run.checkpoints:
            target = self._local / CHECKPOINTS / name
            target.mkdir(parents=True)
            self._fs.get(f"{self._path(CHECKPOINTS, name)}/", f"{target}/", recursive=True)
            self._published.add(name)
        found = (path.rpartition("/")[2] for path in self._fs.glob(self._path(CHECKPOINTS, "*")))
        self._abandoned = {
            name for name in found if checkpoint_iteration(name) is not None
        } - self._published
        for name in (ITERATIONS_FILE, RUN_FILE):
            if self._fs.exists(self._path(name)):
                self._fs.get_file(self._path(name), str(self._local / name))

    def publish(self) -> None:
        """Writes the local folder's state behind the URL."""
        self._fs.makedirs(self._path(), exist_ok=True)
        present = {path.name for path in checkpoints(self._local).values()}
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
