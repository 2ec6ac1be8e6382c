"""Convolutions on images: what they see, that every process sees it, and that they learn."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from torch.nn import functional

from rllib_lpdm.algorithms.acting import TorchPolicy
from rllib_lpdm.algorithms.preparation import OBSERVATIONS
from rllib_lpdm.methods import METHODS
from tests.algorithms.lake import CONVOLUTIONS, LAKE, Lake, images
from tests.algorithms.runs import assert_same_weights, config, learner_of, train, weights

PPO = {"episodes_per_iteration": 2, **LAKE}


def module(space, **settings):
    spec = config(**(LAKE | settings)).get_default_rl_module_spec()
    spec.observation_space, spec.action_space = space, gym.spaces.Discrete(4)
    return spec.build()


def written_out(module, pixels, activate=torch.tanh):
    """(N, height, width, channels) in [0, 1] -> outputs of the policy head, in plain torch."""
    first, second, dense = module.encoder.layers
    x = activate(functional.conv2d(pixels.permute(0, 3, 1, 2), first.weight, first.bias))
    x = activate(functional.conv2d(x, second.weight, second.bias))
    return module.policy_head(activate(dense(x.flatten(1))))


# -- what the network sees ------------------------------------------------------------------------


def test_bytes_are_scaled_and_channels_come_first():
    network = module(gym.spaces.Box(0, 255, (3, 4, 2), np.uint8))
    pixels = torch.from_numpy(images(5, shape=(3, 4, 2)))
    with torch.no_grad():
        outputs = network.policy_head(network.features(pixels))
        torch.testing.assert_close(outputs, written_out(network, pixels / 255))
        flat = network.policy_head(network.features(pixels.flatten(1)))
    assert torch.equal(outputs, flat)


def test_images_of_floating_point_numbers_are_taken_as_they_are():
    network = module(gym.spaces.Box(0, 1, (3, 3, 3), np.float32))
    pixels = torch.from_numpy(images(5)) / 255
    with torch.no_grad():
        outputs = network.policy_head(network.features(pixels))
        torch.testing.assert_close(outputs, written_out(network, pixels))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (gym.spaces.Box(0, 1, (9,)), r"shape \(height, width, channels\).*leave conv_layers out"),
        (gym.spaces.Box(0, 255, (3, 3), np.uint8), r"shape \(height, width, channels\)"),
        (gym.spaces.Discrete(9), "only Box observations"),
        (gym.spaces.Box(0, 255, (2, 2, 3), np.uint8), "hidden layer 2: a 2 x 2 kernel"),
    ],
)
def test_observations_that_do_not_fit_the_convolutions_are_refused_with_the_reason(space, message):
    with pytest.raises(ValueError, match=message):
        module(space)


@pytest.mark.parametrize(
    ("conv_layers", "message"),
    [
        ([[8, 2]], "conv_layers.0"),
        ([[8, 0, 1]], "conv_layers.0.1"),
        ([[8, 2, 1.5]], "conv_layers.0.2"),
        ([[True, 2, 1]], "not true or false"),
        (8, "conv_layers"),
    ],
)
def test_convolutions_are_three_positive_numbers_each(conv_layers, message):
    with pytest.raises(ValueError, match=message):
        config(conv_layers=conv_layers)


@pytest.mark.parametrize("black_box", [None, "sign"])
def test_acting_sees_one_flat_image_as_training_sees_a_batch(black_box):
    network = module(gym.spaces.Box(0, 255, (3, 3, 3), np.uint8), black_box=black_box)
    policy = network.numpy_policy()
    assert isinstance(policy, TorchPolicy)
    rows = images(20).reshape(20, -1).astype(np.float32)
    with torch.no_grad():
        expected = network.policy_head(network.features(torch.from_numpy(rows))).numpy()
    acted = np.array([policy(row) for row in rows])
    np.testing.assert_allclose(acted, expected, rtol=0, atol=1e-6)


# -- runs, which test_reproducible shares out to remote runners -----------------------------------


def test_a_restored_checkpoint_goes_on_as_if_it_had_never_stopped(ray_session, tmp_path):
    algo = config("ppo", Lake, **PPO, black_box="quantise").build_algo()
    train(algo, 1)
    algo.save_to_path(tmp_path / "checkpoint")
    expected = train(algo, 1)
    restored = Algorithm.from_checkpoint(tmp_path / "checkpoint")
    assert restored.get_module().encoder.layers[0].kernel_size == (2, 2)
    assert train(restored, 1) == expected
    assert_same_weights(weights(restored), weights(algo))
    restored.stop()
    algo.stop()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_moves_what_it_trains_and_reports_every_layer(ray_session, method):
    algo = config("reinforce_baseline", Lake, method=method, **LAKE).build_algo()
    before = algo.numpy_weights()
    episodes = algo.env_runner.rollout(algo.get_module().numpy_policy(), 0, [0])
    episodes[0].rewards[-1] = 1.0  # one that reaches the goal, or nothing is to be learned
    metrics = learner_of(algo).learn(list(episodes.values()), 0)
    after = algo.numpy_weights()
    moved = {n for n in after if n.startswith("encoder") and (before[n] != after[n]).any()}
    layers = len(CONVOLUTIONS) + 1
    parts = {f"encoder.layers.{k}.{p}" for k in range(layers) for p in ("weight", "bias")}
    assert moved == (set() if method == "frozen" else parts)
    reported = {name for name in metrics if name.startswith("distance_loss")}
    numbered = {f"distance_loss_{number + 1}" for number in range(layers)}
    assert reported == (numbered if method.startswith("lpdm") else set())
    algo.stop()


def test_recorded_images_train_convolutions_before_the_run(ray_session, tmp_path):
    np.savez(tmp_path / "images.npz", **{OBSERVATIONS: images(64)})
    source = str(tmp_path / "images.npz")
    algo = config("ppo", Lake, method="frozen", pretrain_from=source, **PPO).build_algo()
    before = algo.numpy_weights()["encoder.layers.0.weight"]
    train(algo, 1)
    assert len(algo.pretraining_rows) == 10
    assert (algo.numpy_weights()["encoder.layers.0.weight"] != before).any()
    algo.stop()


# -- that they learn ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bp", "lpdm", "lpdm_guided"])
def test_the_goal_of_a_drawn_lake_is_found_in_most_episodes(ray_session, method):
    algo = config(
        "ppo",
        Lake,
        method=method,
        conv_layers=((16, 2, 1),),
        hidden_sizes=(64,),
        lr=1e-3 if method == "bp" else 1e-2,
        hidden_lr=1e-3,
        gamma=0.95,
        return_normalization="running",
        episodes_per_iteration=16,
        minibatch_size=64,
        num_epochs=4,
        iterations_per_report=40,
    ).build_algo()
    returns = np.array([row["episode_return"] for row in train(algo, 1)])
    assert returns[:3].mean() < 0.5
    assert returns[-10:].mean() > 0.8
    algo.stop()
