"""When a cell reports is a matter of time and of how many run, and changes nothing else."""

import math

import pytest

from rllib_lpdm.experiment import resources
from rllib_lpdm.experiment.cell import CellRun
from rllib_lpdm.experiment.resources import REPORTS, report_interval
from rllib_lpdm.experiment.spec import Cell, CellSettings
from tests.experiment.traces import trace

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
