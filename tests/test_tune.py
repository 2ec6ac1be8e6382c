"""``python -m rllib_lpdm.tune`` from the command line to the folders it leaves."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rllib_lpdm import tune
from tests.experiment.files import write

ROOT = Path(__file__).resolve().parents[1]
DEBUG = ROOT / "tune_configs" / "debug.yaml"
SETTINGS = {
    "hidden_sizes": [8, 8],
    "iterations": 5,
    "iterations_per_report": 2,
    "return_normalization": "running",
}
FAILING = {"when": {"algorithm": "reinforce"}, "set": {"bootstrap_truncated": True}}
FIRST_COLUMNS = ["iteration", "env_steps", "episodes", "episode_return", "episode_length"]
SECRET = "planted-secret-0123456789"


def command(*arguments):
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rllib_lpdm.tune", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"WANDB_API_KEY": SECRET},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_of(folder):
    return json.loads((folder / "run.json").read_text())


def rows_of(folder):
    """The cells of iterations.csv as written, without the time they took."""
    with (folder / "iterations.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """Four cells one by one in one process, in another order than under Tune."""
    output = tmp_path_factory.mktemp("in_process")
    ended = command(
        *(DEBUG, "--output", output, "--set", "algorithms=[ppo, reinforce_baseline]"),
        *("--set", "seeds=[3, 0]"),
        *(f"--set=settings.{name}={json.dumps(value)}" for name, value in SETTINGS.items()),
    )
    return SimpleNamespace(ended=ended, folder=output / "debug")


@pytest.fixture(scope="module")
def under_tune(tmp_path_factory):
    """The same four cells, and two that must fail, one at a time under Tune."""
    output = tmp_path_factory.mktemp("under_tune")
    file = write(
        output,
        "small.yaml",
        extends=str(DEBUG),
        settings=SETTINGS,
        in_process=False,
        algorithms=["reinforce_baseline", "ppo", "reinforce"],
        seeds=[0, 3],
        overrides=[FAILING],
    )
    ended = command(file, "--output", output, "--max-concurrent", 1)
    return SimpleNamespace(ended=ended, folder=output / "small", file=file)


def cells(algorithms, seeds):
    return [f"CartPole-v1_{algorithm}_lpdm_s{seed}" for algorithm in algorithms for seed in seeds]


GOOD = cells(["ppo", "reinforce_baseline"], [0, 3])
BAD = cells(["reinforce"], [0, 3])


@pytest.mark.slow
@pytest.mark.parametrize("cell", GOOD)
def test_a_cell_leaves_its_record_its_curve_and_a_checkpoint(in_process, cell):
    assert in_process.ended.returncode == 0, in_process.ended.stderr
    run = run_of(in_process.folder / cell)
    assert (run["cell"], run["status"], run["variant"]) == (cell, "finished", None)
    assert f"{run['environment']}_{run['algorithm']}_{run['method']}_s{run['seed']}" == cell
    assert run["settings"].items() >= SETTINGS.items()
    assert run["settings"]["lr"] == 1e-3
    assert run["versions"]["ray"]
    assert {"git_commit", "hardware", "started", "finished"} <= set(run)
    assert f"rllib_lpdm.tune {DEBUG}" in run["command"]
    assert "--set 'seeds=[3, 0]'" in run["command"]
    header, *rows = (in_process.folder / cell / "iterations.csv").read_text().splitlines()
    assert header.split(",")[:6] == [*FIRST_COLUMNS, "seconds"]
    assert [row.split(",")[0] for row in rows] == list("12345")
    (checkpoint,) = (in_process.folder / cell / "checkpoints").iterdir()
    assert checkpoint.name == "iteration_00000005"


@pytest.mark.slow
def test_a_run_prints_a_line_a_cell_and_a_table_of_scores(in_process):
    assert all(f" {cell} " in in_process.ended.stdout for cell in GOOD)
    assert "[4/4]" in in_process.ended.stdout
    assert re.search(r"CartPole-v1 +ppo +[\d.]+ \([\d.]+\)", in_process.ended.stdout)


@pytest.mark.slow
def test_no_secret_is_in_any_file_or_line(in_process):
    files = [path for path in in_process.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in in_process.ended.stdout + in_process.ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("cell", GOOD)
def test_a_cell_in_a_used_worker_of_tune_equals_the_same_cell_in_process(
    in_process, under_tune, cell
):
    assert rows_of(under_tune.folder / cell) == rows_of(in_process.folder / cell)
    runs = [run_of(run.folder / cell) for run in (under_tune, in_process)]
    for key in ("settings", "seed", "versions", "git_commit", "hardware", "status"):
        assert runs[0][key] == runs[1][key]


@pytest.mark.slow
def test_tune_uses_a_worker_for_several_cells(under_tune):
    workers = [run_of(under_tune.folder / cell)["process"].split("-")[0] for cell in GOOD]
    assert len(set(workers)) < len(workers)


@pytest.mark.slow
def test_failed_cells_are_listed_and_do_not_stop_the_others(under_tune):
    assert under_tune.ended.returncode == 1
    assert "2 of 6 cells failed" in under_tune.ended.stderr
    for cell in BAD:
        assert f"{cell}: ValueError: bootstrap_truncated needs a value head" in (
            under_tune.ended.stderr
        )
        run = run_of(under_tune.folder / cell)
        assert run["status"] == "failed"
        assert run["error"].startswith("Traceback (most recent call last)")
        assert "bootstrap_truncated" in run["error"]
    assert all(run_of(under_tune.folder / cell)["status"] == "finished" for cell in GOOD)
    assert "Traceback (most" not in under_tune.ended.stdout + under_tune.ended.stderr


@pytest.mark.slow
def test_resume_trains_what_failed_and_leaves_alone_what_finished(under_tune, tmp_path):
    folder = tmp_path / "small"
    shutil.copytree(under_tune.folder, folder)
    before = {path: path.read_bytes() for cell in GOOD for path in (folder / cell).glob("*.*")}
    cured = under_tune.file.with_name("cured.yaml")
    cure = "{when: {algorithm: reinforce}, set: {bootstrap_truncated: false}}"
    cured.write_text(f"extends: {under_tune.file.name}\nname: small\noverrides: [{cure}]\n")
    ended = command(cured, "--output", tmp_path, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert "4 of 6 cells are finished already" in ended.stdout
    assert {path: path.read_bytes() for path in before} == before
    for cell in BAD:
        assert run_of(folder / cell)["status"] == "finished"
        assert len(rows_of(folder / cell)) == 5


def test_a_throwaway_run_replaces_the_one_before(ray_session, tmp_path, capsys):
    small = [f"--set=settings.{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    arguments = [str(DEBUG), "--output", str(tmp_path), "--wandb", "disabled", *small]
    (cell,) = cells(["ppo"], [0])
    ids = []
    for _ in range(2):
        assert tune.main(arguments) == 0
        ids.append(run_of(tmp_path / "debug" / cell)["run_id"])
        said = capsys.readouterr().out
        assert f"python -m rllib_lpdm.report {tmp_path / 'debug'}" in said
    assert ids[0] != ids[1]
    # What is finished and cannot be shown is named, and why.
    rows = tmp_path / "debug" / cell / "iterations.csv"
    rows.write_text(re.sub(r"(?m)^(\d+,\d+,\d+),[^,]+", r"\1,nan", rows.read_text()))
    assert tune.main([*arguments, "--resume"]) == 0
    assert f"not in the table: {cell}: " in capsys.readouterr().out


def test_a_dry_run_says_nothing_but_its_plan(tmp_path):
    ended = command(DEBUG, "--output", tmp_path, "--dry-run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 cell, 0 finished" in ended.stdout


def test_the_command_itself_ends_with_status_2_and_no_traceback(tmp_path):
    ended = command(tmp_path / "nowhere.yaml", "--output", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert "nowhere.yaml" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not list(tmp_path.iterdir())
