import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_lpdm.algorithms.episodes import episodes_of_iteration
from rllib_lpdm.grid.cell import algorithm_config
from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.settings import PPOSettings, Settings

OF_PPO = PPOSettings.model_fields.keys() - Settings.model_fields.keys()


def cell(algorithm, **settings):
    return Cell("CartPole-v1", algorithm, "lpdm", 0, CellSettings(**settings))


@pytest.mark.parametrize("algorithm", ["reinforce", "reinforce_baseline"])
def test_a_cell_of_reinforce_holds_no_settings_of_ppo(algorithm):
    made = cell(algorithm, clip_param=0.3, lr=0.01, retries=7)
    assert not OF_PPO & made.settings.model_dump().keys()
    assert (made.settings.lr, made.settings.retries) == (0.01, 7)
    assert made == cell(algorithm, clip_param=0.9, lr=0.01, retries=7)


def test_a_cell_of_ppo_holds_its_settings():
    assert cell("ppo", clip_param=0.3).settings.clip_param == 0.3
    assert set(cell("ppo").settings.model_dump()) == set(CellSettings.model_fields)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_cell_can_be_sent_to_another_process(algorithm):
    made = cell(algorithm, num_epochs=7, lr=0.01)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_cell_is_trained_with_its_settings(algorithm):
    made = cell(algorithm, num_epochs=7, hidden_sizes=(8,), env_runners=0)
    config = algorithm_config(made)
    trained_with = config.settings().model_dump()
    assert trained_with.items() <= made.settings.model_dump().items()
    assert config.has_value_head == (algorithm != "reinforce")


def test_episodes_of_an_iteration_are_those_of_the_config():
    for algorithm, entry in ALGORITHMS.items():
        made = cell(algorithm, episodes_per_iteration=9)
        assert entry.episodes_per_iteration(made.settings) == (
            algorithm_config(made).episodes_per_iteration
        )


def test_the_most_steps_of_an_iteration_are_a_whole_round_after_one_short_of_enough():
    asked_for = {"episodes_per_iteration": 2, "steps_per_iteration": 50}
    assert ALGORITHMS["ppo"].most_steps(cell("ppo", **asked_for).settings, 9) == 49 + 2 * 9
    assert ALGORITHMS["reinforce"].most_steps(cell("reinforce", **asked_for).settings, 9) == 9


LIMIT = 9


@given(st.integers(1, 4), st.integers(0, 40), st.lists(st.integers(1, LIMIT), min_size=1))
def test_an_iteration_has_as_many_steps_as_asked_for_and_no_round_of_episodes_more(
    number, steps, lengths
):
    made = cell("ppo", episodes_per_iteration=number, steps_per_iteration=steps)
    played = dict(enumerate(map(range, itertools.islice(itertools.cycle(lengths), 200))))
    episodes = episodes_of_iteration(made.settings, lambda indices: {i: played[i] for i in indices})
    assert episodes == list(played.values())[: len(episodes)]
    assert len(episodes) % number == 0
    assert steps <= sum(map(len, episodes)) <= ALGORITHMS["ppo"].most_steps(made.settings, LIMIT)
    before = episodes[:-number]
    assert not before or sum(map(len, before)) < steps
