"""When a cell reports is a matter of time and of how many run, and changes nothing else."""

import io
import math
import os
import signal
import threading
import time

import pytest

from rllib_lpdm.grid import resources, signals
from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.grid.progress import Progress
from rllib_lpdm.grid.queue import TrialWatch
from rllib_lpdm.grid.resources import REPORTS, report_interval
from rllib_lpdm.grid.signals import termination_as_interrupt
from rllib_lpdm.grid.trackers.follower import CellFollower
from rllib_lpdm.grid.trainable import CellTrainable
from rllib_lpdm.grid.trials import run_trials
from rllib_lpdm.results.iterations import IterationWriter
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from tests.experiment.processes import wait_until
from tests.experiment.traces import progress_of, status, trace

SETTINGS = CellSettings(
    hidden_sizes=(8, 8),
    iterations=11,
    iterations_per_report=2,
    checkpoint_interval=2,
    return_normalization="running",
)


def finished(cell, folder, *seconds):
    """Trains a cell with reports at some distances, and returns the iterations of the reports."""
    run, reports = CellRun(cell, folder, "a command"), []
    while not run.finished:
        reports.append(run.step(seconds[len(reports) % len(seconds)])["iterations"])
    run.close()
    return reports


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("algorithm", ["reinforce_baseline", "ppo"])
def test_curves_and_weights_do_not_depend_on_where_reports_fall(tmp_path, algorithm):
    cell = Cell("CartPole-v1", algorithm, "lpdm_guided", 3, SETTINGS)
    every_block = finished(cell, tmp_path / "blocks", 0)
    assert every_block == [2, 4, 6, 8, 10, 11]
    assert finished(cell, tmp_path / "one", math.inf) == [11]
    irregular = finished(cell, tmp_path / "irregular", 0, 0.05, 1e-3, 0.2)
    assert irregular[-1] == 11
    reference = trace(tmp_path / "blocks")
    assert trace(tmp_path / "one") == reference
    assert trace(tmp_path / "irregular") == reference


@pytest.mark.usefixtures("ray_session")
def test_a_report_tells_of_all_blocks_since_the_one_before(tmp_path):
    run = CellRun(Cell("CartPole-v1", "ppo", "bp", 0, SETTINGS), tmp_path / "cell", "a command")
    result = run.step(math.inf)
    assert (result["iterations"], result["new_iterations"]) == (11, 11)
    assert result["new_env_steps"] == result["env_steps"] == run.algo.env_steps
    assert run.step(math.inf)["new_iterations"] == 0
    run.close()


@pytest.mark.parametrize(
    ("cpus", "cells", "limit", "settings", "at_once"),
    [
        (2000, 10_000, None, {}, 2000),
        (2000, 10_000, 500, {}, 500),
        (2000, 300, None, {}, 300),
        (2000, 10_000, None, {"env_runners": 3}, 500),
        (2, 10_000, None, {}, 2),
    ],
)
def test_all_cells_that_run_at_once_make_so_many_reports_a_second(
    monkeypatch, cpus, cells, limit, settings, at_once
):
    monkeypatch.setattr(resources, "_cpus", lambda period: cpus)
    cell = Cell("CartPole-v1", "ppo", "lpdm", 0, CellSettings(**settings))
    job = {"cells": dict.fromkeys(range(cells), cell), "max_concurrent": limit}
    assert at_once / report_interval(cell, job) == pytest.approx(REPORTS)


class HoursApart(CellTrainable):
    """Reports as if thousands of cells ran, and mostly sleeps: Tune waits ten seconds for it."""

    def setup(self, config, job):
        resources.REPORTS = 1e-4
        append = IterationWriter.append

        def append_slowly(writer, rows):
            append(writer, rows)
            time.sleep(0.2)

        IterationWriter.append = append_slowly  # in a process that ends with this cell
        super().setup(config, job)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_signal_ends_a_cell_soon_though_its_next_report_is_hours_away(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "GRACE", 600.0)  # then it would end the tests
    cell = Cell("CartPole-v1", "ppo", "bp", 0, SETTINGS.model_copy(update={"iterations": 10**6}))
    job = {"cells": {cell.name: cell}, "folder": tmp_path, "command": "", "session": "one"}
    watch = TrialWatch([cell], job, Progress([cell], {}, io.StringIO()), CellFollower(None))
    folder, sent = tmp_path / cell.name, []

    def interrupt():
        wait_until(lambda: progress_of(folder) > 8, "it had checkpoints")
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with termination_as_interrupt() as received:
        run_trials(job, watch, trainable=HoursApart)
    assert received == [signal.SIGTERM]
    assert time.monotonic() - sent[0] < 60  # on a busy machine
    done = progress_of(folder)
    time.sleep(2)
    assert progress_of(folder) == done
    assert status(folder) == "running"
    assert watch.queue.open == 1
    assert not watch.ended
