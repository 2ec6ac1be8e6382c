"""The Slurm script ends its driver in time and goes back into the queue only when it should."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.cluster.files import CLUSTER, TEXTS

STUBS = {
    "hostname": "echo 10.0.0.1 10.0.0.2",
    "scontrol": 'echo "$*" >> scontrol.log',
    # One task, on this machine.
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    # What follows "--" runs as a child, as `ray symmetric-run` does it.
    "ray": """
        if [[ $1 == symmetric-run ]]; then
          echo "$*" > ray.log
          while [[ $1 != -- ]]; do shift; done
          shift
          "$@"
        fi""",
    # The driver: it works until it is told to end.
    "python": """
        echo "$* WANDB_API_KEY=${WANDB_API_KEY:-}" > driver.log
        if [[ $* == *brief.yaml* ]]; then exit "${DRIVER_STATUS:-0}"; fi
        trap 'exit 143' TERM
        while :; do sleep 0.05; done""",
}


@pytest.fixture
def job(tmp_path):
    """Starts the script as Slurm does: a copy of it, elsewhere, with stubs for all it calls."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / "cluster").mkdir()
    shutil.copy(CLUSTER / "slurm-driver.sh", tmp_path / "cluster")
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name, text in STUBS.items():
        (stubs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (stubs / name).chmod(0o755)
    started = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            ["bash", CLUSTER / "slurm.sbatch", *arguments],
            cwd="/",
            env={
                "PATH": f"{stubs}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "TMPDIR": str(tmp_path),
                "SLURM_SUBMIT_DIR": str(tmp_path),
                "SLURM_JOB_ID": "77",
                "SLURM_JOB_NUM_NODES": "2",
                "SLURM_CPUS_PER_TASK": "32",
                **environment,
            },
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for(path):
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.02)
    time.sleep(0.2)  # the trap of the driver
    return path.read_text()


def test_near_the_time_limit_the_driver_ends_and_the_job_is_requeued(job, tmp_path):
    process = job()
    wait_for(tmp_path / "driver.log")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "scontrol.log").read_text() == "requeue 77\n"


def test_a_cancelled_job_ends_its_driver_and_stays_out_of_the_queue(job, tmp_path):
    process = job()
    wait_for(tmp_path / "driver.log")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert not (tmp_path / "scontrol.log").exists()


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_job_has_the_exit_status_of_its_driver(job, tmp_path, status):
    assert job("brief.yaml", DRIVER_STATUS=str(status)).wait(timeout=20) == status
    assert not (tmp_path / "scontrol.log").exists()


def test_the_driver_resumes_and_ray_waits_for_every_node(job, tmp_path):
    job("brief.yaml", "/scratch/results").wait(timeout=20)
    driver = (tmp_path / "driver.log").read_text()
    assert driver.startswith(
        "-m rllib_lpdm.tune brief.yaml --address auto --output /scratch/results --resume "
    )
    ray = (tmp_path / "ray.log").read_text()
    assert ray.startswith("symmetric-run --address 10.0.0.1:6379 --min-nodes 2 --num-cpus=32 ")
    assert "--dashboard-host=127.0.0.1" in ray


def test_the_wandb_key_is_read_from_a_file_by_the_driver_alone(job, tmp_path):
    (tmp_path / ".config" / "rllib_lpdm").mkdir(parents=True)
    (tmp_path / ".config" / "rllib_lpdm" / "wandb_api_key").write_text("planted\n")
    job("brief.yaml").wait(timeout=20)
    assert "WANDB_API_KEY=planted" in (tmp_path / "driver.log").read_text()
    assert "WANDB" not in TEXTS["slurm.sbatch"]


def test_the_job_asks_for_whole_nodes_and_to_be_requeued_with_a_warning_before_the_limit():
    options = dict(
        re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", TEXTS["slurm.sbatch"], flags=re.M)
    )
    assert {"requeue", "exclusive"} <= set(options)
    assert options["ntasks-per-node"] == "1"
    assert options["open-mode"] == "append"
    assert re.fullmatch(r"B:USR1@\d+", options["signal"])
