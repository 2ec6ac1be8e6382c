"""A restored learner goes on at the rates of its own config."""

import pytest
import torch

from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.methods import METHODS
from tests.algorithms.runs import config

LR, HIDDEN_LR = 1e-5, 3e-4


def _made(algorithm="ppo", **settings):
    made = config(algorithm, **settings)
    made.validate()
    runner = EpisodeRunner(config=made)
    learner = made.build_learner(env=runner.env)
    policy = learner.actor_critic.numpy_policy()
    return learner, list(runner.rollout(policy, 0, range(made.episodes_per_iteration)).values())


def _rates(learner):
    return {name: adam.param_groups[0]["lr"] for name, adam in learner.optimizers.items()}


def _state(learner):
    return {
        name: [value for entry in adam.state.values() for value in entry.values()]
        for name, adam in learner.optimizers.items()
    }


@pytest.mark.parametrize("algorithm", ["reinforce", "reinforce_baseline", "ppo"])
@pytest.mark.parametrize("method", METHODS)
def test_a_restored_learner_steps_at_its_own_rates_with_the_saved_momentum(
    algorithm, method, tmp_path
):
    saved, episodes = _made(algorithm, method=method)
    saved.learn(episodes, 0)
    restored, _ = _made(algorithm, method=method, lr=LR, hidden_lr=HIDDEN_LR)
    if algorithm == "ppo":
        restored.restore_from_path(saved.save_to_path(tmp_path))
    else:
        restored.set_state(saved.get_state())
    for name, rate in _rates(restored).items():
        assert rate == (HIDDEN_LR if name.startswith("hidden") else LR), name
        saved.optimizers[name].param_groups[0]["lr"] = rate
    torch.testing.assert_close(_state(restored), _state(saved), rtol=0, atol=0)
    assert restored.learn(episodes, 1) == saved.learn(episodes, 1)
    weights = restored.actor_critic.state_dict()
    torch.testing.assert_close(weights, saved.actor_critic.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("before", "after"), [("bp", "lpdm"), ("lpdm", "bp"), ("lpdm", "frozen")])
def test_after_another_method_only_what_both_have_goes_on_with_its_momentum(before, after):
    saved, episodes = _made(method=before)
    saved.learn(episodes, 0)
    restored, _ = _made(method=after, lr=LR, hidden_lr=HIDDEN_LR)
    restored.learn(episodes, 0)
    optimizers = dict(restored.optimizers)
    untouched = _state(restored)
    restored.set_state(saved.get_state())
    assert restored.optimizers == optimizers
    expected = {n: _state(saved).get(n, untouched[n]) for n in optimizers}
    torch.testing.assert_close(_state(restored), expected, rtol=0, atol=0)
    assert set(_rates(restored).values()) <= {LR, HIDDEN_LR}
    assert restored.learn(episodes, 1)["skipped_steps"] == 0
