"""Small runs and how to compare them bit for bit."""

import numpy as np

from rllib_lpdm import PPOConfig, ReinforceConfig
from rllib_lpdm.algorithms.ray_internals import on_learners


def config(algorithm="reinforce", environment="CartPole-v1", seed=0, **settings):
    """A config of one of the paper's three algorithms with a small network."""
    if algorithm == "ppo":
        made = PPOConfig()
        settings = {"minibatch_size": 32, "num_epochs": 2} | settings
    else:
        made = ReinforceConfig().training(baseline=algorithm == "reinforce_baseline")
    settings = {"hidden_sizes": (16, 12), "lr": 1e-3, "iterations_per_report": 3} | settings
    made.environment(environment).training(**settings)
    return made.debugging(seed=seed, log_sys_usage=False)  # else stop() waits for a thread


def train(algo, reports):
    """Rows of the curve over some reports, without the time they took."""
    rows = []
    for _ in range(reports):
        algo.train()
        rows += [without_time(row) for row in algo.iteration_rows]
    return rows


def without_time(row):
    return {name: value for name, value in row.items() if name != "seconds"}


def learner_of(algo):
    """The one learner, where it is in this process."""
    return on_learners(algo.learner_group, lambda learner: learner)


def weights(algo):
    """All parameters and optimizer states of the learner, as one flat dict of arrays."""
    learner = learner_of(algo)
    arrays = {f"weights/{k}": v for k, v in learner.actor_critic.state_dict().items()}
    for name, optimizer in learner.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            arrays |= {f"{name}/{index}/{k}": v for k, v in state.items()}
    return {name: np.array(tensor) for name, tensor in arrays.items()}


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
