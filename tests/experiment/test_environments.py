"""Environments of the user's own in a grid: imported by name, described as data."""

import json
import os
import re
import shutil
import sys
from types import SimpleNamespace

import gymnasium as gym
import pytest
import ray
from gymnasium.envs.registration import EnvSpec

from rllib_lpdm import evaluate, report, tune
from rllib_lpdm.schema.environments import EnvironmentSpec
from tests.experiment.files import write
from tests.experiment.terminals import on_terminal

MODULE = """
import gymnasium as gym
import numpy as np


class Endless(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2, 2))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, reward=1):
        self.reward = reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((2, 2), np.float32), {}

    def step(self, action):
        return np.zeros((2, 2), np.float32), self.reward, False, False, {}


gym.register("OwnEndless-v0", Endless)
"""
EASY = {
    "id": "OwnEndless-v0",
    "name": "easy",
    "kwargs": {"reward": 3},
    "max_episode_steps": 7,
    "wrappers": ["FlattenObservation", {"name": "ClipReward", "kwargs": {"max_reward": 2}}],
}
SETTINGS = {"iterations": 4, "iterations_per_report": 1, "hidden_sizes": [8], "env_runners": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ray_session):
    """A folder with a module, an experiment that needs it, and its results; and what was seen."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_environments.py").write_text(MODULE)
    file = write(folder, environments=[EASY], settings=SETTINGS)
    options = ["--import", "own_environments", "--output", "out", "--wandb", "disabled"]
    options += ["--address", ray.get_runtime_context().gcs_address]  # spares another Ray
    ended = on_terminal(
        [sys.executable, "-P", "-m", "rllib_lpdm.tune", file.name, *options],  # as a script: no cwd
        os.environ,
        folder,
    )
    assert ended.status == 0, ended.shown + ended.errors
    assert ended.errors == ""
    return SimpleNamespace(folder=folder, shown=ended.shown)


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of that folder, as the current one; what is imported there is forgotten."""
    folder = shutil.copytree(trained.folder, tmp_path / "own")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    sys.modules.pop("own_environments", None)
    gym.registry.pop("OwnEndless-v0", None)


CELL = "easy_ppo_lpdm_s0"


@pytest.mark.slow
def test_a_described_environment_of_ones_own_is_trained_in_remote_runners_and_named(here):
    run = json.loads((here / "out" / "file" / CELL / "run.json").read_text())
    assert run["environment"] == "easy"
    assert EnvironmentSpec(**run["environment_spec"]) == EnvironmentSpec(**EASY)
    rows = (here / "out" / "file" / CELL / "iterations.csv").read_text().splitlines()
    assert [row.split(",")[3:5] for row in rows[1:]] == [["14.0", "7.0"]] * 4


@pytest.mark.slow
def test_the_command_draws_its_table_on_a_terminal(trained):
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", trained.shown)
    assert plain.count("environment algorithm") > 2  # drawn, and again in its place
    assert "\x1b[1A" in trained.shown
    assert re.search(r"easy +ppo +1/1 +14\.0 *\r\n", plain)
    assert "1 done, 0 running, 0 failed, 0 pending | " in plain
    assert plain.rindex("1 done") < plain.index("Max score")


@pytest.mark.slow
def test_evaluation_report_and_resume_work_with_it(here, capsys):
    cell = here / "out" / "file" / CELL
    options = ["--import", "own_environments"]
    assert evaluate.main([str(cell), "--episodes", "1", *options]) == 0
    assert "14.00        7" in capsys.readouterr().out
    assert report.main([str(cell.parent)]) == 0
    assert "1 cell" in capsys.readouterr().out
    assert tune.main(["file.yaml", *options, "--output", "out", "--dry-run"]) == 0
    assert "1 cell, 1 finished" in capsys.readouterr().out
    changed = f"environments=[{json.dumps(EASY | {'kwargs': {'reward': 1}})}]"
    more = ["--set", changed, "--output", "out", "--dry-run"]
    assert tune.main(["file.yaml", *options, *more]) == 2
    assert "environment_spec was" in capsys.readouterr().err


@pytest.mark.slow
def test_without_its_module_an_environment_is_refused_with_the_way_out(here, capsys):
    for command, argument in ((tune, "file.yaml"), (evaluate, f"out/file/{CELL}")):
        assert command.main([argument]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "unknown environment 'OwnEndless-v0'" in line
        assert "--import" in line


def test_an_environment_without_a_time_limit_is_warned_of(tmp_path, monkeypatch, capsys):
    endless = EnvSpec("Endless-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    monkeypatch.setitem(gym.registry, endless.id, endless)
    limited = {"id": endless.id, "name": "short", "max_episode_steps": 7}
    file = write(tmp_path, environments=[endless.id, limited, "CartPole-v1"])
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "thesis.txt").touch()
    assert tune.main([str(file), "--output", str(tmp_path)]) == 2
    warning, refusal = capsys.readouterr().err.splitlines()
    assert warning == "warning: Endless-v0 has no time limit, max_episode_steps gives one"
    assert "exists" in refusal


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module", "--import no_such_module cannot be imported: ModuleNotFoundError"),
        ("./own.py", "--import './own.py' is no module's name"),
        ("os.path.", "is no module's name"),
        ("broken", "--import broken cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, capsys, name, said):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert tune.main([str(write(tmp_path)), "--import", name]) == 2
    assert evaluate.main([str(tmp_path), "--import", name]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(said in line for line in lines)
