"""The files of a cell: ``run.json``, ``iterations.csv`` and ``checkpoints/``."""

import csv
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RUN_FILE, ITERATIONS_FILE, CHECKPOINTS = "run.json", "iterations.csv", "checkpoints"
PACKAGES = ("rllib-lpdm", "ray", "torch", "numpy", "gymnasium", "mujoco")


def write_run(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes ``run.json`` in one piece: a reader sees the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", dir=folder, prefix=f".{RUN_FILE}.", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, folder / RUN_FILE)


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of ``run.json``; None where the folder has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete the cell's folder to run it again"
        ) from None
    return content


class IterationLog:
    """``iterations.csv``: one row per iteration, appended a report at a time.

    Args:
        folder: the cell's folder.
        done: iterations already in the checkpoint the run continues from; later rows, written
            between that checkpoint and the end of the process, are dropped.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self._path = folder / ITERATIONS_FILE
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        kept = [line for line in lines[: done + 1] if line.endswith(b"\n")] if done else []
        if done and len(kept) != done + 1:
            raise ValueError(
                f"{self._path} has {max(len(kept) - 1, 0)} whole rows, its checkpoint {done}; "
                "delete the cell's folder to run it again"
            )
        if kept != lines:
            temporary = self._path.with_suffix(".tmp")
            temporary.write_bytes(b"".join(kept))
            os.replace(temporary, self._path)

    def append(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Adds rows, which all have the same columns; numbers keep every digit."""
        rows = list(rows)
        if not rows:
            return
        empty = not self._path.exists() or self._path.stat().st_size == 0
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            if empty:
                writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())


def newest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The checkpoint of the highest iteration, and that iteration; None where there is none."""
    checkpoints = sorted((folder / CHECKPOINTS).glob("iteration_*"))
    if not checkpoints:
        return None
    return checkpoints[-1], int(checkpoints[-1].name.removeprefix("iteration_"))


def save_checkpoint(folder: Path, iteration: int, algo: Any) -> Path:
    """Saves an Algorithm under a temporary name, renames it, and drops the older ones."""
    parent = folder / CHECKPOINTS
    parent.mkdir(parents=True, exist_ok=True)
    for unfinished in parent.glob(".unfinished-*"):
        shutil.rmtree(unfinished)
    temporary = parent / f".unfinished-{iteration}"
    algo.save_to_path(temporary)
    final = parent / f"iteration_{iteration:08d}"
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    for older in sorted(parent.glob("iteration_*"))[:-1]:
        shutil.rmtree(older)
    return final


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions, git commit and hardware of this process, for ``run.json``."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "hardware": {
            "machine": platform.machine(),
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "gpus": _gpu_names(),
        },
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_commit() -> str | None:
    """The commit of the package's source tree, with ``-dirty`` where it has changes."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _gpu_names() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
