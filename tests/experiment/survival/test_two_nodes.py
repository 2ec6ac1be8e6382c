"""A grid over two hosts whose Ray wants its token; one is lost: by a power cut, or its cable."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.cluster.hosts import TwoHosts, require_namespaces
from tests.experiment.files import read_run
from tests.experiment.processes import process, wait_until
from tests.experiment.survival.runs import CELLS, HERE, run_here
from tests.experiment.traces import progress_of, status, trace

pytestmark = pytest.mark.slow
JOINING = "import ray; ray.init(address='auto')"


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
    words += ["--address", "auto", "--wandb", "disabled"]
    log = output / "driver.log"
    driver = hosts.drive(*words, stdout=log.open("w"), stderr=subprocess.STDOUT)
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
        for failure in read_run(output / "small" / cell)["failures"]:
            # only by a lost process that came back just as it wrote the record
            assert "another process has taken this cell over" in failure["error"]


def test_the_head_makes_a_token_that_only_its_user_reads(two_hosts):
    assert len(two_hosts.token.read_text()) >= 32
    assert two_hosts.token.stat().st_mode & 0o077 == 0


def test_a_driver_with_another_token_is_refused(two_hosts, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    words = [sys.executable, "-c", JOINING]
    once = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # a second each
    driver = two_hosts.drive(*words, home=tmp_path, stderr=subprocess.PIPE, variables=once)
    _, errors = driver.communicate(timeout=600)
    assert driver.returncode != 0
    assert b"Authentication" in errors


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
    titles = [process(pid).title() for pid in hosts.pids(hosts.head)]
    assert all(any(part in title for title in titles) for part in ("gcs_server", "raylet/raylet"))


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
