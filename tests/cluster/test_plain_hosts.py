"""The scripts for plain hosts make a cluster that wants its token and runs a grid."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cluster.files import CLUSTER, ROOT
from tests.experiment.processes import family, needs_proc

pytestmark = needs_proc
JOINING = "import ray; ray.init(address='auto'); print(sum(n['Alive'] for n in ray.nodes()))"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Host:
    """A user's home on a host of its own, as far as one machine has several."""

    def __init__(self, home):
        self.home, self.processes = home, []
        self.token = home / ".ray" / "auth_token"
        self.log = home / "log"
        home.mkdir()

    def environment(self, **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}:{kept['PATH']}"
        return kept | {"HOME": str(self.home), "PATH": path} | more

    def run(self, *command, **environment):
        return subprocess.run(
            [*map(str, command)],
            cwd=ROOT,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def start(self, *command, cpus):
        # --block, so that Ray can be ended by the process; `ray stop` ends every Ray of the user.
        options = ["--block", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        with self.log.open("w") as log:
            process = subprocess.Popen(
                [*map(str, command), *options],
                cwd=ROOT,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in self.log.read_text():
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def stop(self):
        for process in self.processes:
            for one in family(process.pid):  # Ray itself would take half a minute
                one.kill()
            process.wait()


@pytest.fixture(scope="module")
def hosts():
    """A head, a worker that has joined it, and a host without the token."""
    folder = Path(tempfile.mkdtemp(prefix="lpdm"))  # short: Ray's sockets are below it
    head, worker, stranger = (Host(folder / name) for name in ("head", "worker", "stranger"))
    address = f"127.0.0.1:{free_port()}"
    try:
        head.start(
            *(CLUSTER / "plain-head.sh", "127.0.0.1", f"--port={address.split(':')[1]}"),
            *("--include-dashboard=false", f"--temp-dir={folder / 'ray'}"),
            cpus=0,
        )
        refused = worker.run(CLUSTER / "plain-worker.sh", address, "127.0.0.1")
        worker.token.parent.mkdir()
        shutil.copy(head.token, worker.token)
        worker.start(CLUSTER / "plain-worker.sh", address, "127.0.0.1", cpus=1)
        yield SimpleNamespace(
            head=head, stranger=stranger, address=address, refused=refused, folder=folder
        )
    finally:
        worker.stop()
        head.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("arguments", [["plain-head.sh"], ["plain-worker.sh", "10.0.0.1"]])
def test_a_public_address_is_refused(tmp_path, arguments):
    script, *rest = arguments
    ended = Host(tmp_path / "home").run(CLUSTER / script, *rest, "8.8.8.8")
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: 8.8.8.8 is not a private address; Ray must not face the world\n"
    )


@pytest.mark.slow
def test_the_head_makes_a_token_that_only_its_user_reads(hosts):
    assert len(hosts.head.token.read_text()) >= 32
    assert hosts.head.token.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_worker_without_the_token_says_what_is_missing(hosts):
    assert hosts.refused.returncode == 1
    assert "copy ~/.ray/auth_token" in hosts.refused.stderr


@pytest.mark.slow
def test_a_driver_without_the_token_is_refused(hosts):
    hosts.stranger.token.parent.mkdir()
    hosts.stranger.token.write_text("0" * 64)
    ended = hosts.stranger.run(
        *(sys.executable, "-c", JOINING), RAY_ADDRESS=hosts.address, RAY_AUTH_MODE="token"
    )
    assert ended.returncode != 0
    assert "Authentication" in ended.stderr


@pytest.mark.slow
def test_a_grid_whose_driver_is_on_the_head_runs_on_the_worker(hosts):
    ended = hosts.head.run(
        *(sys.executable, "-m", "rllib_lpdm.tune", "tune_configs/debug.yaml"),
        *("--set", "in_process=false", "--set", "settings.iterations=2"),
        *("--address", "auto", "--output", hosts.folder / "results", "--resume"),
        RAY_ADDRESS=hosts.address,
        RAY_AUTH_MODE="token",
    )
    assert ended.returncode == 0, ended.stderr
    assert "[1/1]" in ended.stdout
    after = hosts.head.run(
        *(sys.executable, "-c", JOINING), RAY_ADDRESS=hosts.address, RAY_AUTH_MODE="token"
    )
    assert after.stdout.split() == ["2"]  # the cluster is left as it was
