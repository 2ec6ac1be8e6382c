"""The adapter for RLlib's old API stack trains hidden layers locally inside stock PPO."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.models import MODEL_DEFAULTS, ModelCatalog
from torch import Tensor

from rllib_lpdm.algorithms.model_v2 import LocalTorchModelV2
from rllib_lpdm.local_learning import distance_matching_gradient, target_distances

OBSERVATION_SIZE = 3
LOCAL_METHODS = ["lpdm", "lpdm_guided"]
METHODS = ["bp", *LOCAL_METHODS, "frozen"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in Ray's workers; with more, stock RLlib on a busy machine is many times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def old_stack_ppo(environment: str, method: str, **training: Any) -> PPOConfig:
    ModelCatalog.register_custom_model("local_model", LocalTorchModelV2)
    model = {
        "custom_model": "local_model",
        "custom_model_config": {"method": method, "hidden_sizes": (32, 32)},
    }
    return (
        PPOConfig()
        .api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        .environment(environment)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(model=model, **training)
        .debugging(seed=0, log_sys_usage=False)
    )


def make_model(method: str, **model_config: Any) -> LocalTorchModelV2:
    torch.manual_seed(0)
    return LocalTorchModelV2(
        gym.spaces.Box(-1.0, 1.0, (OBSERVATION_SIZE,)),
        gym.spaces.Discrete(2),
        2,
        {**MODEL_DEFAULTS, **model_config},
        "model",
        method=method,
        hidden_sizes=(8, 6, 4),
    )


def rl_loss(model: LocalTorchModelV2, observations: Tensor) -> Tensor:
    """Some loss that reaches both heads, as PPO's does."""
    logits, _ = model({"obs": observations})
    return logits.square().mean() + model.value_function().square().mean()


def observations(count: int = 16) -> Tensor:
    return torch.randn(count, OBSERVATION_SIZE, generator=torch.Generator().manual_seed(1))


def hidden_state(model: LocalTorchModelV2) -> dict[str, Tensor]:
    return {name: weights.clone() for name, weights in model.hidden.state_dict().items()}


def test_stock_ppo_learns_cartpole_while_layers_learn_locally(ray_session: None) -> None:
    config = old_stack_ppo(
        "CartPole-v1", "lpdm", lr=5e-3, train_batch_size=800, minibatch_size=128, num_epochs=8
    )
    algorithm = config.reporting(metrics_num_episodes_for_smoothing=10).build_algo()
    model = algorithm.get_policy().model
    before = hidden_state(model)
    results = [algorithm.train() for _ in range(7)]
    after = hidden_state(model)
    algorithm.stop()

    returns = [result["env_runners"]["episode_return_mean"] for result in results]
    assert returns[0] < 30
    assert max(returns[-3:]) > 3 * returns[0]
    assert all(not torch.equal(before[name], after[name]) for name in before)
    metrics = results[-1]["info"]["learner"]["default_policy"]["model"]
    assert metrics.keys() == {"distance_loss_1", "distance_loss_2"}


@pytest.mark.parametrize("method", METHODS)
def test_stock_ppo_trains_continuous_actions_one_iteration(ray_session: None, method: str) -> None:
    algorithm = old_stack_ppo(
        "Pendulum-v1", method, train_batch_size=200, minibatch_size=64, num_epochs=1
    ).build_algo()
    model = algorithm.get_policy().model
    before = hidden_state(model)
    result = algorithm.train()
    after = hidden_state(model)
    action = algorithm.compute_single_action(np.zeros(3, np.float32))
    algorithm.stop()

    assert model.num_outputs == 2
    assert np.isfinite(result["info"]["learner"]["default_policy"]["learner_stats"]["total_loss"])
    assert action.shape == (1,)
    changed = [not torch.equal(before[name], after[name]) for name in before]
    assert not any(changed) if method == "frozen" else all(changed)


@pytest.mark.parametrize("method", [*LOCAL_METHODS, "frozen"])
def test_rl_loss_reaches_the_heads_only(method: str) -> None:
    model = make_model(method)
    rl_loss(model, observations()).backward()
    assert all(parameter.grad is None for parameter in model.hidden.parameters())
    for head in (model.logits_head, model.value_head):
        assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_bp_sends_the_rl_loss_through_every_layer_and_adds_no_local_loss() -> None:
    model = make_model("bp")
    loss = [rl_loss(model, observations())]
    assert model.custom_loss(loss, {}) is loss
    loss[0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("method", LOCAL_METHODS)
def test_each_layer_gets_the_gradient_worked_out_by_hand(method: str) -> None:
    model, x = make_model(method), observations()
    (loss,) = model.custom_loss([rl_loss(model, x)], {})
    loss.backward()

    guide = model.value_function().detach() if method == "lpdm_guided" else None
    target = target_distances(x, guide)
    losses = {}
    with torch.no_grad():
        for number, layer in enumerate(model.hidden.layers, 1):
            y = torch.tanh(layer(x))
            losses[f"distance_loss_{number}"], gradient = distance_matching_gradient(y, target)
            gradient *= 1 - y**2
            torch.testing.assert_close(layer.weight.grad, gradient.t() @ x, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(layer.bias.grad, gradient.sum(0), rtol=1e-4, atol=1e-6)
            x = y
    assert model.metrics() == pytest.approx({name: loss.item() for name, loss in losses.items()})


@pytest.mark.parametrize("method", LOCAL_METHODS)
def test_one_optimizer_over_all_parameters_lowers_every_local_loss(method: str) -> None:
    model, history = make_model(method), []
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        (loss,) = model.custom_loss([rl_loss(model, observations())], {})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(model.metrics())
    for name, first in history[0].items():
        assert history[-1][name] < 0.9 * first


def test_guidance_changes_the_target_but_does_not_train_the_value_head() -> None:
    losses, gradients = {}, {}
    for method in LOCAL_METHODS:
        model = make_model(method)
        (loss,) = model.custom_loss([rl_loss(model, observations())], {})
        loss.backward()
        losses[method], gradients[method] = model.metrics(), model.value_head.weight.grad
    assert losses["lpdm"] != losses["lpdm_guided"]
    torch.testing.assert_close(gradients["lpdm"], gradients["lpdm_guided"])


def test_local_losses_join_a_single_loss_or_the_first_of_several() -> None:
    model = make_model("lpdm")
    loss = rl_loss(model, observations())
    first, second = model.custom_loss([loss, loss], {})
    assert second is loss
    assert first.item() == pytest.approx(loss.item() + sum(model.metrics().values()))
    assert model.custom_loss(loss, {}).item() == first.item()


@pytest.mark.parametrize("count", [1, 32])
def test_batch_without_distances_leaves_hidden_layers_alone(count: int) -> None:
    model = make_model("lpdm_guided")
    (loss,) = model.custom_loss([rl_loss(model, torch.zeros(count, OBSERVATION_SIZE))], {})
    loss.backward()
    assert set(model.metrics().values()) == {0.0}
    assert all(not parameter.grad.any() for parameter in model.hidden.parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"method": "lpmd"}, "unknown method 'lpmd', did you mean 'lpdm'"),
        ({"method": "sgd"}, "choose from bp, frozen, lpdm, lpdm_guided"),
        ({"method": "dfa"}, "not for RLlib's old API stack; use rllib_lpdm.PPOConfig"),
        ({"hiden_sizes": (8,)}, "unknown setting 'hiden_sizes', did you mean 'hidden_sizes'"),
        ({"gamma": 0.9}, "choose from hidden_sizes, method"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes.1: .* greater than or equal to 1, got 0"),
    ],
)
def test_bad_custom_model_config_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"custom_model_config: .*{message}"):
        ModelCatalog.get_model_v2(
            gym.spaces.Box(-1.0, 1.0, (OBSERVATION_SIZE,)),
            gym.spaces.Discrete(2),
            2,
            {
                **MODEL_DEFAULTS,
                "custom_model": LocalTorchModelV2,
                "custom_model_config": config,
            },
            framework="torch",
        )


def test_observations_that_are_not_arrays_are_refused() -> None:
    space = gym.spaces.Discrete(3)
    with pytest.raises(ValueError, match="unsupported observation space Discrete"):
        LocalTorchModelV2(space, space, 3, MODEL_DEFAULTS, "model")


@pytest.mark.parametrize("option", ["use_lstm", "use_attention", "free_log_std"])
def test_unsupported_model_option_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"does not support {option}"):
        make_model("lpdm", **{option: True})
