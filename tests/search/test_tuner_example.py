"""The example of a search by Tune alone does what its page says."""

import pytest

from rllib_lpdm.examples import tuner


@pytest.mark.slow
def test_tune_alone_searches_a_config_with_optuna_and_asha(ray_session, tmp_path):
    results = tuner.tuner(str(tmp_path), samples=2, reports=1, at_once=2).fit()
    assert not results.errors
    rates = {result.config["lr"] for result in results}
    assert len(rates) == 2
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert {result.config["grad_clip"] for result in results} <= {0.1, 0.5, 1.0}
    assert results.get_best_result().metrics["iterations_done"] == 25
