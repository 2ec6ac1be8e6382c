"""Methods that are registered from outside the package."""

import pickle

import cloudpickle
import pytest

from rllib_lpdm import register_method
from rllib_lpdm.algorithms import ReinforceConfig
from rllib_lpdm.methods import METHODS
from rllib_lpdm.methods.frozen import Frozen
from rllib_lpdm.methods.matching import DistanceMatching


class Twice(DistanceMatching):
    """Two updates of every batch."""

    description = "L_d, twice"

    def update(self, batch):
        super().update(batch)
        return super().update(batch)


@pytest.fixture
def twice():
    register_method("twice", Twice)
    yield
    if "twice" in METHODS:
        del METHODS["twice"]


def rows(method):
    config = (
        ReinforceConfig()
        .environment("CartPole-v1")
        .training(method=method, hidden_sizes=(8,), iterations_per_report=2)
    )
    algo = config.debugging(seed=0).build_algo()
    algo.train()
    algo.stop()
    return [{k: v for k, v in row.items() if k != "seconds"} for row in algo.iteration_rows]


def test_a_registered_method_trains(twice):
    once, again = rows("lpdm")[0], rows("twice")[0]
    assert again["episode_return"] == once["episode_return"]
    assert again["distance_loss_1"] != once["distance_loss_1"]


def test_a_config_makes_it_known_to_the_process_that_it_reaches(twice):
    config = ReinforceConfig().environment("CartPole-v1").training(method="twice")
    sent = cloudpickle.dumps(config)
    del METHODS["twice"]
    assert pickle.loads(sent).method == "twice"
    assert METHODS["twice"] is Twice


def test_a_name_is_taken_once_and_a_class_may_be_registered_again(twice):
    register_method("twice", Twice)
    with pytest.raises(ValueError, match="another method is named 'twice'"):
        register_method("twice", Frozen)
    with pytest.raises(ValueError, match="'my-method' must be of letters"):
        register_method("my-method", Twice)
    assert METHODS["twice"] is Twice
