"""A server gets every row of every cell once; when it is lost, the cells go on offline."""

import shlex
import subprocess
import sys

import pytest

from rllib_lpdm.grid.trackers.follower import wandb_follower
from tests.experiment.trackers.cells import append, cut_back, expected, make_cell, rows_of
from tests.experiment.trackers.offline import offline_files, read


def log(directory, cell, mode):
    follower = wandb_follower(mode, directory, "grid")
    follower.finish(cell, failed=False)
    return follower.close()


def test_a_resumed_run_goes_on_at_the_server_after_its_last_step(tmp_path, server):
    cell = make_cell(tmp_path)
    append(cell, 1, 50)
    follower = wandb_follower("online", tmp_path, "grid")
    follower.update(cell)
    assert follower.close() is None
    assert server.runs["00000000"]["ends"] == ["preempting", 1]
    before = expected(cell)
    assert server.rows() == before
    cut_back(cell, 25)
    append(cell, 26, 40, seconds=0.25)
    follower = wandb_follower("online", tmp_path, "grid")
    follower.update(cell)
    assert follower.wait(60)
    append(cell, 41, 75, seconds=0.25)
    follower.finish(cell, failed=False)
    follower.close()
    assert server.rows() == before + expected(cell)[50:]
    assert server.runs["00000000"]["ends"][-1] == 0


def test_a_file_that_is_sent_again_or_goes_on_online_leaves_each_step_once(tmp_path, server):
    width = 4  # rows a point
    cell = make_cell(tmp_path, settings={"iterations": 40, "wandb_points": 40 // width})
    for first, last in ((1, 20), (21, 30)):
        append(cell, first, last)
        command = shlex.split(log(tmp_path, cell, "offline"))
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        assert server.rows() == expected(cell, width)
    append(cell, 31, 40)
    assert log(tmp_path, cell, "online") is None
    assert not offline_files(tmp_path)
    assert server.rows() == expected(cell, width)


def test_a_run_that_goes_on_online_has_each_point_of_several_rows_once(tmp_path, server):
    """Also where it was interrupted within a point, and cut back to before it."""
    cell = make_cell(tmp_path, settings={"iterations": 100, "wandb_points": 15})
    for last, kept in ((40, 36), (52, 45), (100, 100)):
        append(cell, len(rows_of(cell)) + 1 if last > 40 else 1, last)
        follower = wandb_follower("online", tmp_path, "grid")
        follower.update(cell)
        follower.close()
        cut_back(cell, kept)
    assert server.rows() == expected(cell, width=7, budget=100)


def test_without_a_server_the_cells_go_on_offline_after_one_line(tmp_path, closed_port, capfd):
    cells = [make_cell(tmp_path, number) for number in range(3)]
    follower = wandb_follower("online", tmp_path, "grid")
    for first in (1, 11):
        for cell in cells:
            append(cell, first, first + 9)
            follower.update(cell)
    follower.finish(cells[0], failed=False)
    assert follower.close() is not None
    assert [read(path)[1] for path in offline_files(tmp_path)] == [expected(c) for c in cells]
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("W&B: failed (")
    assert "connection refused" in warning
    assert warning.endswith("going on offline")


@pytest.mark.slow
def test_when_the_server_is_lost_the_open_cells_are_written_whole_offline(tmp_path, server, capfd):
    cells = [make_cell(tmp_path, number) for number in range(2)]
    follower = wandb_follower("online", tmp_path, "grid")
    for cell in cells:
        append(cell, 1, 10)
        follower.update(cell)
    assert follower.wait(60)
    server.hanging = True
    append(cells[0], 11, 20)
    follower.finish(cells[0], failed=False)
    assert follower.close() is not None
    assert [read(path)[1] for path in offline_files(tmp_path)] == [expected(c) for c in cells]
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.endswith("going on offline")
