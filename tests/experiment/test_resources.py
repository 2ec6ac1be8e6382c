"""What a trial reserves for its cell."""

import pytest

from rllib_lpdm.experiment.queue import CellQueue
from rllib_lpdm.experiment.resources import check_resources, resources
from rllib_lpdm.experiment.spec import Cell, CellSettings, ExperimentError


def cell(**settings):
    return Cell("CartPole-v1", "ppo", "lpdm", 0, CellSettings(**settings))


def test_a_trial_reserves_one_cpu_for_each_runner_and_each_learner():
    config = CellQueue([cell(cpus=2, env_runners=1, learners=2)]).suggest("trial")
    assert resources(config).bundles == [{"CPU": 2.0}, {"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}]


@pytest.mark.parametrize("name", ["cpus", "env_runners", "learners"])
def test_more_processes_than_the_machine_has_cpus_are_refused_by_the_settings_name(
    name, monkeypatch
):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    check_resources([cell()])
    with pytest.raises(ExperimentError, match=f"settings.{name}: "):
        check_resources([cell(**{name: 5})])
