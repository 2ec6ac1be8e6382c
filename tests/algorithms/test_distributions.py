import gymnasium as gym
import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from rllib_lpdm.algorithms.distributions import action_distribution

BOX = gym.spaces.Box(np.array([-1.0, -0.5, 0.0]), np.array([1.0, 0.5, np.inf]), dtype=np.float64)
STD = 0.3


def _torch(space, outputs):
    if isinstance(space, gym.spaces.Discrete):
        return Categorical(logits=outputs)
    return Independent(Normal(outputs, STD), 1)


@pytest.mark.parametrize("space", [gym.spaces.Discrete(4), BOX])
def test_log_probability_kl_and_their_gradients_equal_torch_distributions(space):
    generator = torch.Generator().manual_seed(0)
    distribution = action_distribution(space, STD)
    old, new = torch.randn(2, 7, distribution.size, generator=generator, dtype=torch.float64)
    new.requires_grad_(True)
    reference = _torch(space, new)
    actions = reference.sample()

    log_prob, gradient = distribution.log_prob(new.detach(), actions)
    torch.testing.assert_close(log_prob, reference.log_prob(actions).detach())
    (expected,) = torch.autograd.grad(reference.log_prob(actions).sum(), new)
    torch.testing.assert_close(gradient, expected)

    divergence, gradient = distribution.kl(old, new.detach())
    expected_divergence = kl_divergence(_torch(space, old), _torch(space, new))
    torch.testing.assert_close(divergence, expected_divergence.detach())
    (expected,) = torch.autograd.grad(expected_divergence.sum(), new)
    torch.testing.assert_close(gradient, expected)


def test_discrete_actions_are_drawn_with_the_softmax_probabilities():
    distribution = action_distribution(gym.spaces.Discrete(3), STD)
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    noise = distribution.noise(np.random.default_rng(0), 20_000)
    drawn = np.array([distribution.sample(logits, row) for row in noise])
    frequencies = np.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(frequencies, [0.2, 0.5, 0.3], atol=0.015)
    assert distribution.mode(logits) == 1


def test_continuous_actions_are_drawn_around_the_mean_with_the_fixed_deviation():
    distribution = action_distribution(BOX, STD)
    mean = np.array([0.1, -2.0, 3.0], np.float32)
    noise = distribution.noise(np.random.default_rng(0), 20_000)
    drawn = np.array([distribution.sample(mean.copy(), row) for row in noise])
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(drawn.std(0), STD, atol=0.01)
    np.testing.assert_array_equal(distribution.mode(mean), mean)


def test_only_the_environment_gets_the_clipped_action():
    distribution = action_distribution(BOX, STD)
    action = np.array([5.0, -5.0, -5.0], np.float32)
    np.testing.assert_array_equal(distribution.to_env(action), [1.0, -0.5, 0.0])
    np.testing.assert_array_equal(action, [5.0, -5.0, -5.0])


@given(arrays(np.float32, 3, elements=st.floats(width=32)))
def test_a_single_precision_action_is_clipped_as_by_numpy_whatever_is_in_it(action):
    low, high = np.float32([-1.0, -0.5, 0.0]), np.float32([1.0, 0.5, np.inf])
    space = gym.spaces.Box(low, high)
    space.low.flags.writeable = space.high.flags.writeable = False  # as out of Ray's store
    clipped = action_distribution(space, STD).to_env(action)
    assert clipped.dtype == np.float32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        expected = action_distribution(space, STD).to_env(action)
    np.testing.assert_array_equal(expected, np.clip(action, low, high))
    np.testing.assert_array_equal(clipped, expected)
    np.testing.assert_array_equal(np.signbit(clipped), np.signbit(expected))


def test_an_action_of_another_length_than_the_space_is_refused():
    space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    for length in (0, 1, 9):
        with pytest.raises(ValueError, match="as many entries"):
            action_distribution(space, STD).to_env(np.zeros(length, np.float32))


def test_a_discrete_space_that_starts_elsewhere_is_shifted_for_the_environment():
    distribution = action_distribution(gym.spaces.Discrete(3, start=-1), STD)
    assert [distribution.to_env(np.int64(a)) for a in range(3)] == [-1, 0, 1]
