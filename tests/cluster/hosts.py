"""Two hosts on one machine: network namespaces with addresses of their own, joined by a cable."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, ROOT
from tests.experiment.processes import process, trainers, wait_until

NAMESPACES = Path("/run/netns")
PORT = 6379
# A lost node is noticed within seconds; Ray's own settings take about a minute.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}


def require_namespaces():
    """Skips where network namespaces cannot be made: not root, not Linux, or no iproute2."""
    name = f"probe{os.getpid()}"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here ({error}); run as root on Linux")


class TwoHosts:
    """A head and a worker host with one CPU each, on which the scripts for plain hosts start Ray.

    Each has a home folder, and the worker's got the head's token.
    """

    def __init__(self, folder):
        tag = secrets.token_hex(2)
        self.head, self.worker = f"head{tag}", f"work{tag}"
        self._cable = f"v{tag}a"
        self._folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # socket paths are limited
        subnet = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
        self.address = f"{subnet}.1:{PORT}"
        self._addresses = {self.head: f"{subnet}.1", self.worker: f"{subnet}.2"}

    def __enter__(self):
        ends = {self.head: self._cable, self.worker: f"{self._cable[:-1]}b"}
        try:
            for host in ends:
                _ip("netns", "add", host)
            first, second = ends.values()
            _ip("link", "add", first, "type", "veth", "peer", "name", second)
            for host, end in ends.items():
                _ip("link", "set", end, "netns", host)
                _ip("-n", host, "addr", "add", f"{self._addresses[host]}/24", "dev", end)
                _ip("-n", host, "link", "set", end, "up")
                _ip("-n", host, "link", "set", "lo", "up")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        for host in (self.worker, self.head):
            if (NAMESPACES / host).exists():
                self.kill(host)
                _ip("netns", "del", host)
        shutil.rmtree(self._short, ignore_errors=True)

    def start(self):
        """Connects the hosts and starts Ray on those where it does not run."""
        _ip("-n", self.head, "link", "set", self._cable, "up")
        head, worker = (self._addresses[host] for host in (self.head, self.worker))
        if not self.pids(self.head):
            options = ("--include-dashboard=false", "--no-monitor", f"--temp-dir={self._short}")
            self._start(self.head, "plain-head.sh", head, f"--port={PORT}", *options)
        if not (home := self._folder / self.worker).exists():
            shutil.copytree(self.token.parent, home / ".ray")
        if not self.pids(self.worker):
            self._start(self.worker, "plain-worker.sh", self.address, worker)

    @property
    def token(self):
        """The head's, where Ray has made it."""
        return self._folder / self.head / ".ray" / "auth_token"

    def run(self, host, *command, home=None, variables=None, **options):
        """Starts a command on a host, by its own user or by that of another home folder."""
        home = home or self._folder / host
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        environment = kept | IMPATIENT | {"HOME": str(home), "PATH": path} | (variables or {})
        words = ["ip", "netns", "exec", host, *map(str, command)]
        return subprocess.Popen(words, cwd=ROOT, env=environment, **options)

    def drive(self, *command, variables=None, **options):
        """Starts a command on the head that joins the cluster, as a user is told to."""
        told = {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": self.address}
        return self.run(self.head, *command, variables=told | (variables or {}), **options)

    def pids(self, host):
        listed = subprocess.run(
            ["ip", "netns", "pids", host], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in listed.stdout.split()]

    def trained(self, host, cell_folders):
        """The cells that a host trains, each with its process."""
        found = trainers(cell_folders, [process(pid) for pid in self.pids(host)])
        return {folder: training[0] for folder, training in found.items()}

    def kill(self, host):
        """Ends everything on a host at once, as a power cut does."""

        def empty():
            found = [process(pid) for pid in self.pids(host)]
            for one in found:
                one.kill()
            return not found

        wait_until(empty, f"nothing ran on {host}", timeout=30)

    def cut(self):
        """Pulls the cable between the hosts."""
        _ip("-n", self.head, "link", "set", self._cable, "down")

    def _start(self, host, script, *words):
        """Runs a script of ``cluster/``; what it has started goes on."""
        log = self._folder / f"{host}.log"
        command = (CLUSTER / script, *words, "--num-cpus=1", "--include-log-monitor=false")
        with log.open("w") as said:
            started = self.run(host, *command, stdout=said, stderr=subprocess.STDOUT)
        assert started.wait(600) == 0, log.read_text()


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)
