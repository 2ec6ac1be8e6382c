"""How weights begin."""

import math

import gymnasium as gym
import pytest
import torch

from rllib_lpdm import PPOConfig


def parameters(**settings):
    config = PPOConfig().environment("Pendulum-v1").debugging(seed=3)
    config.training(**{"hidden_sizes": (8, 16), "method": "local_rl", **settings})
    learner = config.build_learner(env=gym.make("Pendulum-v1"))
    return dict(learner.actor_critic.named_parameters())


@pytest.mark.parametrize(
    "gains",
    [
        {},
        {"hidden_gain": math.sqrt(2.0), "head_gain": 0.01},
        {"hidden_gain": 5 / 3, "head_gain": 0.5},
        {"head_gain": 0.0},
    ],
    ids=str,
)
def test_orthogonal_weights_turn_and_scale_only_and_biases_are_zero(gains):
    hidden, policy = gains.get("hidden_gain", math.sqrt(2.0)), gains.get("head_gain", 0.01)
    expected = {"encoder.": hidden, "policy_head.": policy, "local_policy_heads.": policy}
    for name, parameter in parameters(initialization="orthogonal", **gains).items():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        rows = parameter.detach() if len(parameter) <= parameter.shape[1] else parameter.detach().T
        gain = next((gain for prefix, gain in expected.items() if name.startswith(prefix)), 1.0)
        torch.testing.assert_close(rows @ rows.T, gain**2 * torch.eye(len(rows)))


def test_xavier_weights_are_uniform_within_their_bound_and_biases_are_zero():
    drawn = parameters(initialization="xavier", hidden_sizes=(64, 96))
    for name, parameter in drawn.items():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        bound = math.sqrt(6.0 / sum(parameter.shape))
        assert parameter.abs().max() <= bound
        if parameter.numel() > 1000:
            weights = parameter.flatten()
            assert weights.std().item() == pytest.approx(bound / math.sqrt(3.0), rel=0.03)
            assert weights.abs().max() > 0.99 * bound


@pytest.mark.parametrize("initialization", ["torch", "orthogonal", "xavier"])
def test_a_seed_gives_the_same_weights_again(initialization):
    first, second = (parameters(initialization=initialization) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
