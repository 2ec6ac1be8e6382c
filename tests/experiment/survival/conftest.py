"""A run that nothing disturbs: curves and weights of every other must equal it, bit by bit."""

import pytest
from filelock import FileLock

from rllib_lpdm.grid.run import run_experiment
from rllib_lpdm.schema.loading import load_experiment
from tests.experiment.files import write
from tests.experiment.survival.runs import CELLS, SETTINGS
from tests.experiment.traces import trace


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("file")
    return write(folder, "small.yaml", environments=["Hopper-v4"], seeds=3, settings=SETTINGS)


@pytest.fixture(scope="session")
def undisturbed(file, ray_session, tmp_path_factory, worker_id):
    """The folder of a run in which nothing happened; one for all processes that test."""
    home = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        home = home.parent
    with FileLock(home / "undisturbed.lock"):
        if not (home / "undisturbed").exists():
            output = tmp_path_factory.mktemp("output")
            assert not run_experiment(load_experiment(file, ["in_process=true"]), output).failed
            output.rename(home / "undisturbed")
    return home / "undisturbed" / "small"


@pytest.fixture(scope="session")
def reference(undisturbed):
    return {cell: trace(undisturbed / cell) for cell in CELLS}
