"""An environment whose numbers are not finite does not pass for one that was learned."""

import json

import gymnasium as gym
import numpy as np
import pytest

from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.results.iterations import read_columns
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell

pytestmark = pytest.mark.usefixtures("ray_session")
SETTINGS = CellSettings(iterations=4, iterations_per_report=4, hidden_sizes=(8,))


class Broken(gym.Wrapper):
    """CartPole with a number in the place of a reward, or of an observation, from some step on.

    Args:
        reward: takes the place of the reward; None for the environment's own.
        observation: likewise.
        steps: how often; None for always.
    """

    def __init__(self, reward=None, observation=None, steps=None):
        super().__init__(gym.make("CartPole-v1"))
        self._reward, self._observation, self._left = reward, observation, steps

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        if self._left != 0:
            self._left = None if self._left is None else self._left - 1
            reward = reward if self._reward is None else self._reward
            if self._observation is not None:
                observation = np.full_like(observation, self._observation)
        return observation, reward, *rest


@pytest.fixture
def trained(tmp_path):
    """Trains a cell on such an environment; gives its run.json, read strictly, and the error."""
    made = []

    def train(algorithm="ppo", method="lpdm", settings=SETTINGS, **broken):
        gym.register("Broken-v0", entry_point=lambda: Broken(**broken))
        made.append("Broken-v0")
        run = CellRun(Cell("Broken-v0", algorithm, method, 0, settings), tmp_path, "a command")
        error = None
        try:
            run.step()
        except FloatingPointError as raised:
            error = str(raised)
        finally:
            run.close()
        text = (tmp_path / "run.json").read_text()
        return json.loads(text, parse_constant=pytest.fail), error

    yield train
    for name in made:
        del gym.registry[name]


@pytest.mark.parametrize(
    ("algorithm", "method", "broken"),
    [
        ("ppo", "lpdm", {"reward": np.nan}),
        ("ppo", "bp", {"observation": np.inf}),
        ("reinforce", "lpdm_guided", {"reward": -np.inf}),
        ("reinforce_baseline", "frozen", {"reward": np.nan}),
    ],
)
def test_a_cell_that_learned_nothing_ends_as_failed_with_the_reason(
    trained, algorithm, method, broken
):
    run, error = trained(algorithm, method, **broken)
    assert error.startswith("every update of iterations 1 to 4 was skipped: ")
    assert run["status"] == "failed"
    assert error in run["error"]


def test_a_score_that_is_no_number_is_null(trained):
    run, _ = trained(reward=np.nan)
    assert run["score"] is None


@pytest.mark.parametrize(
    ("reward", "normalization"), [(np.nan, "batch"), (1e160, "batch"), (1e160, "running")]
)
def test_one_reward_that_is_no_number_or_overflows_costs_its_own_update_only(
    trained, tmp_path, reward, normalization
):
    settings = SETTINGS.model_copy(update={"return_normalization": normalization})
    run, error = trained(settings=settings, reward=reward, steps=1)
    assert error is None
    assert run["status"] == "finished"
    assert np.isfinite(run["score"])
    columns = read_columns((tmp_path / "iterations.csv").read_bytes(), lambda column: True)
    assert (columns["skipped_steps"] > 0).tolist() == [True, False, False, False]
