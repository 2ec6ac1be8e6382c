"""The files of a cell: ``run.json``, ``iterations.csv`` and ``checkpoints/``."""

import contextlib
import csv
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_lpdm.analysis.statistics import smoothed

RUN_FILE, ITERATIONS_FILE, CHECKPOINTS = "run.json", "iterations.csv", "checkpoints"
WEIGHTS_FILE = "weights.npz"
PACKAGES = ("rllib-lpdm", "ray", "torch", "numpy", "gymnasium", "mujoco")


def is_remote(folder: Path) -> bool:
    """Whether a folder lies behind a URL: a UPath, which acts like a Path but is none."""
    return not isinstance(folder, Path)


def write_run(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes ``run.json`` in one piece: a reader sees the old file or the new one.

    Raises:
        OSError: the disk is full or read-only; the old file is as it was.
    """
    text = json.dumps(content, indent=2) + "\n"
    if is_remote(folder):  # where a file appears whole
        (folder / RUN_FILE).write_text(text, encoding="utf-8")
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{RUN_FILE}.{uuid.uuid4().hex}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / RUN_FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a folder that was made for it
            folder.rmdir()
        raise


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

    The file is begun anew under the same name, so that a process that still has the old one open,
    on a node that was believed lost, writes into nothing.

    Args:
        folder: the cell's folder.
        done: iterations already in the checkpoint the run continues from; later rows, written
            between that checkpoint and the end of the process, are dropped.

    Attributes:
        returns: (iterations,) mean episode return of every row.

    Raises:
        ValueError: the file has fewer rows than its checkpoint, or other than numbers.
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
        self.returns = _returns(kept)
        temporary = self._path.with_name(f".{ITERATIONS_FILE}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(b"".join(kept))
            os.replace(temporary, self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def append(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Adds rows, which all have the same columns; numbers keep every digit."""
        if not rows:
            return
        writer = csv.DictWriter(self._file, fieldnames=list(rows[0]), lineterminator="\n")
        if not self.returns:
            writer.writeheader()
        writer.writerows(rows)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.returns += [row["episode_return"] for row in rows]

    def close(self) -> None:
        self._file.close()


def _returns(lines: Sequence[bytes]) -> list[float]:
    header, *rows = csv.reader(line.decode() for line in lines) if lines else [[]]
    return [float(row[header.index("episode_return")]) for row in rows]


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a cell by iteration, in order."""
    found = sorted((folder / CHECKPOINTS).glob("iteration_*"))
    return {int(path.name.removeprefix("iteration_")): path for path in found}


def newest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The checkpoint of the highest iteration, and that iteration; None where there is none."""
    found = checkpoints(folder)
    return (found[max(found)], max(found)) if found else None


def best_iteration(returns: Sequence[float], iterations: Iterable[int]) -> int:
    """Of some iterations the one with the highest score, the paper's smoothed return.

    Args:
        returns: (iterations,) mean episode return of each iteration, from the first.
        iterations: at least one; of equals the earliest is taken.
    """
    scores = smoothed(np.array(returns))
    return min(iterations, key=lambda iteration: (-scores[iteration - 1], iteration))


def save_checkpoint(
    folder: Path,
    algo: Any,
    returns: Sequence[float],
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Saves an Algorithm, and drops all earlier checkpoints but the best.

    The checkpoint appears under its name when it is whole and on the disk. Beside RLlib's files it
    holds ``weights.npz``, the module's parameters by name, which can be read without unpickling.

    Args:
        folder: the cell's folder.
        algo: its LocalAlgorithm.
        returns: (iterations done,) mean episode return of each iteration.
        check: called when the checkpoint is about to appear; raises if it must not.
    """
    parent = folder / CHECKPOINTS
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f".{uuid.uuid4().hex}"
    final = parent / f"iteration_{algo.iterations_done:08d}"
    try:
        algo.save_to_path(temporary)
        np.savez(temporary / WEIGHTS_FILE, **algo.numpy_weights())
        for path in temporary.rglob("*"):
            _sync(path)
        check()
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    made = {i: path for i, path in checkpoints(folder).items() if i <= algo.iterations_done}
    best = best_iteration(returns, made)
    for iteration, path in made.items():
        if iteration not in (best, algo.iterations_done):
            shutil.rmtree(path)
    return final


def drop_unfinished_checkpoints(folder: Path) -> None:
    """Deletes what processes left that ended while they saved."""
    for unfinished in (folder / CHECKPOINTS).glob(".*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    """The commit of the package's source tree, with ``-dirty`` where it has changes.

    An installation without its sources, such as a container image, may name it in GIT_COMMIT.
    """
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return os.environ.get("GIT_COMMIT") or None
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
