"""That the methods learn, on short runs with fixed seeds.

A last bit that differs, on another processor, makes another run. So the margins are those that
four seeds of every run kept with room to spare.
"""

import functools

import numpy as np
import pytest

from tests.algorithms.runs import config, train

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.slow]
SMALL = {"hidden_sizes": (128, 128), "lr": 1e-3, "grad_clip": 0.1}  # tune_configs/tuned
SEEDS = range(3)
PPO = {"minibatch_size": 128, "num_epochs": 4}
ITERATIONS = {"reinforce": 600, "reinforce_baseline": 600, "ppo": 110}
GAIN = {"reinforce": 3.0, "reinforce_baseline": 3.0, "ppo": 1.4}  # PPO is quick to start


@functools.cache
def _returns(algorithm, method, environment="CartPole-v1", iterations=None, **settings):
    iterations = iterations or ITERATIONS[algorithm]
    settings = {**SMALL, **(PPO if algorithm == "ppo" else {}), **settings}
    algo = config(
        algorithm,
        environment,
        method=method,
        iterations=iterations,
        iterations_per_report=iterations,
        **settings,
    ).build_algo()
    returns = np.array([row["episode_return"] for row in train(algo, 1)])
    algo.stop()
    return returns


def _best(returns):
    """Maximum of the mean over 50 iterations."""
    return np.convolve(returns, np.full(50, 1 / 50), mode="valid").max()


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [("reinforce", "lpdm_guided"), ("reinforce_baseline", "lpdm"), ("ppo", "bp"), ("ppo", "lpdm")],
)
def test_cartpole_clearly_beats_its_first_50_iterations(algorithm, method):
    returns = _returns(algorithm, method)
    assert _best(returns) > GAIN[algorithm] * returns[:50].mean()


@pytest.mark.parametrize(
    ("algorithm", "method"), [("reinforce", "lpdm_guided"), ("reinforce_baseline", "lpdm")]
)
def test_frozen_layers_stay_behind_on_cartpole_under_reinforce(algorithm, method):
    assert _best(_returns(algorithm, "frozen")) < 0.8 * _best(_returns(algorithm, method))


def test_frozen_layers_stay_behind_backpropagation_on_cartpole_under_ppo():
    assert _best(_returns("ppo", "frozen")) < 0.85 * _best(_returns("ppo", "bp"))


@pytest.mark.parametrize("method", ["local_rl", "dfa"])
def test_what_sends_the_rl_loss_to_the_layers_otherwise_beats_frozen_layers_on_cartpole(method):
    def score(method):
        return np.mean(
            [_best(_returns("reinforce", method, iterations=250, seed=s)) for s in SEEDS]
        )

    assert score(method) > 1.8 * score("frozen")


def test_inverted_pendulum_is_learned_without_backpropagation():
    returns = _returns("reinforce", "lpdm", "InvertedPendulum-v4", iterations=1000, action_std=1.0)
    assert _best(returns) > 5 * returns[:50].mean()
