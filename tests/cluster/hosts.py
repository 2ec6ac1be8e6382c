"""Hosts on one machine: network namespaces with addresses of their own, joined by cables."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.experiment.processes import process, trainers, wait_until

NAMESPACES = Path("/run/netns")
RAY = Path(sys.executable).with_name("ray")
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


class Hosts:
    """A head, and two workers with a cable each to it, each with one CPU, running Ray with a token.

    Attributes:
        head: its name.
        workers: their names.
        address: of the head's Ray.
    """

    def __init__(self, folder):
        tag = secrets.token_hex(2)
        self.head = f"head{tag}"
        self.workers = [f"work{tag}{i}" for i in range(2)]
        self._cables = {worker: f"v{tag}{i}" for i, worker in enumerate(self.workers)}
        self._folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # socket paths are limited
        subnet = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
        self.address = f"{subnet}.1:{PORT}"
        hosts = (self.head, *self.workers)
        self._addresses = {host: f"{subnet}.{i}" for i, host in enumerate(hosts, 1)}
        self.env = os.environ | IMPATIENT | {"RAY_AUTH_MODE": "token"}
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.env["RAY_AUTH_TOKEN_PATH"] = str(token)
        self.env.pop("RAY_ADDRESS", None)

    def __enter__(self):
        try:
            for host in self._addresses:
                _ip("netns", "add", host)
                _ip("-n", host, "link", "set", "lo", "up")
            for worker, cable in self._cables.items():
                end = f"{cable}e"
                _ip("link", "add", cable, "type", "veth", "peer", "name", end)
                self._plug(cable, self.head, worker)
                self._plug(end, worker, self.head)
            options = ("--head", f"--port={PORT}", "--include-dashboard=false")
            self._start({self.head: (*options, f"--temp-dir={self._short}")})
            self._start(dict.fromkeys(self.workers, (f"--address={self.address}",)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        for host in (*self.workers, self.head):
            if (NAMESPACES / host).exists():
                self.kill(host)
                _ip("netns", "del", host)
        shutil.rmtree(self._short, ignore_errors=True)

    def run(self, host, *command, **options):
        """Starts a command on a host."""
        words = ["ip", "netns", "exec", host, *map(str, command)]
        return subprocess.Popen(words, env=self.env, **options)

    def pids(self, host):
        listed = subprocess.run(
            ["ip", "netns", "pids", host], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in listed.stdout.split()]

    def trained(self, host, cell_folders):
        """The cells that a host trains, each with its process."""
        if not any((folder / "iterations.csv").exists() for folder in cell_folders):
            return {}  # soon said, to those who wait
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

    def cut(self, worker):
        """Pulls the cable between the head and a worker."""
        _ip("-n", self.head, "link", "set", self._cables[worker], "down")

    def _plug(self, end, host, other):
        _ip("link", "set", end, "netns", host)
        addresses = (self._addresses[host], "peer", self._addresses[other])
        _ip("-n", host, "addr", "add", *addresses, "dev", end)
        _ip("-n", host, "link", "set", end, "up")

    def _start(self, options):
        """Starts Ray on hosts, side by side, each with options of its own."""
        starting = {}
        for host, own in options.items():
            words = (RAY, "start", f"--node-ip-address={self._addresses[host]}", "--num-cpus=1")
            log = (self._folder / f"{host}.log").open("w")
            starting[host] = self.run(
                host, *words, "--disable-usage-stats", *own, stdout=log, stderr=subprocess.STDOUT
            )
        for host, command in starting.items():
            assert command.wait(600) == 0, (self._folder / f"{host}.log").read_text()


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)
