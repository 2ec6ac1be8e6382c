"""What a cell's folder holds of a trained policy, read as data.

A folder may come from anyone: JSON, CSV and arrays without Python objects are read. Nothing is
unpickled, and no module that a file names is imported.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import gymnasium as gym
import numpy as np
import pydantic
from numpy.typing import NDArray

from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.methods import METHODS
from rllib_lpdm.results.checkpoints import best_iteration, checkpoints, read_arrays
from rllib_lpdm.results.iterations import RETURN, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE, RUN_FILE, WEIGHTS_FILE, cell_folders
from rllib_lpdm.results.record import RecordError, RunRecord
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.environments import EnvironmentSpec
from rllib_lpdm.schema.experiment import Cell, every_setting
from rllib_lpdm.schema.faults import unknown_environment
from rllib_lpdm.schema.messages import (
    UserError,
    counted,
    fault,
    no_folder,
    one_line,
    shown,
    unknown_name,
)

Array = NDArray[Any]
CheckpointName = Literal["best", "last"]
CHECKPOINT_NAMES: tuple[CheckpointName, ...] = get_args(CheckpointName)


@dataclass(frozen=True)
class SavedWeights:
    """A policy as a checkpoint holds it.

    Attributes:
        cell: what was trained.
        status: of the run: running, finished or failed.
        versions: of the packages that trained it.
        checkpoint: how the checkpoint was chosen.
        iteration: the paper's iterations that had been trained.
        source: the file of the weights.
        weights: the module's parameters by name.
    """

    cell: Cell
    status: str
    versions: dict[str, Any]
    checkpoint: CheckpointName
    iteration: int
    source: Path
    weights: dict[str, Array]

    @classmethod
    def load(cls, folder: str | Path, checkpoint: CheckpointName = "best") -> Self:
        """Reads a cell's folder, which may have been moved or copied, or may still be trained.

        Args:
            folder: the cell's.
            checkpoint: "best", of the highest smoothed return in training, or "last".

        Raises:
            UserError: the folder is none of a cell, has no checkpoint yet or is damaged; its
                environment is not registered.
        """
        if checkpoint not in CHECKPOINT_NAMES:
            raise UserError(unknown_name(str(checkpoint), CHECKPOINT_NAMES, "checkpoint"))
        if "://" in str(folder):
            raise UserError(f"{folder}: copy the cell's folder to this machine first")
        folder = Path(folder)
        try:
            run = _read_record(folder)
            while True:
                iteration, source = _choose(folder, checkpoint, run.status)
                try:
                    weights = _read_weights(source)
                    break
                except FileNotFoundError:
                    if os.path.lexists(source.parent):  # else a running cell has just dropped it
                        raise UserError(
                            f"{source} is missing: the checkpoint is incomplete"
                        ) from None
            cell = recorded_cell(run, folder / RUN_FILE)
        except UserError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{folder} cannot be read: {one_line(error)}") from None
        return cls(cell, run.status, run.versions, checkpoint, iteration, source, weights)


def _read_record(folder: Path) -> RunRecord:
    if not folder.is_dir():
        raise UserError(no_folder(folder))
    try:
        run = RunRecord.read(folder)
    except RecordError as error:
        raise UserError(f"{folder / RUN_FILE} is damaged: {error.fault}") from None
    if run is None:
        cells = cell_folders(folder)
        if not cells:
            raise UserError(f"{folder} is not a cell's folder: it has no {RUN_FILE}")
        raise UserError(
            f"{folder} is an experiment's folder; name a cell in it, such as "
            f"{', '.join(map(str, cells[:3]))}"
        )
    return run


def recorded_cell(run: RunRecord, file: Path) -> Cell:
    """The cell that a record describes.

    Args:
        run: the record.
        file: where it stands, for messages.

    Raises:
        UserError: names what is not known here: an environment that is not registered, or a
            setting of another version.
    """
    for kind, name, known in (
        ("algorithm", run.algorithm, ALGORITHMS),
        ("method", run.method, METHODS),
    ):
        if name not in known:
            raise UserError(f"{file}: {unknown_name(name, known, kind)}")
    spec = None
    if run.environment_spec is not None:
        spec = _validated(EnvironmentSpec, run.environment_spec, f"{file}: environment_spec")
    environment = spec.id if spec else run.environment
    if environment not in gym.registry:  # gymnasium would import a module before a colon
        raise UserError(f"{file}: {unknown_environment(environment)}")
    unknown = [name for name in run.settings if name not in every_setting().model_fields]
    if unknown:
        raise UserError(
            f"{file}: settings: unknown setting {shown(unknown[0])}; the cell was trained with "
            f"rllib-lpdm {shown(run.versions.get('rllib-lpdm'))}, this is "
            f"{provenance()['versions']['rllib-lpdm']}"
        )
    settings = _validated(every_setting(), run.settings, f"{file}: settings")
    of_run = (run.environment, run.algorithm, run.method, run.seed, settings, run.variant)
    return Cell(*of_run, environment_spec=spec)


def _validated(model: type[Any], content: dict[str, Any], place: str) -> Any:
    try:
        return model(**content)
    except pydantic.ValidationError as error:
        raise UserError(f"{place}.{fault(error)}") from None


def _choose(folder: Path, checkpoint: CheckpointName, status: str) -> tuple[int, Path]:
    """The checkpoint's iteration and the file of its weights."""
    found = checkpoints(folder)
    if not found:
        raise UserError(f"{folder} has no checkpoint yet; the run's status is {status}")
    iteration = max(found)
    if checkpoint == "best":
        file = folder / ITERATIONS_FILE
        returns = _returns(file) if file.exists() else []
        if len(returns) < iteration:
            raise UserError(
                f"{file} has {counted(len(returns), 'whole row')}, the last checkpoint "
                f"{iteration}, so the best is not known; --checkpoint last does without"
            )
        iteration = best_iteration(returns, found)
    return iteration, found[iteration] / WEIGHTS_FILE


def _returns(file: Path) -> list[float]:
    """Mean episode return of every iteration; a row that is being written is left out."""
    try:
        columns = read_columns(read_file(file))
    except ValueError:
        raise UserError(
            f"{file} is damaged, so the best checkpoint is not known; --checkpoint last does "
            "without"
        ) from None
    return columns[RETURN].tolist() if columns else []


def _read_weights(file: Path) -> dict[str, Array]:
    """The arrays of an archive, none of which may need unpickling."""
    try:
        weights = read_arrays(file)
    except ValueError as error:
        raise UserError(
            f"{file} is no archive of plain arrays, and nothing else is loaded: {error}"
        ) from None
    for name, value in weights.items():
        if value.dtype != np.float32:
            raise UserError(f"{file}: {shown(name)} is no array of float32 numbers")
        if not np.isfinite(value).all():
            raise UserError(f"{file}: {shown(name)} has values that are not finite")
    return weights
