"""A grid over two nodes, of which one is lost: by a power cut, or because its cable was pulled."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.hosts import TwoHosts, require_namespaces
from tests.experiment.files import read_run
from tests.experiment.processes import wait_until
from tests.experiment.survival.runs import CELLS, HERE, run_here
from tests.experiment.traces import progress_of, status, trace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory):
    require_namespaces()
    with TwoHosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture
def hosts(two_hosts):
    """Both hosts with Ray, whatever the test before did to them."""
    two_hosts.start()
    yield two_hosts
    two_hosts.kill(two_hosts.worker)


@contextmanager
def running(hosts, file, output):
    """A run whose driver is on the head, from when both nodes have trained to a checkpoint.

    Gives the driver and a cell that the second node is training.
    """
    words = [sys.executable, "-m", "rllib_lpdm.tune", file, "--output", output]
    words += ["--address", hosts.address, "--wandb", "disabled"]
    log = output / "driver.log"
    driver = hosts.run(hosts.head, *words, cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT)
    folders = [output / "small" / cell for cell in CELLS]
    trained = {hosts.head: set(), hosts.worker: set()}

    def both_busy():
        assert driver.poll() is None, log.read_text()
        for host, seen in trained.items():
            now = hosts.trained(host, folders)
            seen.update(now)
        there = [folder for folder in now if progress_of(folder)]
        return trained[hosts.head] and there

    try:
        (cell, *_) = wait_until(both_busy, "both nodes were busy")
        assert not trained[hosts.head] & trained[hosts.worker]
        yield driver, cell
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()


def assert_complete(output, reference):
    for cell in CELLS:
        assert trace(output / "small" / cell) == reference[cell]
        assert read_run(output / "small" / cell)["failures"] == []


def test_the_cells_of_a_node_that_was_cut_off_go_on_elsewhere_while_it_still_writes(
    hosts, file, reference, tmp_path
):
    with running(hosts, file, tmp_path) as (driver, cell):
        lost = hosts.trained(hosts.worker, [cell])[cell]
        taken = read_run(cell)["process"]
        os.kill(lost.pid, signal.SIGSTOP)  # so that it wakes in the midst of a report
        at_cut = progress_of(cell)
        hosts.cut()
        wait_until(lambda: read_run(cell)["process"] != taken, "the cell was taken over")
        wait_until(lambda: progress_of(cell) > at_cut, "the cell went on")
        assert lost.alive()
        os.kill(lost.pid, signal.SIGCONT)
        assert driver.wait(300) == 0, (tmp_path / "driver.log").read_text()
    assert_complete(tmp_path, reference)


def test_a_killed_nodes_cell_goes_on_elsewhere_and_after_all_are_killed_on_another_machine(
    hosts, file, reference, tmp_path
):
    with running(hosts, file, tmp_path) as (driver, cell):
        taken = read_run(cell)["process"]
        hosts.kill(hosts.worker)
        wait_until(lambda: read_run(cell)["process"] != taken, "the cell was taken over")
        driver.kill()
        hosts.kill(hosts.head)
        assert status(cell) == "running"
    assert run_here(file, tmp_path, "--resume", *HERE) == 0
    assert_complete(tmp_path, reference)
