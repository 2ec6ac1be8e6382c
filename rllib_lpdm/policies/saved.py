"""Reads a trained policy from its cell's folder, which may come from anyone.

It reads JSON, CSV and arrays without Python objects. It unpickles nothing, and imports no module
that a file names.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from rllib_lpdm.schema.cell_settings import every_setting
from rllib_lpdm.schema.environments import EnvironmentSpec
from rllib_lpdm.schema.experiment import Cell
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
    """The weights of a checkpoint by parameter, and their origin."""

    cell: Cell
    status: str  # of the run: running, finished or failed
    versions: dict[str, Any]  # of the packages that trained the cell
    checkpoint: CheckpointName
    iteration: int  # the paper's, counted from 1
    source: Path
    weights: dict[str, Array]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        checkpoint: CheckpointName = "best",
        imports: Sequence[str] = (),
    ) -> Self:
        """Reads a cell's folder; arguments and errors as for :func:`evaluation.evaluate`.

        Workers import the modules `imports`, which register the environment.
        """
        if checkpoint not in CHECKPOINT_NAMES:
            raise UserError(unknown_name(str(checkpoint), CHECKPOINT_NAMES, "checkpoint"))
        if "://" in str(folder):
            raise UserError(f"{folder}: copy the cell's folder to this machine first")
        folder = Path(folder)
        try:
            run = read_record(folder)
            if run is None:
                raise UserError(_not_a_cell(folder))
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
            cell = replace(recorded_cell(run, folder / RUN_FILE), imports=tuple(imports))
        except UserError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{folder} cannot be read: {one_line(error)}") from None
        return cls(cell, run.status, run.versions, checkpoint, iteration, source, weights)


def read_record(folder: Path) -> RunRecord | None:
    """Returns the record in a cell's folder; None where the folder has none.

    Raises:
        UserError: the record is damaged or cannot be read.
    """
    try:
        return RunRecord.read(folder)
    except RecordError as error:
        raise UserError(f"{folder / RUN_FILE} is damaged: {error.fault}") from None
    except OSError as error:
        raise UserError(f"{folder / RUN_FILE} cannot be read: {one_line(error)}") from None


def _not_a_cell(folder: Path) -> str:
    if not folder.is_dir():
        return no_folder(folder)
    cells = cell_folders(folder)
    if not cells:
        return f"{folder} is not a cell's folder: it has no {RUN_FILE}"
    names = ", ".join(map(str, cells[:3]))
    return f"{folder} is an experiment's folder; name a cell in it, such as {names}"


def differences(pairs: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Returns the names whose two values differ, each with its value then and now."""
    return [
        f"{name} {shown(then)} then, {shown(now)} now"
        for name, (then, now) in pairs.items()
        if then != now
    ]


def recorded_cell(run: RunRecord, file: Path) -> Cell:
    """Returns the cell that a record describes; messages name the record's file.

    Raises:
        UserError: the environment, algorithm or method is not registered, or a setting is of
            another version.
    """
    if run.algorithm not in ALGORITHMS:
        raise UserError(f"{file}: {unknown_name(run.algorithm, ALGORITHMS, 'algorithm')}")
    if run.method not in METHODS:
        raise UserError(f"{file}: {unknown_name(run.method, METHODS, 'method')}")
    spec = None
    if run.environment_spec is not None:
        spec = _validated(EnvironmentSpec, run.environment_spec, f"{file}: environment_spec")
    environment = spec.id if spec else run.environment
    if environment not in gym.registry:  # gymnasium would import a module before a colon
        raise UserError(f"{file}: {unknown_environment(environment)}")
    unknown = run.settings.keys() - every_setting().model_fields.keys()
    if unknown:
        raise UserError(
            f"{file}: settings: unknown setting {shown(min(unknown))}; the cell was trained with "
            f"rllib-lpdm {shown(run.versions.get('rllib-lpdm'))}, this is "
            f"{provenance()['versions']['rllib-lpdm']}"
        )
    settings = _validated(every_setting(), run.settings, f"{file}: settings")
    kind = run.environment, run.algorithm, run.method
    return Cell(*kind, run.seed, settings, run.variant, environment_spec=spec)


def _validated(model: type[Any], content: dict[str, Any], place: str) -> Any:
    try:
        return model(**content)
    except pydantic.ValidationError as error:
        raise UserError(f"{place}.{fault(error)}") from None


def _choose(folder: Path, checkpoint: CheckpointName, status: str) -> tuple[int, Path]:
    """Returns the iteration of a checkpoint, and the file of its weights."""
    found = checkpoints(folder)
    if not found:
        raise UserError(f"{folder} has no checkpoint yet; the run's status is {status}")
    iteration = max(found)
    if checkpoint == "best":
        file, way_out = folder / ITERATIONS_FILE, "the best is not known; use --checkpoint last"
        try:
            columns = read_columns(read_file(file)) if file.exists() else None
        except ValueError:
            raise UserError(f"{file} is damaged, so {way_out}") from None
        returns = columns[RETURN].tolist() if columns else []  # of whole rows
        if len(returns) < iteration:
            raise UserError(
                f"{file} has {counted(len(returns), 'whole row')}, the last checkpoint "
                f"{iteration}, so {way_out}"
            )
        iteration = best_iteration(returns, found)
    return iteration, found[iteration] / WEIGHTS_FILE


def _read_weights(file: Path) -> dict[str, Array]:
    """Reads the arrays of an archive, none of which may need unpickling."""
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
