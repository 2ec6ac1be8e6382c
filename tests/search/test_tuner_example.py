"""The examples of a search by Tune alone do what their page says."""

import json
import pickle
from pathlib import Path

import pytest
import tuner


@pytest.mark.slow
def test_tune_alone_searches_a_config_with_optuna_and_asha(ray_session, tmp_path):
    results = tuner.tuner(str(tmp_path), samples=2, reports=1, at_once=2).fit()
    assert not results.errors
    rates = {result.config["lr"] for result in results}
    assert len(rates) == 2
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert {result.config["grad_clip"] for result in results} <= {0.1, 0.5, 1.0}
    assert results.get_best_result().metrics["iterations_done"] == 25


@pytest.mark.slow
def test_a_population_goes_on_from_the_better_checkpoint_at_the_mutated_rate(ray_session, tmp_path):
    results = tuner.population(str(tmp_path), trials=2, reports=2).fit()
    assert not results.errors
    (log,) = tmp_path.glob("*/pbt_global.txt")  # Tune writes what it copied, a line each time
    for line in log.read_text().splitlines():
        *_, copied, mutated = json.loads(line)
        assert mutated["lr"] != copied["lr"]
    assert mutated["lr"] in {result.config["lr"] for result in results}
    for result in results:
        assert result.metrics["iterations_done"] == 50
        file = Path(result.checkpoint.path) / "learner_group/learner/state.pkl"
        saved = pickle.loads(file.read_bytes())["optimizer"].values()
        assert {each["state"]["param_groups"][0]["lr"] for each in saved} == {result.config["lr"]}
