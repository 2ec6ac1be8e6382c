"""Updates against written-out autograd implementations of the two algorithms."""

import copy

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.ppo import clipped_loss
from rllib_lpdm.methods import METHODS
from tests.algorithms.runs import assert_same_weights, config, learner_of, weights
from tests.pairwise import pairwise

pytestmark = pytest.mark.usefixtures("ray_session")


def _learner(algorithm, environment="CartPole-v1", **settings):
    algo = config(algorithm, environment, **settings).build_algo()
    return algo, learner_of(algo)


def _episodes(algo, count=1):
    policy = algo.env_runner.module.numpy_policy()
    return list(algo.env_runner.rollout(policy, 0, range(count)).values())


def _given(module, outputs):
    if module.action_space.shape:
        return Independent(Normal(outputs, module.distribution.std), 1)
    return Categorical(logits=outputs)


def _reinforce_losses(module, episode, gamma):
    returns = np.zeros(len(episode))
    later = 0.0
    for t in reversed(range(len(episode))):
        later = episode.rewards[t] + gamma * later
        returns[t] = later
    weight = torch.tensor((returns - returns.mean()) / returns.std(), dtype=torch.float32)
    observations = torch.from_numpy(episode.observations[:-1])
    policy = _given(module, module.policy_head(module.features(observations)))
    log_prob = policy.log_prob(torch.from_numpy(episode.actions))
    if module.value_head is None:
        return -(weight * log_prob).mean(), torch.zeros(())
    values = module.values(module.features(observations))
    policy_loss = -((weight - values.detach()) * log_prob).mean()
    return policy_loss, (values - weight).square().mean()


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("algorithm", ["reinforce", "reinforce_baseline"])
def test_reinforce_with_bp_equals_autograd_through_the_whole_loss(algorithm, environment):
    algo, learner = _learner(algorithm, environment, method="bp", grad_clip=0.05)
    reference = copy.deepcopy(learner.actor_critic)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3)
    for episode in _episodes(algo, 5):
        metrics = learner.learn([episode], 0)
        policy_loss, value_loss = _reinforce_losses(reference, episode, gamma=0.99)
        optimizer.zero_grad()
        (policy_loss + 0.5 * value_loss).backward()
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        optimizer.step()
        assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
        assert metrics["policy_loss"] == pytest.approx(policy_loss.item(), rel=1e-4, abs=1e-6)
    for ours, theirs in zip(learner.actor_critic.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    algo.stop()


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [
        ("reinforce", "lpdm"),
        ("reinforce_baseline", "lpdm_guided"),
        ("reinforce_baseline", "frozen"),
        ("reinforce_baseline", "local_rl"),
        ("reinforce_baseline", "dfa"),
    ],
)
def test_heads_get_the_rl_loss_on_detached_features(algorithm, method):
    algo, learner = _learner(algorithm, method=method, grad_clip=0.05)
    episode = _episodes(algo)[0]
    reference = copy.deepcopy(learner.actor_critic)
    learner.learn([episode], 0)
    policy_loss, value_loss = _reinforce_losses(reference, episode, gamma=0.99)
    (policy_loss + value_loss).backward()
    for head in ("policy_head", "value_head"):
        ours, theirs = getattr(learner.actor_critic, head), getattr(reference, head)
        if theirs is None:
            continue
        optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        optimizer.step()
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-4, atol=1e-6)
    algo.stop()


@pytest.mark.parametrize("algorithm", ["reinforce", "reinforce_baseline", "ppo"])
def test_hidden_layers_do_not_feel_the_rl_loss(algorithm):
    """With other rewards the unguided hidden layers make the very same steps."""
    results = []
    for scale in (1.0, -7.0):
        algo, learner = _learner(algorithm, method="lpdm")
        episodes = [
            Episode(e.observations, e.actions, scale * np.arange(len(e)) ** 2.0, e.terminated)
            for e in _episodes(algo, 2 if algorithm == "ppo" else 1)
        ]
        learner.learn(episodes, 0)
        results.append(weights(algo))
        algo.stop()
    hidden = [name for name in results[0] if "encoder" in name or "hidden" in name]
    assert hidden
    for name in hidden:
        np.testing.assert_array_equal(results[0][name], results[1][name])
    assert any(not np.array_equal(results[0][k], results[1][k]) for k in results[0])


def test_frozen_hidden_layers_never_change():
    algo, learner = _learner("ppo", method="frozen")
    before = copy.deepcopy(learner.actor_critic.encoder.state_dict())
    learner.learn(_episodes(algo, 2), 0)
    for name, value in learner.actor_critic.encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    algo.stop()


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_ppo_gradients_equal_autograd_inside_and_outside_the_clips(environment):
    algo, learner = _learner("ppo", environment, kl_coeff=0.3)
    module, generator, count = learner.actor_critic, torch.Generator().manual_seed(0), 400
    size = module.distribution.size
    old_outputs, outputs = torch.randn(2, count, size, generator=generator) * 0.5
    old, new = _given(module, old_outputs), _given(module, outputs.requires_grad_(True))
    old_values, values, returns, advantages = torch.randn(4, count, generator=generator)
    values.requires_grad_(True)
    actions = old.sample()
    batch = {
        "actions": actions,
        "old_outputs": old_outputs,
        "old_log_probs": old.log_prob(actions),
        "old_values": old_values,
        "returns": returns,
        "advantages": advantages,
    }
    with torch.no_grad():
        ours = clipped_loss(
            batch, module.distribution, algo.config, outputs.detach(), values.detach()
        )

    ratio = torch.exp(new.log_prob(actions) - batch["old_log_probs"])
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    assert ((ratio < 0.8) | (ratio > 1.2)).float().mean() > 0.2
    policy_loss = -surrogate.mean()
    kl = kl_divergence(old, new).mean()
    clipped = old_values + (values - old_values).clamp(-0.2, 0.2)
    value_loss = torch.max((values - returns) ** 2, (clipped - returns) ** 2).mean()
    (policy_gradient,) = torch.autograd.grad(policy_loss + 0.3 * kl, outputs)
    (value_gradient,) = torch.autograd.grad(value_loss, values)
    torch.testing.assert_close(ours.policy, policy_gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.value, value_gradient, rtol=1e-4, atol=1e-6)
    for name, value in (("policy_loss", policy_loss), ("kl", kl), ("value_loss", value_loss)):
        torch.testing.assert_close(ours.terms[name].mean(), value.detach(), rtol=1e-4, atol=1e-6)
    algo.stop()


def _advantages(algo, learner, episodes):
    """Advantages of all steps as PPO's loss gets them, in the order of the steps."""
    taken = []
    learner.step = lambda batch: taken.append(batch) or {"skipped_steps": 0.0}
    learner.learn(episodes, 0)
    (batch,) = taken
    observations = np.concatenate([episode.observations[:-1] for episode in episodes])
    rows = {tuple(row): place for place, row in enumerate(batch.observations.tolist())}
    of_heads, part, *_ = batch.loss.args
    advantages = of_heads[-1]["advantages"][part]
    return [advantages[rows[tuple(row)]].item() for row in observations.tolist()]


ONE_STEP = {"method": "lpdm", "minibatch_size": 1000, "num_epochs": 1, "gamma": 0.5}


def _rewarded(*rewards, terminated=True, start=0):
    observations = np.arange(4.0 * start, 4.0 * (start + len(rewards) + 1), dtype=np.float32)
    actions = np.zeros(len(rewards), np.int64)
    return Episode(observations.reshape(-1, 4), actions, np.array(rewards), terminated)


def _indifferent(learner, value):
    """Makes the critic give every state a value."""
    learner.actor_critic.value_head.weight.data.zero_()
    learner.actor_critic.value_head.bias.data.fill_(value)


def _normalised(numbers):
    return (np.array(numbers) - np.mean(numbers)) / np.std(numbers)


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        # Returns 3, 4, 4 and 2 have mean 3.25 and variance 0.6875; 0.5 of the critic is worth w.
        ("return", lambda w: [3 - w, 4 - w, 4 - w, 2 - w]),
        ("td", lambda w: [1 + w / 2 - w, 2 + w / 2 - w, 4 - w, 2 - w]),
    ],
)
@pytest.mark.parametrize("normalization", ["batch", "running"])
def test_advantages_worked_out_by_hand(normalization, advantage, expected):
    settings = {"return_normalization": normalization, "advantage": advantage, **ONE_STEP}
    algo, learner = _learner("ppo", **settings)
    _indifferent(learner, 0.5)
    episodes = [_rewarded(1.0, 2.0, 4.0), _rewarded(2.0, start=4, terminated=False)]
    worth = 3.25 + 0.5 * 0.6875**0.5
    np.testing.assert_allclose(
        _advantages(algo, learner, episodes), _normalised(expected(worth)), atol=1e-5
    )
    algo.stop()


@pytest.mark.parametrize("terminated", [False, True])
def test_the_error_of_a_cut_off_step_goes_on_with_the_learned_value(terminated):
    settings = {"return_normalization": "running", "bootstrap_truncated": True, **ONE_STEP}
    algo, learner = _learner("ppo", advantage="td", **settings)
    _indifferent(learner, 0.5)
    learner.return_statistics.update(np.array([1.0, 5.0]))  # 0.5 is worth 3 + 0.5 * 2
    end = 0.0 if terminated else 4.0
    returns = [1.0, 5.0, 1.0 + 0.5 * (2.0 + 0.5 * end), 2.0 + 0.5 * end]
    worth = np.mean(returns) + 0.5 * np.std(returns)
    np.testing.assert_allclose(
        _advantages(algo, learner, [_rewarded(1.0, 2.0, terminated=terminated)]),
        _normalised([1.0 + 0.5 * worth - worth, 2.0 + 0.5 * end - worth]),
        atol=1e-5,
    )
    algo.stop()


@pytest.mark.parametrize("normalization", ["batch", "running"])
def test_temporal_difference_errors_are_those_of_the_critics_values_in_rewards(normalization):
    settings = ONE_STEP | {"gamma": 0.97, "return_normalization": normalization}
    algo, learner = _learner("ppo", advantage="td", **settings)
    module, episodes = learner.actor_critic, _episodes(algo, 3)
    returns, errors = [], []
    for episode in episodes:
        later = 0.0
        for t in reversed(range(len(episode))):
            returns.append(later := episode.rewards[t] + 0.97 * later)
    mean, std = np.mean(returns), np.std(returns)
    for episode in episodes:
        values = module.values(module.features(torch.from_numpy(episode.observations)))
        worth = mean + std * values.detach().numpy().astype(float)
        worth[-1] = 0.0  # also where a time limit ended the episode
        errors += list((episode.rewards + 0.97 * worth[1:] - worth[:-1]) / std)
    found = _advantages(algo, learner, episodes)
    np.testing.assert_allclose(found, _normalised(errors), atol=1e-4)
    algo.stop()


@pytest.mark.parametrize(
    ("method", "normalization"),
    [
        ("bp", "running"),
        ("lpdm", "batch"),
        ("lpdm_guided", "running"),
        ("local_rl", "batch"),
        ("dfa", "running"),
    ],
)
def test_a_non_finite_episode_is_skipped_and_counted(method, normalization):
    settings = {"method": method, "return_normalization": normalization}
    algo, learner = _learner("reinforce_baseline", **settings)
    episode = _episodes(algo)[0]
    observations = episode.observations.copy()
    observations[1, 0] = np.nan
    before = weights(algo)
    for broken in (
        Episode(observations, episode.actions, episode.rewards, True),
        Episode(episode.observations, episode.actions, episode.rewards * np.inf, True),
    ):
        statistics = copy.copy(learner.return_statistics)
        metrics = learner.learn([broken], 0)
        assert metrics["skipped_steps"] > 0
        if np.isinf(broken.rewards).any():
            assert learner.return_statistics == statistics
        else:
            assert_same_weights(weights(algo), before)
    assert all(np.isfinite(array).all() for array in weights(algo).values())
    algo.stop()


@pairwise(
    algorithm=["reinforce", "reinforce_baseline", "ppo"],
    method=["bp", "lpdm"],
    reward=[1e160, 1e300, np.inf, np.nan],
    normalization=[
        {},
        {"return_normalization": "running"},
        {"return_normalization": "running", "return_window": 2},
    ],
)
def test_returns_that_overflow_cost_the_steps_by_the_rl_loss_and_nothing_later(
    algorithm, method, reward, normalization
):
    algo, learner = _learner(algorithm, method=method, **normalization)
    other, spared = _learner(algorithm, method=method, **normalization)
    count = 2 if algorithm == "ppo" else 1
    first, second = _episodes(algo, 2 * count)[:count], _episodes(algo, 2 * count)[count:]
    rewards = first[0].rewards.copy()
    rewards[len(rewards) // 2] = reward
    broken = [Episode(first[0].observations, first[0].actions, rewards, True), *first[1:]]
    for each in (learner, spared):
        assert each.learn(first, 0)["skipped_steps"] == 0.0
    before = weights(algo)
    assert learner.learn(broken, 1)["skipped_steps"] > 0.0
    stays = [name for name in before if method == "bp" or "head" in name]
    after = weights(algo)
    assert_same_weights({name: after[name] for name in stays}, {n: before[n] for n in stays})
    assert learner.learn(second, 2)["skipped_steps"] == 0.0
    spared.learn(second, 2)
    assert learner.return_statistics == spared.return_statistics
    if method == "bp":
        assert_same_weights(weights(algo), weights(other))
    algo.stop()
    other.stop()


@pairwise(method=METHODS, algorithm=["reinforce", "reinforce_baseline", "ppo"], length=[1, 2])
def test_the_shortest_episodes_are_learned_from_without_harm(algorithm, method, length):
    algo, learner = _learner(algorithm, method=method)
    observations = np.arange(4.0 * (length + 1), dtype=np.float32).reshape(length + 1, 4)
    episode = Episode(observations, np.zeros(length, np.int64), np.ones(length), True)
    before = weights(algo)
    metrics = learner.learn([episode], 0)
    assert all(np.isfinite(list(metrics.values())))
    after = weights(algo)
    assert all(np.isfinite(array).all() for array in after.values())
    if length == 1 and method in ("lpdm", "lpdm_guided", "frozen"):  # others' layers hear the value
        untouched = [name for name in after if "value_head" not in name]
        assert_same_weights({n: after[n] for n in untouched}, {n: before[n] for n in untouched})
    algo.stop()


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [
        ("reinforce_baseline", "lpdm_guided"),
        ("ppo", "lpdm"),
        ("ppo", "frozen"),
        ("ppo", "local_rl"),
        ("ppo", "dfa"),
    ],
)
def test_an_update_without_backpropagation_builds_no_autograd_node(algorithm, method):
    assert _saved_tensors(algorithm, method) == 0


def test_an_update_by_backpropagation_does_build_autograd_nodes():
    assert _saved_tensors("ppo", "bp") > 0


def _saved_tensors(algorithm, method):
    algo, learner = _learner(algorithm, method=method)
    episodes = _episodes(algo, 2 if algorithm == "ppo" else 1)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        learner.learn(episodes, 0)
    algo.stop()
    return len(saved)


def test_hidden_layers_and_heads_have_learning_rates_of_their_own():
    algo, learner = _learner("ppo", method="lpdm", lr=1e-3, hidden_lr=1e-5)
    rates = {
        name: optimizer.param_groups[0]["lr"] for name, optimizer in learner.optimizers.items()
    }
    assert rates == {"policy_head": 1e-3, "value_head": 1e-3, "hidden_1": 1e-5, "hidden_2": 1e-5}
    algo.stop()
