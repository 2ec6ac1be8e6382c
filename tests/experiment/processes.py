"""Processes that tests start, find and end, as Linux shows them in /proc."""

import dataclasses
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="processes are found in /proc, which Linux has"
)


@dataclasses.dataclass(frozen=True)
class Process:
    """One process; its time of birth tells it from a later one with the same number."""

    pid: int
    born: str

    def alive(self):
        state, _, born = _stat(self.pid)
        return born == self.born and state not in "ZX"

    def kill(self):
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)

    def title(self):
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""

    def open_files(self):
        files = set()
        try:
            for link in Path(f"/proc/{self.pid}/fd").iterdir():
                files.add(os.readlink(link))
        except OSError:  # the process or the file was closed meanwhile
            pass
        return files


def process(pid):
    return Process(pid, _stat(pid)[2])


def family(pid):
    """A process and all that descend from it."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*"):
        children[_stat(path.name)[1]].append(int(path.name))
    found, new = [], [pid]
    while new:
        found += [process(one) for one in new]
        new = [child for one in new for child in children[str(one)]]
    return found


def trainers(cell_folders, processes):
    """Of cells those whose iterations.csv is open in some of the processes, each with these."""
    opened = {one: one.open_files() for one in processes}
    files = {folder: str(folder.resolve() / "iterations.csv") for folder in cell_folders}
    found = {
        folder: [one for one, paths in opened.items() if file in paths]
        for folder, file in files.items()
    }
    return {folder: training for folder, training in found.items() if training}


def wait_until(condition, what, timeout=900):
    """Waits for a condition, as long as a busy machine may need; returns its value."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {timeout} s in vain until {what}"
        time.sleep(0.1)
    return value


def _stat(pid):
    """State, parent and birth of a process; empty ones where there is none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", "", ""
    return words[0], words[1], words[19]
