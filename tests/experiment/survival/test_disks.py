"""Disks that are full or cannot be written."""

import json
import subprocess
import threading
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

from tests.experiment.processes import wait_until
from tests.experiment.survival.runs import CELLS, HERE, meanwhile, run_here
from tests.experiment.traces import progress_of, trace

pytestmark = pytest.mark.slow
TWO_CELLS = ["--set", "seeds=2"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes, and a function that mounts it anew with other options."""
    home = tmp_path / "disk"
    home.mkdir()

    def mount(*words):
        subprocess.run(["mount", *words, str(home)], check=True, capture_output=True)

    try:
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error}); run as root on Linux")
    yield SimpleNamespace(folder=home, remount=lambda options: mount("-o", f"remount,{options}"))
    subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_a_full_disk_ends_a_run_with_one_line_and_with_room_it_goes_on(
    small_disk, file, reference, capfd
):
    disk, folder = small_disk.folder, small_disk.folder / "small"
    ended = threading.Event()

    def fill():
        wait_until(lambda: progress_of(folder / CELLS[0]), "a checkpoint")
        with (disk / "filler").open("wb", buffering=0) as filler:
            while not ended.wait(0.01):
                with suppress(OSError):
                    while True:
                        filler.write(bytes(4096))

    with meanwhile(fill):
        try:
            status_when_full = run_here(file, disk, *TWO_CELLS, "--max-concurrent", "1")
        finally:
            ended.set()
    printed = capfd.readouterr()
    assert status_when_full == 1
    assert f"error: {folder} cannot be written any more" in printed.err
    assert "No space left on device" in printed.err
    assert "Traceback (most recent" not in printed.out + printed.err

    begun, waiting = (folder / cell for cell in CELLS[:2])
    assert not waiting.exists()  # no other cell is tried
    assert json.loads((begun / "run.json").read_text())["checkpoints"]
    assert_csv_is_whole_but_for_its_end(begun, reference[begun.name])
    for weights in begun.glob("checkpoints/iteration_*/weights.npz"):
        assert all(np.isfinite(array).all() for array in np.load(weights).values())

    small_disk.remount("size=16m")
    assert run_here(file, disk, *TWO_CELLS, "--resume", *HERE) == 0
    for cell in CELLS[:2]:
        assert trace(folder / cell) == reference[cell]


def assert_csv_is_whole_but_for_its_end(cell_folder, reference):
    """Every line is the reference's, except that the last one may be cut."""
    (header, *_), _ = reference
    lines = (cell_folder / "iterations.csv").read_bytes().split(b"\n")
    rows = [line.decode().split(",") for line in lines[:-1]]
    seconds = rows[0].index("seconds")
    assert len(rows) > progress_of(cell_folder)
    without = [row[:seconds] + row[seconds + 1 :] for row in rows]
    assert without[0] == header
    assert without == reference[0][: len(rows)]


def test_a_read_only_disk_is_refused_before_anything_starts(small_disk, file, capfd):
    small_disk.remount("ro")
    assert run_here(file, small_disk.folder) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {small_disk.folder}")
    assert "Read-only file system" in line
