"""A grid over three nodes, two of which are lost: by a pulled cable, and by a power cut."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cluster.hosts import Hosts, require_namespaces
from tests.experiment.files import read_run
from tests.experiment.processes import wait_until
from tests.experiment.survival.runs import CELLS, HERE, run_here
from tests.experiment.traces import progress_of, status, trace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def running(hosts, file, output):
    """A run whose driver is on the head."""
    words = [sys.executable, "-m", "rllib_lpdm.tune", file, "--output", output]
    words += ["--address", hosts.address, "--wandb", "disabled"]
    log = output / "driver.log"
    driver = hosts.run(hosts.head, *words, cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT)

    def wait_for(condition, what):
        def ended_or_true():
            assert driver.poll() is None, f"ended before {what}:\n{log.read_text()}"
            return condition()

        return wait_until(ended_or_true, what)

    try:
        yield wait_for
    finally:
        driver.kill()
        driver.wait()


@pytest.fixture(scope="module")
def lost(file, tmp_path_factory):
    """A run that loses two nodes, then its head and driver, and ends on another machine."""
    require_namespaces()
    output = tmp_path_factory.mktemp("output")
    folders = [output / "small" / cell for cell in CELLS]
    with Hosts(tmp_path_factory.mktemp("hosts")) as hosts:

        def busy(workers):
            """A worker whose cell has a checkpoint, that cell, and the process that trains it."""
            for host in workers:
                for cell, process in hosts.trained(host, folders).items():
                    if progress_of(cell):
                        return SimpleNamespace(
                            host=host, cell=cell, process=process, taken=read_run(cell)["process"]
                        )
            return None

        with running(hosts, file, output) as wait_for:
            first = wait_for(lambda: busy(hosts.workers), "a worker was busy")
            os.kill(first.process.pid, signal.SIGSTOP)  # so that it wakes in the midst of a report
            others = [worker for worker in hosts.workers if worker != first.host]
            second = wait_for(lambda: busy(others), "the other worker was busy")
            hosts.kill(second.host)
            hosts.cut(first.host)
            done = {one.cell: progress_of(one.cell) for one in (first, second)}
            seen = SimpleNamespace(folders=folders)
            wait_for(lambda: read_run(first.cell)["process"] != first.taken, "it was taken over")
            seen.alive = first.process.alive()
            os.kill(first.process.pid, signal.SIGCONT)
            wait_for(lambda: all(progress_of(c) > n for c, n in done.items()), "both went on")
            seen.failures = [read_run(cell)["failures"] for cell in done]
        hosts.kill(hosts.head)
        seen.statuses = {status(folder) for folder in folders}
        seen.resumed = run_here(file, output, "--resume", *HERE)
    return seen


def test_cells_of_a_node_that_was_cut_off_and_of_one_that_was_killed_go_on_elsewhere(lost):
    assert lost.failures == [[], []]


def test_when_all_nodes_were_lost_it_ends_elsewhere_as_if_nothing_had_happened(lost, reference):
    """Though a process that was cut off writes still."""
    assert lost.alive
    assert "running" in lost.statuses
    assert lost.resumed == 0
    for folder in lost.folders:
        assert trace(folder) == reference[folder.name]
