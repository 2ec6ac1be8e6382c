"""When PPO's hidden layers make their local steps."""

import pytest

from rllib_lpdm.algorithms import PPOConfig

SETTINGS = {
    "hidden_sizes": (8, 8),
    "minibatch_size": 16,
    "num_epochs": 3,
    "iterations_per_report": 2,
    "method": "lpdm",
}


def steps(algo, name):
    optimizer = algo.learner_group._learner.optimizers[name]
    return max(state["step"] for state in optimizer.state.values())


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("when", ["every_minibatch", "once"])
def test_hidden_layers_step_with_every_minibatch_or_once_an_iteration(when):
    config = PPOConfig().environment("CartPole-v1").training(**SETTINGS, local_updates=when)
    algo = config.debugging(seed=0).build_algo()
    algo.train()
    hidden, head = steps(algo, "hidden_2"), steps(algo, "policy_head")
    assert head > 2 * 3
    assert hidden == (2 if when == "once" else head)
    assert {"distance_error_2", "policy_loss", "grad_norm_hidden_1"} <= algo.iteration_rows[
        0
    ].keys()
    algo.stop()
