"""Cells as trials of Ray Tune: what a trial does, what is done when one is lost."""

import errno
import functools
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import ray
from ray import cloudpickle, tune
from ray.tune.search import Searcher

from rllib_lpdm.experiment.cell import (
    CellRun,
    SupersededError,
    given_up,
    new_record,
    with_failure,
)
from rllib_lpdm.experiment.progress import Progress
from rllib_lpdm.experiment.records import checkpoints, is_remote, read_run, write_run
from rllib_lpdm.experiment.spec import Cell, ExperimentError
from rllib_lpdm.experiment.wandb import WandbSink

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
NEVER = str(10**9)  # seconds
PENDING = "64"


class CellTrainable(tune.Trainable):
    """A cell as Tune sees it: every step is one report of many iterations.

    An error is raised, so that Tune starts the cell again in a new process, until the cell's
    ``retries`` are used up; then the trial ends with ``failed`` in its result.
    """

    def setup(self, config: dict[str, Any], job: dict[str, Any]) -> None:
        quiet_environments()
        self._job = job
        self._cell: Cell = job["cells"][config["cell"]["name"]]
        self._home: Path = job["folder"] / self._cell.name
        self._run: CellRun | None = None

    def step(self) -> dict[str, Any]:
        if not is_remote(self._home) and not self._home.parent.is_dir():
            return self._failure(
                f"{self._home.parent} does not exist on node {ray.util.get_node_ip_address()}: "
                "--output must be on a file system that all nodes share, or a URL such as "
                "s3://bucket/folder"
            )
        try:
            if self._run is None:
                if self._failures_recorded() and self._given_up():
                    return self._failure("its process was lost too often")
                self._run = CellRun(
                    self._cell, self._home, self._job["command"], self._job["session"]
                )
            return {**self._run.step(), "done": self._run.finished}
        except SupersededError:
            raise
        except Exception as error:
            if self._failures_recorded() and not self._given_up() and not _is_of_disk(error):
                raise
            return self._failure(_last_line(error), disk=_is_of_disk(error))

    def _failures_recorded(self) -> bool:
        """Whether the last error stands in ``run.json``; where it cannot, retries have no end."""
        try:
            run = read_run(self._home) or {}
        except (OSError, ValueError):
            return False
        return run.get("status") == "failed" and run.get("session") == self._job["session"]

    def _given_up(self) -> bool:
        return given_up(read_run(self._home) or {})

    def _failure(self, reason: str, disk: bool = False) -> dict[str, Any]:
        return {"failed": reason, "disk": disk, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next cell in this process: everything is built anew, only the imports are kept."""
        self.cleanup()
        CellTrainable.setup(self, new_config, self._job)
        return True

    def cleanup(self) -> None:
        if self._run is not None:
            self._run.close()

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own entries, without the config."""
        metrics: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        metrics.pop("config", None)
        return metrics


class CellQueue(Searcher):
    """Gives Tune one cell after the other, at a cost that does not grow with their number.

    (A ``grid_search`` of all cells is copied whole for every trial.)
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self._left = deque(cells)

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        """What distinguishes a trial; kept small, because Tune copies and encodes it often."""
        if not self._left:
            return Searcher.FINISHED
        cell = self._left.popleft()
        settings = cell.settings
        resources = (settings.cpus, settings.env_runners, settings.placement)
        return {"cell": {"name": cell.name, "resources": resources}}

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to learn from."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: every cell says itself how far it is."""

    restore = save

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialWatch(tune.Callback):
    """Follows the trials: tells progress and W&B, records the ends of lost processes.

    Attributes:
        ended: names of the cells that finished or failed for good.
        failed: of those that failed, the reason.
        lost: of those that Tune gave up before their retries were used up, the reason.
        disk_error: why nothing can be written any more; None while it can.
    """

    def __init__(self, job: dict[str, Any], progress: Progress, wandb: WandbSink) -> None:
        self._job, self._progress, self._wandb = job, progress, wandb
        self.ended: set[str] = set()
        self.failed: dict[str, str] = {}
        self.lost: dict[str, str] = {}
        self.disk_error: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves its callbacks for a way to resume that is not used here."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.started(str(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "failed" not in result:
            self._progress.reported(str(trial), result)
            self._wandb.update(self._home(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name, result = str(trial), trial.last_result or {}
        if not result.get("done"):  # stopped with all others
            return
        self.ended.add(name)
        reason = result.get("failed")
        if reason is None:
            self._progress.completed(name)
        else:
            self.failed[name] = reason
            self._progress.failed(name, reason)
            if result.get("disk"):
                self.disk_error = reason
        self._wandb.finish(self._home(trial), failed=reason is not None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune starts the trial again; a process that was lost could not say why."""
        reason, lost_node, in_python = _end_of(trial)
        if not lost_node and not in_python:
            self._record_lost_process(str(trial), reason)
        self._progress.retried(str(trial), reason)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        reason, _, _ = _end_of(trial)
        self.lost[str(trial)] = reason
        self._progress.retried(str(trial), reason)

    def _record_lost_process(self, name: str, reason: str) -> None:
        home: Path = self._job["folder"] / name
        try:
            run = read_run(home)
            if run is None or run.get("session") != self._job["session"]:
                cell = self._job["cells"][name]
                run = new_record(cell, run, self._job["command"], self._job["session"])
            write_run(home, with_failure(run, reason, max(checkpoints(home), default=0)))
        except (OSError, ValueError) as error:
            self._progress.retried(name, f"its failure cannot be recorded: {error}")

    def _home(self, trial: Any) -> Path:
        home: Path = self._job["folder"] / str(trial)
        return home


class _StopOnDiskError(tune.Stopper):
    """Ends all trials when nothing can be written any more."""

    def __init__(self, watch: TrialWatch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._watch.disk_error is not None


def run_trials(
    cells: Sequence[Cell],
    job: dict[str, Any],
    watch: TrialWatch,
    max_concurrent: int | None = None,
    trainable: type[tune.Trainable] = CellTrainable,
) -> None:
    """Runs cells under Tune until all have ended, or a signal or a full disk ends it.

    Tune's own state is in a temporary folder: a cell's folder is all that is needed to continue.

    Args:
        cells: those to run.
        job: what all trials share: ``cells`` by name, ``folder``, ``command``, ``session``.
        watch: hears of everything.
        max_concurrent: cells that run at once; None for as many as there are CPUs.
        trainable: what a trial does.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # with verbose=0: no tables but our own
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = NEVER
    # Cells that wait for a place at once, by which a cluster sees that it may grow.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", PENDING)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    state = tempfile.mkdtemp(prefix="rllib_lpdm-tune-")
    try:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(trainable, job=job), _resources),
            tune_config=tune.TuneConfig(
                search_alg=CellQueue(cells),
                num_samples=len(cells),
                reuse_actors=True,
                max_concurrent_trials=max_concurrent,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=state,
                verbose=0,
                callbacks=[watch],
                stop=_StopOnDiskError(watch),
                failure_config=tune.FailureConfig(max_failures=-1),  # CellTrainable counts them
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        ).fit()
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def termination_as_interrupt() -> Iterator[list[int]]:
    """SIGTERM ends the run as Ctrl-C does; gives the list of the signals that arrived.

    Tune stops at the first SIGINT, and the second one ends the process at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def terminate(number: int, frame: Any) -> None:
        received.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def check_resources(cells: Sequence[Cell]) -> None:
    """Refuses cells that this machine cannot hold.

    Raises:
        ExperimentError: names the setting.
    """
    largest = max(cells, key=lambda cell: cell.settings.cpus + cell.settings.env_runners)
    needed = largest.settings.cpus + largest.settings.env_runners
    available = ray.cluster_resources().get("CPU", 0)
    if needed > available:
        raise ExperimentError(
            f"settings.env_runners: {largest.name} needs {needed:g} CPUs, "
            f"{largest.settings.cpus:g} for itself and one for each runner, but there are "
            f"{available:.0f}"
        )


def quiet_environments() -> None:
    """Turns off gymnasium's advice to use newer versions: the paper's are asked for by name."""
    gym.logger.min_level = gym.logger.ERROR


@functools.cache
def _bundles(cpus: float, env_runners: int, placement: str) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory(
        [{"CPU": cpus}, *[{"CPU": 1.0}] * env_runners], strategy=placement
    )


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """One bundle for a cell's process, and one CPU for each of its remote runners."""
    return _bundles(*config["cell"]["resources"])


def _trial_name(trial: Any) -> str:
    name: str = trial.config["cell"]["name"]
    return name


def _end_of(trial: Any) -> tuple[str, bool, bool]:
    """Why a trial's process ended: the reason, whether its node was lost, whether it was Python."""
    error: Any = None  # as Tune has written it down on this machine
    if trial.pickled_error_file is not None:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    if isinstance(error, ray.exceptions.RayTaskError):
        return _last_line(error.cause or error), False, True
    text = " ".join(str(error).split())
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return "its node does not answer", True, False
    if isinstance(error, ray.exceptions.RayActorError) and (
        error.preempted or "node has died" in text
    ):
        return "its node was lost", True, False
    return f"its process was lost: {text}", False, False


def _is_of_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _last_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
