"""The command line of the evaluation: what it prints and writes, and its one-line errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rllib_lpdm.evaluate import main
from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.policies.evaluation import Evaluation, SavedPolicy, evaluate
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from tests.experiment.files import read_run, write_run

SMALL = CellSettings(iterations=2, iterations_per_report=2, hidden_sizes=(8,))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, ray_session):
    """The folder of an experiment with one cell."""
    folder = tmp_path_factory.mktemp("results")
    cell = Cell("CartPole-v1", "reinforce_baseline", "lpdm_guided", 4, SMALL)
    run = CellRun(cell, folder / cell.name, "a command")
    run.step()
    run.close()
    return folder


@pytest.fixture
def cell(experiment, tmp_path):
    """A copy of the cell, to be changed."""
    source = experiment / "CartPole-v1_reinforce_baseline_lpdm_guided_s4"
    return Path(shutil.copytree(source, tmp_path / "moved"))


IN_A_FRESH_PROCESS = """
import runpy, sys
try:
    runpy.run_module("rllib_lpdm.evaluate", run_name="__main__")
except SystemExit as end:
    assert end.code == 0
import ray
assert not ray.is_initialized()
"""


@pytest.mark.slow
def test_a_fresh_process_prints_and_writes_the_same_numbers_without_starting_ray(cell, tmp_path):
    options = ["--episodes", "3", "--seed", "7", "--json", "out.json", "--video"]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, cell, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = evaluate(cell, episodes=3, seed=7)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == expected.to_json()
    assert written["episodes"] == [
        {"return": value, "length": length}
        for value, length in zip(expected.returns, expected.lengths, strict=True)
    ]
    assert (written["mean"], written["std"]) == (
        pytest.approx(np.mean(expected.returns)),
        pytest.approx(np.std(expected.returns, ddof=1)),
    )
    assert {name: written[name] for name in ("algorithm", "method", "seed", "evaluation_seed")} == {
        "algorithm": "reinforce_baseline",
        "method": "lpdm_guided",
        "seed": 4,
        "evaluation_seed": 7,
    }
    assert (written["checkpoint"], written["iteration"]) == ("best", 2)
    rows = [line.split() for line in done.stdout.splitlines()]
    for k, value in enumerate(expected.returns, 1):
        assert [str(k), f"{value:.2f}", str(int(value))] in rows
    assert next(cell.glob("video.*")).stat().st_size > 1000


def test_without_an_encoder_the_video_is_a_gif(cell, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert main([str(cell), "--episodes", "1", "--video"]) == 0
    assert (cell / "video.gif").read_bytes().startswith(b"GIF89a")
    assert f"{cell / 'video.gif'}: episode 1, return " in capsys.readouterr().out


def test_the_numbers_are_there_even_if_the_video_is_not(cell, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert main([str(cell), "--episodes", "1", "--video", "--json", str(cell / "out.json")]) == 1
    output = capsys.readouterr()
    assert "mean" in output.out
    assert "pip install 'rllib-lpdm[video]'" in only_line(output.err)
    assert json.loads((cell / "out.json").read_text())["std"] is None


def test_numbers_that_cannot_be_written_are_printed(cell, capsys):
    assert main([str(cell), "--episodes", "1", "--json", str(cell / "no" / "out.json")]) == 1
    output = capsys.readouterr()
    assert "mean" in output.out
    assert "out.json" in only_line(output.err)


def test_a_return_that_is_no_number_is_written_as_null(cell, monkeypatch):
    broken = Evaluation(SavedPolicy.load(cell), 0, np.array([np.nan, 1.0]), np.array([5, 5]))
    monkeypatch.setattr(SavedPolicy, "evaluate", lambda *arguments: broken)
    assert main([str(cell), "--json", str(cell / "out.json")]) == 0
    written = json.loads((cell / "out.json").read_text(), parse_constant=pytest.fail)
    assert [episode["return"] for episode in written["episodes"]] == [None, 1.0]
    assert (written["mean"], written["std"]) == (None, None)


def test_other_versions_than_those_of_the_training_are_noted(cell, capsys):
    run = read_run(cell)
    write_run(cell, run | {"versions": run["versions"] | {"gymnasium": "0.1"}})
    assert main([str(cell), "--episodes", "1"]) == 0
    assert "gymnasium '0.1' then" in capsys.readouterr().err


def only_line(text):
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    return line


def edit(**entries):
    return lambda cell: write_run(cell, read_run(cell) | entries)


def edit_settings(**settings):
    return lambda cell: write_run(
        cell, read_run(cell) | {"settings": read_run(cell)["settings"] | settings}
    )


def remove_checkpoints(cell):
    shutil.rmtree(cell / "checkpoints")
    edit(status="failed")(cell)


FAULTS = {
    "no folder": (shutil.rmtree, "there is no such folder"),
    "no cell": (lambda cell: (cell / "run.json").unlink(), "is not a cell's folder: it has no run"),
    "no checkpoint": (remove_checkpoints, "has no checkpoint yet; the run's status is failed"),
    "cut off": (lambda cell: (cell / "run.json").write_text('{"cell": '), "run.json is damaged"),
    "nested": (lambda cell: (cell / "run.json").write_text("[" * 100_000), "recursion"),
    "bytes": (lambda cell: (cell / "run.json").write_bytes(b"\xff\xfe"), "run.json is damaged"),
    "a list": (lambda cell: (cell / "run.json").write_text("[]"), "run.json is damaged"),
    "no entries": (
        lambda cell: (cell / "run.json").write_text("{}"),
        "run.json is damaged: cell: Field required",
    ),
    "environment": (edit(environment="CartPol-v1"), "did you mean 'CartPole-v1'"),
    "no string": (edit(environment=["CartPole-v1"]), "environment: Input should be a valid string"),
    "algorithm": (edit(algorithm="sac"), "run.json: unknown algorithm 'sac', choose from"),
    "seed": (edit(seed=-1), "seed: Input should be greater than or equal to 0"),
    "new setting": (
        edit_settings(dropout=0.1),
        "settings: unknown setting 'dropout'; the cell was",
    ),
    "setting": (edit_settings(gamma=2), "settings.gamma: Input should be less than or equal to 1"),
    "sizes": (
        edit_settings(hidden_sizes=[9]),
        "weights.npz: 'encoder.layers.0.bias' has the shape",
    ),
    "huge": (edit_settings(hidden_sizes=[10**15]), "cannot be set up here"),
    "other space": (edit(environment="Pendulum-v1"), "'encoder.layers.0.weight' has the shape"),
    "no support": (edit(environment="FrozenLake-v1"), "unsupported observation space"),
    "rows": (
        lambda cell: (cell / "iterations.csv").unlink(),
        "has 0 whole rows, the last checkpoi",
    ),
    "columns": (
        lambda cell: (cell / "iterations.csv").write_text("a\n1\n2\n"),
        "iterations.csv is",
    ),
    "weights": (
        lambda cell: next(cell.rglob("weights.npz")).unlink(),
        "weights.npz is missing: the checkpoint is incomplete",
    ),
    "how it is made": (
        edit(environment_spec={"id": "CartPole-v1", "wrappers": ["NormalizeReward"]}),
        "run.json: environment_spec.wrappers.0",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_folder_is_one_line(cell, capsys, fault):
    cause, message = FAULTS[fault]
    cause(cell)
    assert main([str(cell)]) == 2
    line = only_line(capsys.readouterr().err)
    assert message in line
    assert len(line) < 500


def test_the_folder_of_an_experiment_is_answered_with_its_cells(experiment, capsys):
    assert main([str(experiment)]) == 2
    line = only_line(capsys.readouterr().err)
    assert "is an experiment's folder; name a cell in it" in line
    assert "CartPole-v1_reinforce_baseline_lpdm_guided_s4" in line


def test_a_url_is_answered_with_what_to_do(capsys):
    assert main(["s3://bucket/results/grid/cell"]) == 2
    assert "copy the cell's folder to this machine" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "options", [["--episodes", "0"], ["--checkpoint", "first"], ["--video", "film.avi"]]
)
def test_an_option_that_makes_no_sense_is_refused(options, capsys):
    with pytest.raises(SystemExit) as end:
        main(["folder", *options])
    assert end.value.code == 2
    assert options[0] in capsys.readouterr().err
