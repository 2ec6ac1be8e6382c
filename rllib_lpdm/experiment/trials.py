"""Cells as trials of Ray Tune: what a trial does, what is done when one is lost."""

import errno
import functools
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import ray
from ray import cloudpickle, tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from rllib_lpdm.experiment.cell import (
    CellRun,
    SupersededError,
    given_up,
    new_record,
    with_failure,
)
from rllib_lpdm.experiment.progress import Progress
from rllib_lpdm.experiment.spec import Cell, ExperimentError, RunSettings
from rllib_lpdm.experiment.trackers.follower import CellFollower
from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.storage import is_remote

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
AWS_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
)
NEVER = str(10**9)  # seconds
PENDING = "64"
GRACE = 60.0  # seconds


class CellTrainable(tune.Trainable):
    """A cell as Tune sees it: every step is one report of many iterations.

    An error ends the process, and :class:`TrialWatch` decides whether the cell gets another one.
    Only where a new process cannot help does the trial end with ``failed`` in its result.
    """

    def setup(self, config: dict[str, Any], job: dict[str, Any]) -> None:
        quiet_environments()
        self._job = job
        self._cell: Cell = job["cells"][config["cell"]["name"]]
        self._home: Path = job["folder"] / self._cell.name
        self._run: CellRun | None = None

    def step(self) -> dict[str, Any]:
        if not is_remote(self._home) and not self._home.parent.is_dir():
            return _failure(
                f"{self._home.parent} does not exist on node {ray.util.get_node_ip_address()}: "
                "--output must be on a file system that all nodes share, or a URL such as "
                "s3://bucket/folder"
            )
        try:
            if self._run is None:
                self._run = CellRun(
                    self._cell, self._home, self._job["command"], self._job["session"]
                )
            return {**self._run.step(), "done": self._run.finished}
        except OSError as error:
            if error.errno in DISK_ERRORS and not is_remote(self._home):
                return _failure(_last_line(error), disk=True)
            raise

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


def _failure(reason: str, disk: bool = False) -> dict[str, Any]:
    return {"failed": reason, "disk": disk, "done": True}


class CellQueue(Searcher):
    """Gives Tune one cell after the other, and those whose process was lost once more.

    What a cell costs here does not grow with their number. (Of a ``grid_search``, all values are
    copied for every trial.)
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self._waiting = deque(cells)
        self.open = len(cells)  # cells that have not ended

    def suggest(self, trial_id: str) -> Any:
        """What distinguishes a trial; kept small, because Tune copies and encodes it often."""
        if not self._waiting:
            return None if self.open else Searcher.FINISHED
        cell = self._waiting.popleft()
        settings = cell.settings
        resources = (settings.cpus, _helpers(settings), settings.placement)
        return {"cell": {"name": cell.name, "resources": resources}}

    def again(self, cell: Cell) -> None:
        """The cell needs another trial."""
        self._waiting.append(cell)

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to learn from."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: every cell says itself how far it is."""

    restore = save

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialWatch(tune.Callback):
    """Follows the trials: tells progress and W&B, gives a cell that was lost another trial.

    Args:
        cells: those to run.
        job: what all trials share: ``cells`` by name, ``folder``, ``command``, ``session``.
        progress: hears of everything.
        wandb: likewise.

    Attributes:
        queue: of the cells.
        ended: names of the cells that finished or failed for good.
        failed: of those that failed, the reason.
        disk_error: why nothing can be written any more; None while it can.
    """

    def __init__(
        self, cells: Sequence[Cell], job: dict[str, Any], progress: Progress, wandb: CellFollower
    ) -> None:
        self._job, self._progress, self._wandb = job, progress, wandb
        self._recorded: Counter[str] = Counter()  # failures in run.json that were reckoned with
        self.queue = CellQueue(cells)
        self.ended: set[str] = set()
        self.failed: dict[str, str] = {}
        self.disk_error: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves its callbacks for a way to resume that is not used here."""
        return {}

    def finish(self, name: str, failure: str | None = None) -> None:
        """A cell has ended, by a failure or well."""
        self.ended.add(name)
        self.queue.open -= 1
        if failure is None:
            self._progress.completed(name)
        else:
            self.failed[name] = failure
            self._progress.failed(name, failure)
        self._wandb.finish(self._job["folder"] / name, failed=failure is not None)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.started(str(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "failed" not in result:
            self.report(str(trial), result)

    def report(self, name: str, result: dict[str, Any]) -> None:
        """A cell has made a step."""
        self._progress.reported(name, result)
        self._wandb.update(self._job["folder"] / name)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._progress.tick()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        if result.get("disk"):
            self.disk_error = result["failed"]
        elif result.get("done"):  # else it was stopped with all others
            self.finish(str(trial), result.get("failed"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name, end = str(trial), _end_of(trial)
        if end.lost_node or self._may_go_on(name, end):
            self._progress.retried(name, end.reason)
            self.queue.again(self._job["cells"][name])
        else:
            self.finish(name, end.reason)

    def _may_go_on(self, name: str, end: "_End") -> bool:
        """Whether a cell has retries left; records the failure if its process could not."""
        if end.superseded:
            return False
        home: Path = self._job["folder"] / name
        cell: Cell = self._job["cells"][name]
        try:
            run = RunRecord.read(home)
            if run is None or run.session != self._job["session"]:
                run = new_record(cell, run, self._job["command"], self._job["session"])
            if len(run.failures) == self._recorded[name]:
                run = with_failure(
                    run, f"{end.reason}\n{end.text}", max(checkpoints(home), default=0)
                )
                run.write(home)
        except Exception:  # of any class behind a URL; retries without a count would have no end
            return False
        self._recorded[name] = len(run.failures)
        return not given_up(run, cell.settings.retries)


class _StopOnDiskError(tune.Stopper):
    """Ends all trials when nothing can be written any more."""

    def __init__(self, watch: TrialWatch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._watch.disk_error is not None


def run_trials(
    job: dict[str, Any],
    watch: TrialWatch,
    max_concurrent: int | None = None,
    trainable: type[tune.Trainable] = CellTrainable,
) -> None:
    """Runs the cells of a watch under Tune until all have ended, or a signal or full disk ends it.

    Tune's own state is in a temporary folder: a cell's folder is all that is needed to continue.

    Args:
        job: what all trials share.
        watch: has the cells, and hears of everything.
        max_concurrent: cells that run at once; None for as many as there are CPUs.
        trainable: what a trial does.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # with verbose=0: no tables but our own
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = NEVER
    # Cells that wait for a place at once, by which a cluster sees that it may grow.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", PENDING)
    # Ray logs the variables that Tune hands to a trial; nodes have credentials of their own.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(AWS_SECRETS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    state = tempfile.mkdtemp(prefix="rllib_lpdm-tune-")
    try:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(trainable, job=job), _resources),
            tune_config=tune.TuneConfig(
                search_alg=watch.queue,
                num_samples=-1,  # the queue says when all have ended
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
                failure_config=tune.FailureConfig(max_failures=0),  # the queue tries again
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

    Tune stops at the first SIGINT, and the second one ends the process at once. Where SIGTERM has
    ended Ray's processes too, so that Tune waits in vain, this one ends after GRACE seconds.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    patience = threading.Timer(GRACE, os._exit, (128 + signal.SIGTERM,))
    patience.daemon = True

    def terminate(number: int, frame: Any) -> None:
        if not received:
            patience.start()
        received.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield received
    finally:
        patience.cancel()
        signal.signal(signal.SIGTERM, before)


def check_resources(cells: Sequence[Cell]) -> None:
    """Refuses cells that this machine cannot hold.

    Raises:
        ExperimentError: names the setting.
    """
    largest = max(cells, key=lambda cell: cell.settings.cpus + _helpers(cell.settings))
    settings = largest.settings
    needed = settings.cpus + _helpers(settings)
    available = ray.cluster_resources().get("CPU", 0)
    if needed > available:
        name = max(("env_runners", "learners"), key=lambda name: int(getattr(settings, name)))
        name = "cpus" if settings.cpus > available else name
        raise ExperimentError(
            f"settings.{name}: {largest.name} needs {needed:g} CPUs, {settings.cpus:g} for itself "
            f"and one for each runner and learner, but there are {available:.0f}"
        )
    for cell in cells:
        if cell.settings.placement == "STRICT_SPREAD" and _helpers(cell.settings):
            raise ExperimentError(
                f"settings.placement: {cell.name}: STRICT_SPREAD puts every process on a node of "
                "its own, and there is one node"
            )


def quiet_environments() -> None:
    """Turns off gymnasium's advice to use newer versions: the paper's are asked for by name."""
    gym.logger.min_level = gym.logger.ERROR


def _helpers(settings: RunSettings) -> int:
    """Processes of a cell beside its own."""
    return settings.env_runners + settings.learners


@functools.cache
def _bundles(cpus: float, helpers: int, placement: str) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory(
        [{"CPU": cpus}, *[{"CPU": 1.0}] * helpers], strategy=placement
    )


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """One bundle for a cell's process, and one CPU for each of its remote runners and learners."""
    return _bundles(*config["cell"]["resources"])


def _trial_name(trial: Any) -> str:
    name: str = trial.config["cell"]["name"]
    return name


class _End(NamedTuple):
    """Why the process of a trial ended.

    Attributes:
        reason: in one line.
        text: all that is known.
        lost_node: whether its node, or the connection to it, was lost.
        superseded: whether another run of the experiment has taken the cell over.
    """

    reason: str
    text: str
    lost_node: bool = False
    superseded: bool = False


def _end_of(trial: Any) -> _End:
    error: Any = None  # as Tune has written it down on this machine
    if trial.pickled_error_file is not None:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    text = str(error)
    if isinstance(error, ray.exceptions.RayTaskError):
        superseded = isinstance(error.cause, SupersededError)
        return _End(_last_line(error.cause or error), text, superseded=superseded)
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return _End("its node does not answer", text, lost_node=True)
    if isinstance(error, ray.exceptions.RayActorError):
        if error.preempted or "node has died" in text:
            return _End("its node was lost", text, lost_node=True)
        if error.actor_init_failed:
            return _End(text.strip().splitlines()[-1], text)
    detail = re.search(r"Worker exit detail: (.+?)(\. |$)", text, re.MULTILINE)
    return _End(f"its process was lost: {detail[1] if detail else text[:200]}", text)


def _last_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
