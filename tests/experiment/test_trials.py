"""Cells under Tune: which is next, and what the driver does for each."""

import io
import logging
import os
import signal
from types import SimpleNamespace

import pytest
import ray
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController

from benchmarks.grid import _Stub, grid_of
from rllib_lpdm.grid.cell import SupersededError, new_record
from rllib_lpdm.grid.progress import Progress
from rllib_lpdm.grid.queue import TrialWatch
from rllib_lpdm.grid.signals import HANDLED, termination_as_interrupt
from rllib_lpdm.grid.trackers.follower import CellFollower
from rllib_lpdm.grid.trials import run_trials


class Begun(Progress):
    """Remembers the cells in the order in which they begin."""

    def __init__(self, cells):
        super().__init__(cells, {}, io.StringIO())
        self.names = []

    def started(self, name):
        self.names.append(name)
        super().started(name)


class Stub(_Stub):
    """Leaves a file that says what its process was started with."""

    def setup(self, config, job):
        super().setup(config, job)
        asked = ray.get_runtime_context().get_runtime_env_string()
        (job["folder"] / "runtime_env.json").write_text(asked)


def of_tune():
    """What a run changes for itself, of Tune and of the environment."""
    return (
        {name: value for name, value in os.environ.items() if name.startswith(("TUNE", "RAY_"))},
        class_cache.DEFAULT_ENV_VARS.copy(),
        set(class_cache.ENV_VARS_TO_PROPAGATE),
        TuneController._get_trial_checkpoints,
        logging.getLogger("ray.tune").level,
    )


@pytest.fixture(scope="module")
def ran(ray_session, tmp_path_factory):
    """More cells than Tune asks for at once, in one process."""
    cells = grid_of(80)
    begun = Begun(cells)
    folder = tmp_path_factory.mktemp("ran")
    job = {"cells": {cell.name: cell for cell in cells}, "folder": folder}
    watch = TrialWatch(cells, job, begun, CellFollower(None))
    before = of_tune()
    handlers = [[signal.getsignal(number) for number in HANDLED]]
    with termination_as_interrupt():
        run_trials(job, watch, max_concurrent=1, trainable=Stub)
        handlers.append([signal.getsignal(number) for number in HANDLED])
    handlers.append([signal.getsignal(number) for number in HANDLED])
    names = [cell.name for cell in cells]
    return SimpleNamespace(
        names=names,
        begun=begun.names,
        ended=watch.ended,
        handlers=handlers,
        folder=folder,
        before=before,
    )


def test_cells_begin_in_their_order_and_all_end(ran):
    assert ran.begun == ran.names
    assert ran.ended == set(ran.names)


def test_signals_are_handled_as_before_once_the_cells_have_ended(ran):
    before, meanwhile, after = ran.handlers
    assert meanwhile != before
    assert after == before


def test_a_trials_process_is_asked_for_without_variables(ran):
    assert (ran.folder / "runtime_env.json").read_text() == "{}"


def test_tune_and_the_environment_are_as_before_once_the_cells_have_ended(ran):
    assert ran.before == of_tune()
    assert ran.before[1]


@pytest.mark.parametrize("holder", ["this run", "another run"])
def test_a_cell_is_taken_back_from_a_lost_process_of_this_run_but_not_from_another_run(
    tmp_path, holder
):
    (cell,) = grid_of(1)
    (tmp_path / cell.name).mkdir()
    new_record(cell, None, "a command", holder).write(tmp_path / cell.name)
    job = {"cells": {cell.name: cell}, "folder": tmp_path, "session": "this run", "command": ""}
    watch = TrialWatch([cell], job, Begun([cell]), CellFollower(None))
    first = watch.queue.suggest("first")
    error = tmp_path / "error.pkl"
    error.write_bytes(cloudpickle.dumps(RayTaskError("step", "taken", SupersededError("taken"))))

    class Trial(SimpleNamespace):
        def __str__(self):
            return cell.name

    for _ in range(cell.settings.retries if holder == "this run" else 0):
        watch.on_trial_error(0, [], Trial(pickled_error_file=str(error)))
        assert watch.queue.suggest("again") == first
    watch.on_trial_error(0, [], Trial(pickled_error_file=str(error)))
    assert cell.name in watch.failed
