"""Observations whose shape is not the declared one are refused, and none is stretched to fit."""

import gymnasium as gym
import numpy as np
import pytest

from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from tests.algorithms.runs import config


class Given(gym.Env):
    """An episode of four steps that gives a false observation at one of them.

    Args:
        config: ``at``, the step that gives it, 0 for the reset; ``false``, the observation.
    """

    observation_space = gym.spaces.Box(-9, 9, (3,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self._at, self._false = config["at"], config["false"]

    def _observation(self):
        return self._false if self._at == self._steps else np.zeros(3, np.float32)

    def reset(self, *, seed=None, options=None):
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        self._steps += 1
        return self._observation(), 1.0, self._steps == 4, False, {}


def played(false, at):
    made = config(environment=Given).environment(env_config={"at": at, "false": false})
    made.learners(num_learners=0)
    made.validate()
    runner = EpisodeRunner(config=made)
    return runner.rollout(runner.module.numpy_policy(), iteration=0, indices=[0])[0]


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize(
    ("false", "shape"),
    [
        (np.array([7.0], np.float32), r"\(1,\)"),  # numpy would spread it over the row
        (np.array([7.0, 7.0, 7.0])[None], r"\(1, 3\)"),
        (np.zeros(4), r"\(4,\)"),
        (7.0, r"\(\)"),
        ([1.0, 2.0], r"\(2,\)"),
        (None, r"\(\)"),
    ],
    ids=["one number", "a row too many", "too long", "scalar", "short list", "nothing"],
)
def test_an_observation_of_another_shape_than_declared_is_refused_at_any_step(false, shape, at):
    with pytest.raises(ValueError, match=rf"of shape {shape}, but .* declares \(3,\)"):
        played(false, at)


@pytest.mark.parametrize("right", [[7, 8, 9], (7.0, 8.0, 9.0), np.array([7, 8, 9], np.int16)])
@pytest.mark.parametrize("at", [0, 2])
def test_lists_and_other_numbers_of_the_declared_shape_are_taken(right, at):
    np.testing.assert_array_equal(played(right, at).observations[at], [7, 8, 9])
