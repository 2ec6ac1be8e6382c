"""How weights begin."""

import math

import gymnasium as gym
import pytest
import torch

from rllib_lpdm import PPOConfig

GAINS = {"encoder.": math.sqrt(2.0), "policy_head.": 0.01, "local_policy_heads.": 0.01}


def parameters(**settings):
    config = PPOConfig().environment("Pendulum-v1").debugging(seed=3)
    config.training(hidden_sizes=(8, 16), method="local_rl", **settings)
    learner = config.build_learner(env=gym.make("Pendulum-v1"))
    return dict(learner.actor_critic.named_parameters())


def test_orthogonal_weights_turn_and_scale_only_and_biases_are_zero():
    for name, parameter in parameters(initialization="orthogonal").items():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        rows = parameter.detach() if len(parameter) <= parameter.shape[1] else parameter.detach().T
        gain = next((gain for prefix, gain in GAINS.items() if name.startswith(prefix)), 1.0)
        torch.testing.assert_close(rows @ rows.T, gain**2 * torch.eye(len(rows)))


@pytest.mark.parametrize("initialization", ["torch", "orthogonal"])
def test_a_seed_gives_the_same_weights_again(initialization):
    first, second = (parameters(initialization=initialization) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
