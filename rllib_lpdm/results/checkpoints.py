"""The checkpoints of a cell: the last one, and the best."""

import io
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.results.layout import (
    CHECKPOINTS,
    MOST_BYTES,
    WEIGHTS_FILE,
    checkpoint_iteration,
    checkpoint_name,
)
from rllib_lpdm.results.scores import finite, smoothed
from rllib_lpdm.results.storage import open_file
from rllib_lpdm.schema.messages import one_line


class Trained(Protocol):
    """What can be saved: an algorithm after some iterations."""

    iterations_done: int

    def save_to_path(self, path: Path) -> Any:
        """Writes all that training goes on from into a folder."""

    def numpy_weights(self) -> Mapping[str, NDArray[Any]]:
        """The module's parameters by name."""


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a cell by iteration, in order."""
    found = {}
    for path in (folder / CHECKPOINTS).glob("*"):
        iteration = checkpoint_iteration(path)
        if iteration is not None:
            found[iteration] = path
    return dict(sorted(found.items()))


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
    scores = smoothed(finite(np.array(returns, dtype=np.float64)))
    return min(iterations, key=lambda iteration: (-scores[iteration - 1], iteration))


def save_checkpoint(
    folder: Path,
    algo: Trained,
    returns: Sequence[float],
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Saves an algorithm, and drops all earlier checkpoints but the best.

    The checkpoint appears under its name when it is whole and on the disk. Beside RLlib's files it
    holds ``weights.npz``, the module's parameters by name, which can be read without unpickling.

    Args:
        folder: the cell's folder.
        algo: its algorithm.
        returns: (iterations done,) mean episode return of each iteration.
        check: called when the checkpoint is about to appear; raises if it must not.
    """
    parent = folder / CHECKPOINTS
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f".{uuid.uuid4().hex}"
    final = parent / checkpoint_name(algo.iterations_done)
    try:
        algo.save_to_path(temporary)
        (temporary / WEIGHTS_FILE).write_bytes(packed(algo.numpy_weights()))
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


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An ``.npz`` archive of some arrays, whose names may be words of ``numpy.savez`` too."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return content.getvalue()


def read_arrays(file: Path, limit: int = MOST_BYTES[WEIGHTS_FILE]) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` archive by name; one that would need unpickling is refused.

    Args:
        file: the archive.
        limit: bytes that it may have, packed and unpacked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is anything else than an archive of plain arrays.
    """
    try:
        with open_file(file, limit) as packed:
            if not zipfile.is_zipfile(packed):
                raise ValueError("it is one array or no arrays, not an .npz archive of named ones")
            with zipfile.ZipFile(packed) as archive:
                declared = sum(member.file_size for member in archive.infolist())
            if declared > limit:
                raise ValueError(f"it unpacks to {declared} bytes, more than {limit}")
            packed.seek(0)
            with np.load(packed, allow_pickle=False) as arrays_by_name:
                arrays = dict(arrays_by_name)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises whatever its layers meet
        raise ValueError(one_line(error)) from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("it holds other things than arrays")
    return arrays


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
