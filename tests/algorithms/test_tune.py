"""Tune's own idiom: what it has to choose stands in the config's own methods, or beside them.

A config that a Tuner trains stands in the README, which has a test.
"""

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from rllib_lpdm import ReinforceConfig
from rllib_lpdm.algorithms import Reinforce

SMALL = {"hidden_sizes": (8,), "iterations_per_report": 1}
METRIC = "env_runners/episode_return_mean"


def tuner(algorithm, space, folder):
    return tune.Tuner(
        algorithm,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            scheduler=ASHAScheduler(max_t=2, grace_period=1),
            max_concurrent_trials=2,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder), stop={"training_iteration": 2}, verbose=0
        ),
    )


def test_a_dict_of_what_tune_has_chosen_is_trained_as_well(ray_session):
    algo = Reinforce(config=SMALL | {"env": "CartPole-v1", "lr": 2e-3, "baseline": True, "seed": 3})
    assert (algo.config.seed, algo.config.lr) == (3, 2e-3)
    assert "value_loss" in algo.train()["learners"]["default_policy"]
    algo.stop()


@pytest.mark.slow
def test_a_trial_ends_as_done_when_its_iterations_are_spent(ray_session, tmp_path):
    space = SMALL | {"env": "CartPole-v1", "iterations": 3, "iterations_per_report": 2}
    run = tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    (result,) = tune.Tuner(Reinforce, param_space=space, run_config=run).fit()
    assert result.error is None
    assert (result.metrics["training_iteration"], result.metrics["iterations_done"]) == (2, 3)


@pytest.mark.slow
def test_a_trial_restored_with_spent_iterations_ends_as_done_with_its_last_result(
    ray_session, tmp_path
):
    space = SMALL | {"env": "CartPole-v1", "iterations": 3, "iterations_per_report": 2}
    run = tune.RunConfig(
        name="spent",
        storage_path=str(tmp_path),
        verbose=0,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
    )
    (before,) = tune.Tuner(Reinforce, param_space=space, run_config=run).fit()
    (state,) = (tmp_path / "spent").glob("experiment_state-*.json")
    text = state.read_text()  # as it stood before Tune noted that the trial had ended
    assert text.count("TERMINATED") == 1
    state.write_text(text.replace("TERMINATED", "RUNNING"))
    again = tune.Tuner.restore(str(tmp_path / "spent"), Reinforce, param_space=space)
    (after,) = again.fit()
    assert after.error is None
    assert after.metrics["iterations_done"] == before.metrics["iterations_done"] == 3
    assert after.metrics["env_runners"] == before.metrics["env_runners"]


def test_a_value_that_tune_chose_badly_is_refused_by_name(ray_session, tmp_path):
    settings = SMALL | {"env": "CartPole-v1", "lr": tune.grid_search([-1.0])}
    with pytest.raises(ValueError, match="lr: Input should be greater than 0"):
        tuner(Reinforce, settings, tmp_path).fit()


def test_what_is_given_beside_a_search_is_validated_at_once():
    with pytest.raises(ValueError, match="hidden_sizes"):
        ReinforceConfig().training(lr=tune.uniform(0, 1), hidden_sizes=(0,))
    with pytest.raises(ValueError, match="did you mean 'lpdm'"):
        ReinforceConfig().training(lr=tune.uniform(0, 1), method="lpmd")


@pytest.mark.parametrize("change", [{"lr": -1.0}, {"method": "lpmd"}, {"seed": -3}, {"seed": 0.5}])
def test_what_tune_has_chosen_is_validated_when_the_algorithm_is_built(change):
    config = ReinforceConfig().environment("CartPole-v1").debugging(seed=tune.randint(0, 9))
    config.training(lr=tune.loguniform(1e-4, 1e-2), method=tune.choice(["bp"]))
    chosen = {"seed": 3, "lr": 1e-3, "method": "bp"} | change
    with pytest.raises(ValueError, match=next(iter(change))):
        config.update_from_dict(chosen).validate()


def test_an_algorithm_is_not_built_while_tune_has_to_choose():
    config = ReinforceConfig().environment("CartPole-v1").training(lr=tune.choice([1e-3]))
    with pytest.raises(ValueError, match="lr is for Tune to choose"):
        config.validate()


def test_searched_entries_may_stand_within_a_list():
    rates = [tune.loguniform(1e-4, 1e-2), 1e-3]
    config = ReinforceConfig().training(hidden_sizes=(8, 8), hidden_lr=rates)
    assert config.hidden_lr is rates
