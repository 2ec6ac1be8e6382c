"""Runs an experiment's cells: under Tune, many at once, or one by one in this process."""

import dataclasses
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import ray
from ray import tune

from rllib_lpdm.experiment.cell import CellRun
from rllib_lpdm.experiment.records import newest_checkpoint, read_run
from rllib_lpdm.experiment.spec import Cell, CellSettings, Experiment, ExperimentError

TUNE_FOLDER = ".tune"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the cells of an experiment ended.

    Attributes:
        folder: the experiment's folder.
        finished: names of the cells that reached their last iteration.
        failed: names of the cells that did not, with the last line of the error.
    """

    folder: Path
    finished: list[str]
    failed: dict[str, str]


def run_experiment(
    experiment: Experiment,
    output: Path,
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """Trains every cell of an experiment into ``<output>/<name>/<cell>/``.

    Args:
        experiment: what to run.
        output: the results folder, reachable from every node of a cluster.
        address: a Ray cluster to join; by default that of RAY_ADDRESS, else this machine alone.
        max_concurrent: cells that run at once; None for as many as there are CPUs.
        resume: continue an existing folder: finished cells are kept, others go on from their
            checkpoints.
        overwrite: delete an existing folder first.

    Raises:
        ExperimentError: the folder exists and neither ``resume`` nor ``overwrite`` was given; or it
            cannot be written; or a cell in it has other settings.
    """
    cells = experiment.cells()
    folder = (output / experiment.name).resolve()
    prepare_folder(folder, resume=resume, overwrite=overwrite)
    for cell in cells:
        _check_unchanged(cell, folder / cell.name)
    pending = [cell for cell in cells if _status(folder / cell.name) != "finished"]
    command = shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
    progress = _Progress(len(cells), done=len(cells) - len(pending))
    if pending and experiment.in_process:
        _run_here(pending, folder, command, progress)
    elif pending:
        _run_under_tune(pending, folder, command, progress, address, max_concurrent)
    failed = {
        cell.name: _last_error(folder / cell.name)
        for cell in cells
        if _status(folder / cell.name) != "finished"
    }
    return Outcome(folder, [cell.name for cell in cells if cell.name not in failed], failed)


def prepare_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Makes the folder, or does with an existing one what was asked for.

    Raises:
        ExperimentError: it holds something, and nothing was asked for; or it is not an experiment's
            folder, so that overwriting it would delete something else.
    """
    try:
        _prepare_folder(folder, resume, overwrite)
    except OSError as error:
        raise ExperimentError(f"{folder}: cannot be used: {error.strerror}") from None


def _prepare_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    if folder.exists() and any(folder.iterdir()):
        if overwrite:
            strange = [
                entry.name
                for entry in folder.iterdir()
                if entry.name != TUNE_FOLDER and not (entry / "run.json").is_file()
            ]
            if strange:
                raise ExperimentError(
                    f"{folder}: --overwrite would delete {strange[0]!r}, which is not a cell; "
                    "choose another --output"
                )
            shutil.rmtree(folder)
        elif not resume:
            raise ExperimentError(
                f"{folder} exists: --resume continues it, --overwrite deletes it first"
            )
    folder.mkdir(parents=True, exist_ok=True)


def _run_here(cells: Sequence[Cell], folder: Path, command: str, progress: "_Progress") -> None:
    quiet_environments()
    with _RaySession(address=None, num_cpus=1 + max(cell.settings.env_runners for cell in cells)):
        for cell in cells:
            run = CellRun(cell, folder / cell.name, command)
            try:
                result: dict[str, float] = {}
                while not run.finished:
                    result = run.step()
                progress.completed(cell.name, result)
            except Exception:
                if len(cells) == 1:  # for a debugger
                    raise
                progress.failed(cell.name)
            finally:
                run.close()


def _run_under_tune(
    cells: Sequence[Cell],
    folder: Path,
    command: str,
    progress: "_Progress",
    address: str | None,
    max_concurrent: int | None,
) -> None:
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # with verbose=0: no tables but our own lines
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    configs = [
        {**dataclasses.asdict(cell), "settings": cell.settings.model_dump()} for cell in cells
    ]
    with _RaySession(address):
        _check_cpus(cells)
        tune.Tuner(
            tune.with_resources(CellTrainable, _resources),
            param_space={
                "cell": tune.grid_search(configs),
                "folder": str(folder),
                "command": command,
            },
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=max_concurrent,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(folder / TUNE_FOLDER),
                verbose=0,
                callbacks=[progress],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        ).fit()


def _check_cpus(cells: Sequence[Cell]) -> None:
    largest = max(cells, key=lambda cell: cell.settings.env_runners)
    needed = 1 + largest.settings.env_runners
    # A cluster may still grow; a machine does not.
    available = ray.cluster_resources().get("CPU", 0)
    if len(ray.nodes()) == 1 and needed > available:
        raise ExperimentError(
            f"settings.env_runners: {largest.name} needs {needed} CPUs, one for itself and one for "
            f"each runner, but there are {available:.0f}"
        )


class CellTrainable(tune.Trainable):
    """A cell as Tune sees it: every step is one report of many iterations."""

    def setup(self, config: dict[str, Any]) -> None:
        quiet_environments()
        cell = dict(config["cell"])
        cell["settings"] = CellSettings(**cell["settings"])
        name = Cell(**cell).name
        self._run = CellRun(Cell(**cell), Path(config["folder"]) / name, config["command"])

    def step(self) -> dict[str, Any]:
        return {**self._run.step(), "done": self._run.finished}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next cell in this process: everything is built anew, only the imports are kept."""
        self._run.close()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._run.close()

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own entries, without the config, which would be most of every result."""
        metrics: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        metrics.pop("config", None)
        return metrics


def quiet_environments() -> None:
    """Turns off gymnasium's advice to use newer versions: the paper's are asked for by name."""
    gym.logger.min_level = gym.logger.ERROR


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """One CPU for the cell, and one for each of its remote runners."""
    return tune.PlacementGroupFactory(
        [{"CPU": 1.0}] * (1 + config["cell"]["settings"]["env_runners"])
    )


def _trial_name(trial: Any) -> str:
    cell = dict(trial.config["cell"])
    cell["settings"] = CellSettings(**cell["settings"])
    return Cell(**cell).name


class _Progress(tune.Callback):
    """One line for every cell that ends."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._started = time.monotonic()
        if done:
            print(f"{done} of {total} cells are finished already", flush=True)

    def completed(self, name: str, result: dict[str, Any]) -> None:
        self._done += 1
        elapsed = time.monotonic() - self._started
        score = result.get("episode_return")
        last = "-" if score is None else f"{score:.1f}"
        self._line(name, f"last return {last:>9}   {elapsed:>6.0f} s")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.completed(str(trial), trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.failed(str(trial))

    def failed(self, name: str) -> None:
        self._done += 1
        self._line(name, "FAILED")

    def _line(self, name: str, ending: str) -> None:
        width = len(str(self._total))
        print(f"[{self._done:>{width}}/{self._total}] {name:<44} {ending}", flush=True)


class _RaySession:
    """Joins a cluster, or starts Ray on this machine for as long as the context lasts."""

    def __init__(self, address: str | None, num_cpus: int | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._num_cpus = None if self._address else num_cpus
        self._ours = not ray.is_initialized()

    def __enter__(self) -> None:
        if self._ours:
            ray.init(
                address=self._address,
                num_cpus=self._num_cpus,
                include_dashboard=False if self._address is None else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )

    def __exit__(self, *exception: object) -> None:
        if self._ours:
            ray.shutdown()


def _check_unchanged(cell: Cell, cell_folder: Path) -> None:
    run = _read(cell_folder)
    settings = cell.settings.model_dump(mode="json")
    if run is not None and run.get("settings") != settings and newest_checkpoint(cell_folder):
        before = run.get("settings") or {}
        name = next(n for n in {**settings, **before} if before.get(n) != settings.get(n))
        raise ExperimentError(
            f"{cell_folder} was run with {name}: {before.get(name)}, not {settings.get(name)}; "
            "use another name or --overwrite"
        )


def _read(cell_folder: Path) -> dict[str, Any] | None:
    try:
        return read_run(cell_folder)
    except ValueError as error:
        raise ExperimentError(str(error)) from None


def _status(cell_folder: Path) -> str | None:
    run = _read(cell_folder)
    return None if run is None else run.get("status")


def _last_error(cell_folder: Path) -> str:
    run = _read(cell_folder) or {}
    lines: list[str] = run.get("error", "ended without a word; its process was lost").splitlines()
    return lines[-1]
