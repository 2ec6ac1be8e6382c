"""The next cell in a process that has trained another one equals that cell in a fresh process."""

import numpy as np
import pytest

from rllib_lpdm.grid.trainable import CellTrainable
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from tests.algorithms.runs import assert_same_weights, weights

pytestmark = pytest.mark.usefixtures("ray_session")


def _job(folder, *cells):
    folder.mkdir()
    names = {cell.name: cell for cell in cells}
    return {"cells": names, "folder": folder, "command": "test", "session": "one"}


def _train(trainable):
    while not trainable.train()["done"]:
        pass
    return weights(trainable._run.algo)


@pytest.mark.parametrize("environment", ["CartPole-v1", "Hopper-v4"])
def test_every_parameter_and_row_of_a_cell_is_the_same_in_a_reused_worker(tmp_path, environment):
    settings = CellSettings(hidden_sizes=(16, 12), iterations=6, iterations_per_report=3)
    first = Cell("Walker2d-v4", "ppo", "lpdm_guided", 5, settings)
    second = Cell(environment, "reinforce_baseline", "lpdm", 1, settings)

    class Reused(CellTrainable):
        def setup(self, config):
            super().setup(config, _job(tmp_path / "reused", first, second))

    class Fresh(CellTrainable):
        def setup(self, config):
            super().setup(config, _job(tmp_path / "fresh", second))

    reused = Reused({"cell": {"name": first.name}})
    _train(reused)
    assert reused.reset({"cell": {"name": second.name}})
    fresh = Fresh({"cell": {"name": second.name}})
    assert_same_weights(_train(reused), _train(fresh))
    for trainable in (reused, fresh):
        trainable.stop()
    tables = [
        np.genfromtxt(tmp_path / name / second.name / "iterations.csv", delimiter=",", names=True)
        for name in ("reused", "fresh")
    ]
    columns = [name for name in tables[0].dtype.names if name != "seconds"]
    for column in columns:
        np.testing.assert_array_equal(tables[0][column], tables[1][column])
