"""The names that ``rllib_lpdm`` exports."""

import pickle

import numpy as np
import pytest
import yaml

import rllib_lpdm
from rllib_lpdm import (
    ReinforceConfig,
    analyse,
    evaluate,
    load_experiment,
    load_iterations,
    register_algorithm,
    run_experiment,
)
from rllib_lpdm.results.published import read_published
from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.settings import Settings, setting
from tests.test_docs import ROOT

FILE = {
    "environments": ["CartPole-v1"],
    "algorithms": ["reinforce"],
    "methods": ["lpdm"],
    "seeds": [7],
    "in_process": True,
    "settings": {"iterations": 3, "hidden_sizes": [4], "iterations_per_report": 3},
}


def test_every_public_name_is_there_and_others_are_not():
    assert all(getattr(rllib_lpdm, name) is not None for name in rllib_lpdm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rllib_lpdm.nonsense


def test_an_experiment_is_trained_evaluated_and_read_from_python(tmp_path, ray_session):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(FILE))
    outcome = run_experiment(load_experiment(file), tmp_path)
    assert outcome.finished == ["CartPole-v1_reinforce_lpdm_s7"]
    assert not outcome.failed
    table = load_iterations(str(outcome.folder))
    assert table[["method", "seed", "iteration"]].values.tolist() == [
        ["lpdm", 7, k] for k in (1, 2, 3)
    ]
    assert len(evaluate(outcome.folder / outcome.finished[0], episodes=2).returns) == 2
    assert [cell.run.cell for cell in analyse(outcome.folder).results.cells] == outcome.finished


def test_iterations_of_a_published_folder_are_those_of_its_cells():
    folder = ROOT / "published" / "grid"
    table, cells = load_iterations(folder), read_published(folder)
    assert len(table) == sum(len(columns["episode_return"]) for _, columns in cells.values())
    run, columns = cells["Pusher-v4_reinforce_frozen_s3"]
    mine = table[
        (table.environment == run.environment)
        & (table.algorithm == run.algorithm)
        & (table.method == run.method)
        & (table.seed == run.seed)
    ]
    np.testing.assert_array_equal(mine.episode_return, columns["episode_return"])
    assert mine.iteration.tolist() == list(range(1, len(mine) + 1))


def test_iterations_of_an_empty_folder_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no cell that has finished an iteration"):
        load_iterations(tmp_path)


class WarmSettings(Settings):
    warm: int = setting(3, "An added setting.", ge=1)


class WarmConfig(ReinforceConfig):
    settings_class = WarmSettings


@pytest.fixture
def warm():
    register_algorithm("warm", WarmConfig, baseline=True)
    yield
    del ALGORITHMS["warm"]


def test_settings_of_a_registered_algorithm_are_its_cells_alone(warm, tmp_path):
    file = tmp_path / "warm.yaml"
    added = {"algorithms": ["warm", "reinforce"], "settings": FILE["settings"] | {"warm": 5}}
    file.write_text(yaml.safe_dump(FILE | added))
    own, other = load_experiment(file).cells()
    assert own.settings.warm == 5
    assert not hasattr(other.settings, "warm")
    again = pickle.loads(pickle.dumps(own)).settings
    assert again == own.settings
    assert ALGORITHMS["warm"].config().has_value_head
    file.write_text(yaml.safe_dump(FILE | added | {"settings": FILE["settings"] | {"warm": 0}}))
    with pytest.raises(UserError, match=r"settings\.warm: .*greater than or equal to 1"):
        load_experiment(file)


def test_settings_of_an_algorithm_that_is_not_registered_are_unknown(tmp_path):
    file = tmp_path / "warm.yaml"
    file.write_text(yaml.safe_dump(FILE | {"settings": FILE["settings"] | {"warm": 5}}))
    with pytest.raises(UserError, match="unknown setting 'warm'"):
        load_experiment(file)
