"""W&B's offline files hold every row of every cell once, and a fault of theirs costs one line."""

import os
import runpy
import shlex
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from rllib_lpdm.grid.trackers import wandb as tracker_module
from rllib_lpdm.grid.trackers.follower import wandb_follower
from rllib_lpdm.results.layout import checkpoint_name
from rllib_lpdm.results.record import RunRecord
from tests.experiment.trackers.cells import (
    PROVENANCE,
    SETTINGS,
    append,
    cut_back,
    expected,
    line,
    make_cell,
    wait_for,
)
from tests.experiment.trackers.conftest import KEY
from tests.experiment.trackers.offline import offline_files, read, read_one, read_so_far

pytestmark = pytest.mark.usefixtures("no_account", "client")


def log(directory, *cells, failed=False):
    """Follows cells from what they are to their ends."""
    follower = wandb_follower("offline", directory, "grid")
    for cell in cells:
        follower.update(cell)
        follower.finish(cell, failed)
    return follower.close()


def test_every_row_is_logged_once_with_its_step_its_values_and_its_runs_end(tmp_path):
    """By one process of W&B's for all cells."""
    cells = [make_cell(tmp_path, number) for number in range(10)]
    failed, left = cells[3], cells[7]
    follower = wandb_follower("offline", tmp_path, "grid")
    for first in (1, 26, 51):
        for cell in cells:
            append(cell, first, first + 24)
            follower.update(cell)
        assert follower.wait(60)
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,args="], capture_output=True, text=True)
    own = [entry for entry in listed.stdout.splitlines() if int(entry.split()[0]) == os.getpid()]
    assert sum("wandb-core" in entry for entry in own) == 1
    for cell in cells:
        append(cell, 76, 80)
        if cell != left:
            follower.finish(cell, failed=cell == failed)
    append(left, 81, 90)
    follower.close()
    files = offline_files(tmp_path)
    found = {run["display_name"]: (rows, other) for run, rows, other in map(read, files)}
    assert len(files) == len(found) == 10
    for cell in cells:
        rows, other = found[cell.name]
        assert [step for step, _ in rows] == list(range(1, 91 if cell == left else 81))
        assert rows == expected(cell)
        assert other["exit"].get("exit_code", 0) == (cell in (failed, left))
        assert ("preempting" in other) == (cell == left)


def test_a_run_is_described_by_its_cell_and_says_nothing_of_the_machine_and_its_user(
    tmp_path, monkeypatch
):
    cell, plain = make_cell(tmp_path, 3, variant="v" * 70), make_cell(tmp_path, 4)
    for each in (cell, plain):
        append(each, 1, 1)
    log(tmp_path, cell)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "ours")
    log(tmp_path, plain)
    runs = {run["run_id"]: run for run, _, _ in map(read, offline_files(tmp_path))}
    run = runs["00000003"]
    config = run["config"]["update"]
    assert not config.pop("_wandb")
    assert not config.pop("environment_spec", None)
    described = {"environment": "CartPole-v1", "algorithm": "ppo", "method": "lpdm"}
    assert config == {**SETTINGS, **described, **PROVENANCE, "variant": "v" * 70, "seed": 3}
    assert run["display_name"] == cell.name
    assert (run["run_group"], run["job_type"]) == ("CartPole-v1/ppo/lpdm/" + "v" * 70, "lpdm")
    assert sorted(run["tags"]) == sorted(["grid", "CartPole-v1", "ppo", "lpdm", "v" * 64])
    assert run["project"] == "rllib_lpdm"
    known = {"config", "run_id", "display_name", "run_group", "job_type", "tags", "project"}
    assert run.keys() - known == {"start_time", "telemetry"}
    assert not list((tmp_path / "wandb").glob("*/files/*"))
    run = runs["00000004"]
    assert run["run_group"] == "CartPole-v1/ppo/lpdm"
    assert (run["project"], run["entity"]) == ("mine", "ours")


def test_a_runs_summary_has_the_scores_of_the_report_and_its_axis_is_environment_steps(tmp_path):
    """Also of a file that was cut back, whose rows are not counted twice."""
    cell, begun = make_cell(tmp_path), make_cell(tmp_path, 1)
    append(cell, 1, 150)
    follower = wandb_follower("offline", tmp_path, "grid")
    follower.update(cell)
    follower.update(begun)
    assert follower.wait(60)
    cut_back(cell, 70)
    append(cell, 71, 100, seconds=0.25)
    with (cell / "iterations.csv").open("a") as file:
        file.writelines(line(i).replace(f"{i / 3},", "-1.0,") for i in range(101, 201))
    follower.finish(cell, failed=False)
    follower.close()
    found = {run["run_id"]: other for run, _, other in map(read, offline_files(tmp_path))}
    rising = [i / 3 for i in range(1, 101)]
    summary = found["00000000"]["summary"]
    assert summary["max_score"] == pytest.approx(np.mean(rising[50:]))  # of 50 iterations
    assert summary["score"] == summary["end_score"] == -1.0
    steps, all_others = found["00000000"]["metrics"]
    assert steps["name"] == all_others["step_metric"] == "progress/env_steps"
    assert all_others["glob_name"] == "*"
    assert "score" not in found["00000001"]["summary"]


def test_rows_that_were_cut_back_and_have_grown_again_are_logged_once(tmp_path):
    cell = make_cell(tmp_path)
    append(cell, 1, 50)
    follower = wandb_follower("offline", tmp_path, "grid")
    follower.update(cell)
    assert follower.wait(60)
    before = expected(cell)
    cut_back(cell, 25)
    append(cell, 26, 75, seconds=0.123456)  # the time is all that differs in another life
    follower.finish(cell, failed=False)
    follower.close()
    assert read_one(tmp_path)[1] == before + expected(cell)[50:]


def test_a_cell_that_goes_on_in_another_process_has_one_file_with_each_row_once(tmp_path):
    cell = make_cell(tmp_path)
    append(cell, 1, 50)
    follower = wandb_follower("offline", tmp_path, "grid")
    follower.update(cell)
    follower.close()
    assert read_one(tmp_path)[1] == expected(cell)
    cut_back(cell, 25)
    append(cell, 26, 60)
    log(tmp_path, cell)
    run, rows, other = read_one(tmp_path)
    assert run["run_id"] == "00000000"
    assert rows == expected(cell)
    assert "preempting" not in other
    assert complete(tmp_path, cell, 60) is None  # all of it was there
    append(cell, 61, 70)  # the run was extended while W&B was disabled
    assert complete(tmp_path, cell, 70) is not None
    assert read_one(tmp_path)[1] == expected(cell)


def complete(directory, cell, iteration):
    """What a resumed experiment does with a cell that is finished already."""
    follower = wandb_follower("offline", directory, "grid")
    checkpoints = (checkpoint_name(iteration),)
    follower.complete(cell, RunRecord.read(cell).updated(checkpoints=checkpoints))
    return follower.close()


@pytest.mark.slow
def test_a_process_killed_while_it_logs_leaves_whole_rows_and_a_restart_all_of_them(tmp_path):
    cell = make_cell(tmp_path)
    append(cell, 1, 400)
    program = f"""
        import itertools, pathlib
        from rllib_lpdm.grid.trackers.follower import wandb_follower
        cell = pathlib.Path({str(cell)!r})
        text = (cell / "iterations.csv").read_text().splitlines(keepends=True)
        (cell / "iterations.csv").write_text("")
        follower = wandb_follower("offline", {str(tmp_path)!r}, "grid")
        for first in itertools.count(0, 3):
            with (cell / "iterations.csv").open("a") as file:
                file.writelines(text[first:first + 3])
            follower.update(cell)
            follower.wait(60)
            print(first, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
    )
    while int(process.stdout.readline()) < 120:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (path,) = offline_files(tmp_path)
    wait_for(lambda: len(read_so_far(path)[1]) >= 100)  # by the service, which ends by itself
    rows = read_so_far(path)[1]
    assert rows == expected(cell)[: len(rows)]
    log(tmp_path, cell)
    assert read_one(tmp_path)[1] == expected(cell)


def test_the_key_is_in_no_file_and_the_command_that_uploads_names_their_folder(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    folder = tmp_path / "my results"
    cell = make_cell(folder)
    append(cell, 1, 30)
    assert shlex.split(log(folder, cell)) == ["wandb", "sync", str(folder / "wandb")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {".wandb", ".log"} <= {path.suffix for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_disabled_writes_nothing_and_needs_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    before = sorted(tmp_path.rglob("*"))
    runpy.run_path(tracker_module.__file__)
    follower = wandb_follower("disabled", tmp_path, "grid")
    follower.update(cell)
    follower.finish(cell, failed=False)
    assert follower.close() is None
    assert sorted(tmp_path.rglob("*")) == before


FOREIGN = {  # variables that name another run, go on with one, or change a run's files
    "WANDB_SWEEP_ID": "a1b2c3d4",
    "WANDB_SWEEP_PARAM_PATH": "nowhere.yaml",
    "WANDB_LAUNCH": "true",
    "WANDB_RUN_ID": "fedcba98",
    "WANDB_NAME": "another",
    "WANDB_RUN_GROUP": "another",
    "WANDB_JOB_TYPE": "another",
    "WANDB_TAGS": "another",
    "WANDB_RESUME": "must",
    "WANDB_RESUMED": "true",
    "WANDB_RESUME_FROM": "other?_step=3",
    "WANDB_FORK_FROM": "other?_step=3",
    "WANDB_GIT_COMMIT": "0ther",
    "WANDB_GIT_REMOTE_URL": "https://example.org/other",
    "WANDB_SYNC_TENSORBOARD": "true",
    "WANDB_USE_DOT_WANDB": "true",
    "WANDB__FILES_DIR": "elsewhere",
    "WANDB__SYNC_DIR_SUFFIX": "other",
    "WANDB__SERVER_SIDE_DERIVED_SUMMARY": "true",
    "WANDB__SKIP_TRANSACTION_LOG": "true",
    "SM_TRAINING_ENV": "{}",
    "TRAINING_JOB_NAME": "of-sagemaker",
    "CURRENT_HOST": "host",
}


def written(directory, client):
    """What W&B's reader finds of a cell, logged by a client that reads the environment anew."""
    client.teardown()
    cell = make_cell(directory)
    append(cell, 1, 20)
    log(directory, cell)
    run, rows, other = read_one(directory)
    run["config"]["update"].pop("_wandb")
    del run["start_time"], run["telemetry"]
    assert {path.name for path in directory.iterdir()} == {cell.name, "wandb"}
    return run, rows, other["summary"].keys(), other["metrics"]


@pytest.fixture(scope="module")
def usual(client, tmp_path_factory):
    return written(tmp_path_factory.mktemp("usual"), client)


@pytest.mark.parametrize(
    "names",
    [[name] for name in FOREIGN if name.startswith("WANDB_")]
    + [["SM_TRAINING_ENV", "TRAINING_JOB_NAME", "CURRENT_HOST"]],
    ids=lambda names: names[0],
)
def test_variables_of_another_run_reach_no_file(names, client, tmp_path, monkeypatch, usual):
    for name in names:
        monkeypatch.setenv(name, FOREIGN[name])
    monkeypatch.chdir(tmp_path)
    assert written(tmp_path, client) == usual


# -- points of several rows -----------------------------------------------------------------------

FEW = SETTINGS | {"iterations": 100, "wandb_points": 15}  # 7 rows each, the last one of 2


def test_a_run_has_at_most_so_many_points_each_the_mean_of_the_rows_since_the_one_before(tmp_path):
    cell = make_cell(tmp_path, settings=FEW)
    append(cell, 1, 100)
    log(tmp_path, cell)
    _, rows, other = read_one(tmp_path)
    assert [step for step, _ in rows] == [*range(7, 99, 7), 100]
    assert rows == expected(cell, width=7, budget=100)
    assert rows[0][1]["episode/return"] == pytest.approx(4 / 3)  # rows i hold i / 3
    assert rows[0][1]["progress/env_steps"] == 70
    returns = [i / 3 for i in range(1, 101)]
    assert other["summary"]["end_score"] == pytest.approx(np.mean(returns[-10:]))  # of all rows


@pytest.mark.parametrize("reads", [(3, 10, 11, 30, 100), (50, 100), (7, 14, 100)])
def test_points_do_not_depend_on_where_the_file_was_when_it_was_read(tmp_path, reads):
    cell = make_cell(tmp_path, settings=FEW)
    follower = wandb_follower("offline", tmp_path, "grid")
    for first, last in zip((0, *reads[:-1]), reads, strict=True):
        append(cell, first + 1, last)
        follower.update(cell)
        assert follower.wait(60)
    follower.finish(cell, failed=False)
    follower.close()
    assert read_one(tmp_path)[1] == expected(cell, width=7, budget=100)


def test_what_is_not_finite_does_not_spoil_the_mean_of_a_point(tmp_path):
    cell = make_cell(tmp_path, settings=FEW)
    append(cell, 1, 7)
    path = cell / "iterations.csv"
    path.write_text(
        path.read_text().replace(line(2), line(2).replace("-0.2222222222222222", "nan"))
    )
    log(tmp_path, cell)
    ((_, point),) = read_one(tmp_path)[1]
    assert point["loss/policy"] == pytest.approx(-np.mean([1, 3, 4, 5, 6, 7]) / 9)


@pytest.mark.parametrize(
    "damaged", [{"wandb_points": 0}, {"wandb_points": "9"}, {"iterations": None}]
)
def test_a_record_that_does_not_say_how_many_points_has_one_for_each_row(tmp_path, damaged):
    cell = make_cell(tmp_path, settings=FEW | damaged)
    append(cell, 1, 20)
    log(tmp_path, cell)
    assert read_one(tmp_path)[1] == expected(cell)


# -- faults ---------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_used_costs_one_line_and_nothing_else(tmp_path, capfd):
    (tmp_path / "file").touch()
    cells = [make_cell(tmp_path, number) for number in range(3)]
    for cell in cells:
        append(cell, 1, 1)
    assert log(tmp_path / "file" / "below", *cells) is None
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.endswith("going on without it, the results are not touched")


def test_a_full_disk_costs_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tracker_module, "MIN_FREE", 2**70)
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    assert log(tmp_path, cell) is None
    (warning,) = capfd.readouterr().err.splitlines()
    assert "is full" in warning


def test_a_lost_service_costs_one_line(tmp_path, client, capfd):
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    follower = wandb_follower("offline", tmp_path, "grid")
    follower.update(cell)
    assert follower.wait(60)
    service = client.setup()._connection._proc._process
    service.kill()
    service.wait()
    append(cell, 2, 10)
    follower.finish(cell, failed=False)
    follower.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("W&B: failed")
    # A thread of the client's own, which the test must not leave to the next one.
    wait_for(lambda: all(thread.name != "NetStatThr" for thread in threading.enumerate()))
