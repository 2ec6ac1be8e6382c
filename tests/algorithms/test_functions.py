"""Functions of the user's own by dotted names, and black boxes between hidden layers."""

import importlib
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from rllib_lpdm.algorithms.module import black_box_function, metric_function
from rllib_lpdm.local_learning import ACTIVATIONS, quantise, sign
from tests.algorithms.runs import config, learner_of, train

HERE = "tests.algorithms.test_functions"
OWN = f"{HERE}.coarse"
NUMBER = 3


def coarse(outputs):
    """-1, 0 or 1 by a look-up table."""
    edges = torch.tensor([-0.1, 0.1])
    return torch.tensor([-1.0, 0.0, 1.0])[torch.bucketize(outputs, edges)]


def largest_difference(rows):
    """A metric of one's own: (N, d) -> (P,) largest difference of any entry."""
    return torch.pdist(rows, p=float("inf"))


# -- names ----------------------------------------------------------------------------------------


def test_a_name_or_a_dotted_name_gives_the_function():
    assert black_box_function(None) is None
    assert black_box_function("quantise") is quantise
    assert black_box_function("sign") is sign
    assert metric_function("gram") == "gram"
    module = importlib.import_module(HERE)
    assert black_box_function(OWN) is module.coarse
    assert metric_function(f"{HERE}.largest_difference") is module.largest_difference


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_package.function", "No module named 'no_such_package'"),
        (f"{HERE}.no_such_function", "has no attribute 'no_such_function'"),
        (f"{HERE}.NUMBER", "is no function"),
    ],
)
@pytest.mark.parametrize("setting", ["metric", "black_box"])
def test_a_dotted_name_that_leads_nowhere_is_refused_with_its_setting(setting, name, reason):
    with pytest.raises(ValueError, match=reason) as error:
        config(**{setting: name}).validate()
    assert str(error.value).startswith(f"{setting} {name!r}")


@pytest.mark.parametrize("setting", ["metric", "black_box"])
@pytest.mark.parametrize("name", ["quantize me", "os.path; import x", ".sign", "a..b", ""])
def test_what_is_no_name_at_all_is_refused_and_nothing_is_imported(setting, name):
    before = set(sys.modules)
    with pytest.raises(ValueError, match=f"unknown {setting}"):
        config(**{setting: name})
    assert set(sys.modules) == before


def test_a_near_miss_is_offered_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'quantise'"):
        config(black_box="quantize")


def test_backpropagation_through_a_black_box_is_refused_with_the_reason_and_the_way_out():
    for black_box in ("quantise", "sign", OWN):
        with pytest.raises(
            ValueError, match=r"no derivative.*use lpdm, lpdm_guided, local_rl, dfa or frozen"
        ):
            config(method="bp", black_box=black_box)


def test_a_method_that_is_set_after_the_black_box_is_refused_too():
    with pytest.raises(ValueError, match="no derivative"):
        config(black_box="sign").training(method="bp")


# -- acting ---------------------------------------------------------------------------------------


def _module(**settings):
    spec = config(hidden_sizes=(64, 128, 256), **settings).get_default_rl_module_spec()
    spec.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
    spec.action_space = gym.spaces.Discrete(2)
    return spec.build()


@pytest.mark.parametrize("black_box", [None, "quantise", "sign", OWN])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_numpy_policy_equals_torch_to_1e_6(activation, black_box):
    module = _module(activation=activation, black_box=black_box)
    policy = module.numpy_policy()
    # Far out, so that activations leave their linear part; gelu then underflows to either zero,
    # which a black box tells apart.
    spread = 1.0 if black_box else 20.0
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * spread
    with torch.no_grad():
        expected = module.policy_head(module.features(rows)).numpy()
    acted = np.array([policy(row) for row in rows.numpy()])
    scale = max(1.0, np.abs(expected).max())
    apart = np.abs(acted - expected).max(1) > 1e-6 * scale
    # A last bit decides on which side of a black box's step an output falls.
    assert apart.sum() <= (0 if black_box is None else 1)


def test_the_numpy_policy_does_not_change_the_observation_nor_the_weights():
    module = _module(activation="relu", black_box="sign")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    observation = np.array([-1, 2, -3, 4], np.float32)
    policy = module.numpy_policy()
    first = policy(observation).copy()
    np.testing.assert_array_equal(observation, [-1, 2, -3, 4])
    np.testing.assert_array_equal(policy(observation), first)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


# -- training -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("method", "black_box"), [("lpdm", "quantise"), ("lpdm_guided", OWN), ("frozen", "sign")]
)
def test_layers_before_a_black_box_are_trained_by_their_local_losses(method, black_box):
    algo = config("reinforce_baseline", method=method, black_box=black_box).build_algo()
    before = algo.numpy_weights()
    rows = train(algo, 1)
    after = algo.numpy_weights()
    moved = {name for name in after if not np.array_equal(before[name], after[name])}
    heads = {f"{head}_head.{part}" for head in ("policy", "value") for part in ("weight", "bias")}
    assert moved == (heads if method == "frozen" else set(after))
    assert all(row["skipped_steps"] == 0 for row in rows)
    algo.stop()


@pytest.mark.usefixtures("ray_session")
def test_evaluation_sees_the_black_box_and_the_activation():
    algo = config(black_box="sign", activation="elu").build_algo()
    train(algo, 1)
    (episode,) = algo.env_runner.sample(num_episodes=1, explore=False)
    module = learner_of(algo).actor_critic
    with torch.no_grad():
        observations = torch.from_numpy(episode.observations[:-1])
        hidden = torch.nn.functional.elu(module.encoder.layers[0](observations))
        features = torch.nn.functional.elu(module.encoder.layers[1](torch.sign(hidden)))
        actions = module.policy_head(features).argmax(1)
    np.testing.assert_array_equal(actions.numpy(), episode.actions)
    algo.stop()
