"""That the methods learn, on short runs with fixed seeds.

A last bit that differs, on another processor, makes another run. So the margins are those that
four seeds of every run kept with room to spare.
"""

import functools

import numpy as np
import pytest

from tests.algorithms.runs import config, train

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.slow]
SMALL = {"hidden_sizes": (64, 64), "lr": 5e-3, "grad_clip": 0.1}
SEEDS = range(2)
PPO = {"minibatch_size": 128, "num_epochs": 4}
ITERATIONS = {"reinforce": 300, "reinforce_baseline": 300, "ppo": 30}
WINDOW = {"reinforce": 50, "reinforce_baseline": 50, "ppo": 10}  # iterations, PPO's of 4 episodes
GAIN = {"reinforce": 3.0, "reinforce_baseline": 3.0, "ppo": 2.0}  # PPO is quick to start


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


def _best(returns, window=50):
    """Maximum of the mean over so many iterations."""
    return np.convolve(returns, np.full(window, 1 / window), mode="valid").max()


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [("reinforce", "lpdm_guided"), ("reinforce_baseline", "lpdm"), ("ppo", "bp"), ("ppo", "lpdm")],
)
def test_cartpole_clearly_beats_its_first_iterations(algorithm, method):
    returns, window = _returns(algorithm, method), WINDOW[algorithm]
    assert _best(returns, window) > GAIN[algorithm] * returns[:window].mean()


@pytest.mark.parametrize(
    ("algorithm", "method"), [("reinforce", "lpdm_guided"), ("reinforce_baseline", "lpdm")]
)
def test_frozen_layers_stay_behind_on_cartpole_under_reinforce(algorithm, method):
    assert _best(_returns(algorithm, "frozen")) < 0.8 * _best(_returns(algorithm, method))


def test_frozen_layers_stay_behind_backpropagation_on_cartpole_under_ppo():
    frozen, bp = (_best(_returns("ppo", method), WINDOW["ppo"]) for method in ("frozen", "bp"))
    assert frozen < 0.6 * bp


@pytest.mark.parametrize("method", ["local_rl", "dfa"])
def test_what_sends_the_rl_loss_to_the_layers_otherwise_beats_frozen_layers_on_cartpole(method):
    def score(method):
        runs = (_returns("reinforce", method, iterations=200, lr=3e-3, seed=s) for s in SEEDS)
        return np.mean([_best(returns) for returns in runs])

    assert score(method) > 1.8 * score("frozen")


def test_inverted_pendulum_is_learned_without_backpropagation():
    returns = _returns(
        "reinforce", "lpdm", "InvertedPendulum-v4", iterations=400, lr=3e-3, action_std=1.0
    )
    assert _best(returns) > 5 * returns[:50].mean()
