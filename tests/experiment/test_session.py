"""How a run starts Ray, and leaves it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import runs

from rllib_lpdm import benchmark
from rllib_lpdm.grid import session
from rllib_lpdm.schema.messages import UserError
from tests.experiment.processes import needs_proc

STARTS = """
import os, ray
from rllib_lpdm.grid import session
from rllib_lpdm.grid.session import leave_ray, start_ray
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
start_ray()
own = os.path.dirname(ray._private.worker._global_node.get_temp_dir_path())
print(ray.cluster_resources()["CPU"], os.stat(own).st_mode & 0o077, own)
leave_ray()
"""

ABANDONS = """
import gc, sys, weakref
import ray
from rllib_lpdm.grid import session

class Cycle:
    def __init__(self):
        self.reference, self.itself = ray.put(0), self

gc.disable()
shutdown = ray.shutdown
with session._ray_session(sys.argv[1]):
    gone = weakref.ref(Cycle())
    assert gone() is not None
    ray.shutdown = lambda: (print("gone before:", gone() is None), shutdown())
"""


@pytest.mark.slow
def test_references_left_in_cycles_are_gone_before_ray_shuts_down(ray_session):
    address = ray.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-c", ABANDONS, address],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "gone before: True" in ended.stdout


@needs_proc
@pytest.mark.slow
def test_ray_starts_below_a_temporary_folder_of_a_long_name_with_the_cpus_it_may_use(tmp_path):
    long = tmp_path / ("x" * 80)
    long.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", STARTS],
        env=os.environ | {"TMPDIR": str(long), "RAY_TMPDIR": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    cpus, others, own = ended.stdout.split()
    assert (float(cpus), int(others)) == (1, 0)
    assert not os.path.exists(own)


@pytest.fixture(
    params=[
        (Exception("The current node timed out during startup.\nMore lines."), "/logs "),
        (OSError(28, "No space left on device"), "/logs "),
        (PermissionError(13, "Permission denied", "/locked/ray"), "set RAY_TMPDIR"),
        (AssertionError(), "RAY_* variables"),
    ],
    ids=lambda param: type(param[0]).__name__,
)
def broken_ray(request, monkeypatch):
    """Makes Ray's start fail; yields a part of the way out."""

    def refuse(**options):
        raise request.param[0]

    monkeypatch.setattr("ray.init", refuse)
    return request.param[1]


def test_every_failure_of_rays_start_is_one_line_with_a_way_out(broken_ray):
    with pytest.raises(UserError) as refused:
        session.start_ray()
    message = str(refused.value)
    assert message.startswith("Ray did not start: ")
    assert broken_ray in message
    assert "\n" not in message


def test_the_logs_of_a_start_that_failed_stay_where_the_message_says(monkeypatch, tmp_path):
    def write_logs_and_fail(_temp_dir, **options):
        Path(_temp_dir, "session_latest", "logs").mkdir(parents=True)
        raise RuntimeError("no GCS")

    left = []
    monkeypatch.setattr("atexit.register", lambda *call, **options: left.append(call))
    monkeypatch.setattr("ray.init", write_logs_and_fail)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 80)))
    with pytest.raises(UserError, match=r"look at the logs in /tmp/ray-\S+/logs") as refused:
        session.start_ray()
    logs = Path(re.search(r"logs in (\S+)", str(refused.value))[1])
    assert not left
    assert logs.is_dir()
    shutil.rmtree(logs.parents[2])


@pytest.mark.parametrize("command", ["benchmark", "example"])
def test_commands_without_cells_end_with_status_2_where_ray_does_not_start(
    command, broken_ray, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", [command])
    monkeypatch.setattr("os.sched_setaffinity", lambda *arguments: None, raising=False)
    if command == "benchmark":
        assert benchmark.main(["local_update"]) == 2
    else:
        with pytest.raises(SystemExit, match="2"):
            runs.start("An example.")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Ray did not start: ")


def test_a_cluster_that_cannot_be_joined_is_named_whatever_ray_raises(broken_ray, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        pytest.raises(UserError, match=r"^no Ray cluster at nowhere:6379: .+$"),
        session._ray_session("nowhere:6379"),
    ):
        pass
