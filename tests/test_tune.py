"""``python -m rllib_lpdm.tune`` from the command line to the folders it leaves."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import yaml

from rllib_lpdm import tune
from tests.experiment.files import CONFIGS, write
from tests.experiment.traces import contents

ROOT = Path(__file__).resolve().parents[1]
DEBUG = ROOT / "tune_configs" / "debug.yaml"
SETTINGS = {
    "hidden_sizes": [8, 8],
    "iterations": 5,
    "iterations_per_report": 2,
    "return_normalization": "running",
    "tensorboard": True,
    "retries": 0,  # of a cell that fails elsewhere: each costs a process
}
FAILING = {"when": {"algorithm": "reinforce"}, "set": {"bootstrap_truncated": True}}
FIRST_COLUMNS = ["iteration", "env_steps", "episodes", "episode_return", "episode_length"]
SECRETS = {
    "WANDB_API_KEY": "5ec4e7" * 6 + "beef",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret/0123456789/abcdefghij",
    "AWS_SESSION_TOKEN": "planted-session-token-0123456789",
    "netrc": "planted-netrc-password-0123456789",
}


def run_of(folder):
    return json.loads((folder / "run.json").read_text())


def rows_of(folder):
    """The cells of iterations.csv as written, without the time they took."""
    with (folder / "iterations.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def in_process(ray_session, tmp_path_factory):
    """Two cells one by one in one process, in another order than under Tune."""
    output = tmp_path_factory.mktemp("in_process")
    words = [str(DEBUG), "--output", str(output), "--wandb", "disabled"]
    words += ["--set", "algorithms=[ppo, reinforce_baseline]", "--set", "seeds=[3]"]
    words += [f"--set=settings.{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    with redirect_stdout(io.StringIO()) as printed:
        status = tune.main(words)
    return SimpleNamespace(status=status, printed=printed.getvalue(), folder=output / "debug")


@pytest.fixture(scope="module")
def under_tune(ray_session, tmp_path_factory):
    """The same two cells, and one that must fail, one at a time under Tune; secrets all around.

    Home folder, Ray's session and temporary files lie below two folders, which are searched.
    """
    home = tmp_path_factory.mktemp("home")
    ray_folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # paths of sockets must be short
    current = ray_folder / "ray" / "ray_current_cluster"  # the tests' Ray, which Ray would join
    current.parent.mkdir()
    current.write_text(ray.get_runtime_context().gcs_address)
    netrc = tmp_path_factory.mktemp("keys") / "netrc"
    netrc.write_text(f"machine api.wandb.ai\n  login user\n  password {SECRETS['netrc']}\n")
    unwanted = ("WANDB_", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "RAY_ADDRESS")
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(unwanted)},
        **{name: value for name, value in SECRETS.items() if name != "netrc"},
        "HOME": str(home),
        "NETRC": str(netrc),
        "RAY_TMPDIR": str(ray_folder),
        "TMPDIR": str(ray_folder),
        "TERM": "xterm-256color",
        "PYTHONPATH": str(ROOT),  # alone: without what makes other tests' processes start sooner
    }
    file = write(
        home,
        "small.yaml",
        extends=str(DEBUG),
        settings=SETTINGS,
        in_process=False,
        algorithms=["reinforce_baseline", "ppo", "reinforce"],
        overrides=[FAILING],
    )
    words = [file, "--set", "seeds=[3]", "--output", home / "results", "--max-concurrent", 1]
    ended = subprocess.run(
        [sys.executable, "-m", "rllib_lpdm.tune", *map(str, words), "--wandb", "offline"],
        cwd=home,
        env=variables,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    folder = home / "results" / "small"
    yield SimpleNamespace(ended=ended, home=home, ray=ray_folder, folder=folder, file=file)
    shutil.rmtree(ray_folder, ignore_errors=True)


GOOD = ["CartPole-v1_ppo_lpdm_s3", "CartPole-v1_reinforce_baseline_lpdm_s3"]
BAD = "CartPole-v1_reinforce_lpdm_s3"


@pytest.mark.slow
@pytest.mark.parametrize("cell", GOOD)
def test_a_cell_leaves_its_record_its_curve_and_a_checkpoint(in_process, cell):
    assert in_process.status == 0
    run = run_of(in_process.folder / cell)
    assert (run["cell"], run["status"], run["variant"]) == (cell, "finished", None)
    assert f"{run['environment']}_{run['algorithm']}_{run['method']}_s{run['seed']}" == cell
    assert run["settings"].items() >= SETTINGS.items()
    paper = yaml.safe_load((CONFIGS / "paper.yaml").read_text(encoding="utf-8"))
    assert run["settings"]["lr"] == paper["overrides"][0]["set"]["lr"]  # CartPole's
    assert run["versions"]["ray"]
    assert {"git_commit", "hardware", "started", "finished"} <= set(run)
    header, *rows = (in_process.folder / cell / "iterations.csv").read_text().splitlines()
    assert header.split(",")[:6] == [*FIRST_COLUMNS, "seconds"]
    assert [row.split(",")[0] for row in rows] == list("12345")
    (checkpoint,) = (in_process.folder / cell / "checkpoints").iterdir()
    assert checkpoint.name == "iteration_00000005"


@pytest.mark.slow
def test_a_run_prints_a_line_a_cell_and_a_table_of_scores(in_process):
    assert all(f" {cell} " in in_process.printed for cell in GOOD)
    assert "[2/2]" in in_process.printed
    assert re.search(r"CartPole-v1 +ppo +[\d.]+ \([\d.]+\)", in_process.printed)


@pytest.mark.slow
@pytest.mark.parametrize("cell", GOOD)
def test_a_cell_in_a_used_worker_of_tune_equals_the_same_cell_in_process(
    in_process, under_tune, cell
):
    assert rows_of(under_tune.folder / cell) == rows_of(in_process.folder / cell)
    runs = [run_of(run.folder / cell) for run in (under_tune, in_process)]
    for key in ("settings", "seed", "versions", "git_commit", "hardware", "status"):
        assert runs[0][key] == runs[1][key]
    assert f"rllib_lpdm.tune {under_tune.file} --set 'seeds=[3]'" in runs[0]["command"]


@pytest.mark.slow
def test_tune_uses_a_worker_for_several_cells(under_tune):
    workers = [run_of(under_tune.folder / cell)["process"].split("-")[0] for cell in GOOD]
    assert len(set(workers)) < len(workers)


@pytest.mark.slow
def test_without_an_address_a_ray_of_its_own_is_started_whatever_runs_on_the_machine(under_tune):
    assert [path for path in contents(under_tune.ray) if path.match("session_*/logs/*")]


@pytest.mark.slow
def test_a_failed_cell_is_listed_and_its_record_holds_the_traceback(under_tune):
    assert under_tune.ended.returncode == 1
    assert "1 of 3 cells failed" in under_tune.ended.stderr
    assert f"{BAD}: ValueError: bootstrap_truncated needs a value head" in under_tune.ended.stderr
    run = run_of(under_tune.folder / BAD)
    assert run["status"] == "failed"
    assert run["error"].startswith("Traceback (most recent call last)")
    assert "bootstrap_truncated" in run["error"]
    assert all(run_of(under_tune.folder / cell)["status"] == "finished" for cell in GOOD)
    assert "Traceback (most" not in under_tune.ended.stdout + under_tune.ended.stderr


@pytest.mark.slow
def test_a_log_has_a_line_for_each_cell_and_no_control_character(under_tune):
    printed = under_tune.ended.stdout + under_tune.ended.stderr
    assert {c for c in printed if unicodedata.category(c) == "Cc"} == {"\n"}
    assert "2 done, 0 running, 1 failed, 0 pending" in printed
    assert all(f"[{number}/3] " in printed for number in range(1, 4))
    assert all(f" {cell} " in printed for cell in [*GOOD, BAD])


@pytest.mark.slow
def test_resume_trains_what_failed_and_leaves_alone_what_finished(
    under_tune, ray_session, tmp_path, capsys
):
    folder = tmp_path / "small"
    shutil.copytree(under_tune.folder, folder)
    before = {path: path.read_bytes() for cell in GOOD for path in (folder / cell).glob("*.*")}
    cured = under_tune.file.with_name("cured.yaml")
    cure = "{when: {algorithm: reinforce}, set: {bootstrap_truncated: false}}"
    cured.write_text(
        f"extends: {under_tune.file.name}\nname: small\nseeds: [3]\n"
        f"in_process: true\noverrides: [{cure}]\n"
    )
    words = [str(cured), "--output", str(tmp_path), "--resume", "--wandb", "disabled"]
    assert tune.main(words) == 0
    assert "2 of 3 cells are finished already" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    assert run_of(folder / BAD)["status"] == "finished"
    assert len(rows_of(folder / BAD)) == 5


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_grid_with_the_secrets_left_files_of_every_kind(under_tune):
    found = contents(under_tune.folder)
    patterns = ("run.json", "iterations.csv", "weights.npz", "events.out.tfevents*", "*.wandb")
    for pattern in patterns:
        assert [path for path in found if path.match(pattern)], pattern
    offline = [data for path, data in found.items() if path.suffix == ".wandb"]
    assert any(GOOD[0].encode() in data for data in offline)  # nothing is compressed


@pytest.mark.slow
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_in_no_file_of_the_run_and_in_no_line_of_its_output(under_tune, name):
    secret = SECRETS[name].encode()
    forms = (secret, base64.b64encode(secret).rstrip(b"="), secret.hex().encode())
    printed = (under_tune.ended.stdout + under_tune.ended.stderr).encode()
    assert not [form for form in forms if form in printed]
    found = contents(under_tune.home) | contents(under_tune.ray)
    assert not [path for path, data in found.items() if any(form in data for form in forms)]


@pytest.mark.slow
def test_the_run_wrote_nothing_outside_its_results_folder_but_temporary_files(under_tune):
    inside = {path.relative_to(under_tune.home).parts[0] for path in contents(under_tune.home)}
    assert inside - {"cured.yaml"} <= {"small.yaml", "results", ".cache", ".config", ".ray"}
    assert {path.name for path in (under_tune.home / "results").iterdir()} == {"small"}
    left = {path.name for path in under_tune.ray.iterdir()}
    assert not [name for name in left if name.startswith("rllib_lpdm")]


# -- without a grid -------------------------------------------------------------------------------


def test_a_throwaway_run_replaces_the_one_before(ray_session, tmp_path, capsys):
    small = [f"--set=settings.{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    arguments = [str(DEBUG), "--output", str(tmp_path), "--wandb", "disabled", *small]
    cell = "CartPole-v1_ppo_lpdm_s0"
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


def test_a_file_that_is_not_there_is_one_line_and_nothing_is_written(tmp_path, capsys):
    output = tmp_path / "output"
    assert tune.main([str(tmp_path / "nowhere.yaml"), "--output", str(output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "nowhere.yaml" in line
    assert not list(tmp_path.iterdir())
