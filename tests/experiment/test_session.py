"""Which Ray an experiment runs on."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.experiment.files import CONFIGS
from tests.experiment.processes import needs_proc, wait_until

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def head():
    """A Ray cluster's head on this machine, as others may have left one; gives its environment."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short, as sockets' paths must be
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["RAY_TMPDIR"] = folder
    command = [RAY, "start", "--head", "--port=0", "--num-cpus=1", "--include-dashboard=false"]
    ray = subprocess.Popen(
        [*command, "--block"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = Path(folder, "ray", "ray_current_cluster")
        wait_until(address.exists, "the head was there")
        yield environment
    finally:
        os.killpg(ray.pid, signal.SIGTERM)
        ray.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@needs_proc
def test_without_an_address_a_ray_of_its_own_is_started_whatever_runs_on_the_machine(
    head, tmp_path
):
    command = [sys.executable, "-m", "rllib_lpdm.tune", CONFIGS / "debug.yaml", "--output"]
    ended = subprocess.run(
        [*command, tmp_path, "--wandb", "disabled", "--set", "settings.iterations=1"],
        env=head,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
