"""Runs cells as trials of Ray Tune."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from rllib_lpdm.grid.queue import TrialWatch
from rllib_lpdm.grid.resources import resources
from rllib_lpdm.grid.trainable import CellTrainable

AWS_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
)
NEVER = str(10**9)  # seconds
PENDING = "64"


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
    job = job | {"max_concurrent": max_concurrent}
    state = tempfile.mkdtemp(prefix="rllib_lpdm-tune-")
    try:
        with _tune_for_cells():
            tune.Tuner(
                tune.with_resources(tune.with_parameters(trainable, job=job), resources),
                tune_config=tune.TuneConfig(
                    scheduler=_InTurn(),
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


@contextlib.contextmanager
def _tune_for_cells() -> Iterator[None]:
    """Sets Tune up for many short cells, and puts everything back at the end."""
    variables = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no tables but our own
        "TUNE_GLOBAL_CHECKPOINT_S": NEVER,
        # Cells that wait for a place at once, by which a cluster sees that it may grow.
        "TUNE_MAX_PENDING_TRIALS_PG": os.environ.get("TUNE_MAX_PENDING_TRIALS_PG", PENDING),
    }
    before = {name: os.environ.get(name) for name in variables}
    log, cached = logging.getLogger("ray.tune"), class_cache
    level, known = log.level, TuneController._get_trial_checkpoints
    # PyTorch Lightning's: Ray starts a process with variables to itself twice, for 0.6 CPU seconds.
    lightning, propagated = cached.DEFAULT_ENV_VARS.copy(), cached.ENV_VARS_TO_PROPAGATE
    os.environ.update(variables)
    log.setLevel(logging.CRITICAL)
    cached.DEFAULT_ENV_VARS.clear()
    # Ray logs the variables that Tune hands to a trial; nodes have credentials of their own.
    cached.ENV_VARS_TO_PROPAGATE = propagated.difference(AWS_SECRETS)
    # What Tune would write of each trial into its own state is a fourth of a trial's cost.
    TuneController._get_trial_checkpoints = lambda controller: {}
    try:
        yield
    finally:
        TuneController._get_trial_checkpoints = known
        cached.ENV_VARS_TO_PROPAGATE = propagated
        cached.DEFAULT_ENV_VARS.update(lightning)
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _InTurn(FIFOScheduler):
    """First come, first served, as Tune's own, which asks every trial there ever was for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Trial] = deque()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._waiting.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        while self._waiting and self._waiting[0].status != Trial.PENDING:
            self._waiting.popleft()  # no trial waits a second time: a cell gets a new one
        return self._waiting[0] if self._waiting else None


class _StopOnDiskError(tune.Stopper):
    """Ends all trials when nothing can be written any more."""

    def __init__(self, watch: TrialWatch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._watch.disk_error is not None


def _trial_name(trial: Any) -> str:
    name: str = trial.config["cell"]["name"]
    return name
