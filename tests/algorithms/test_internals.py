"""What is used of Ray without being public: a new version that changes it fails here first."""

import inspect

import gymnasium as gym
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import register_env

from rllib_lpdm import ReinforceConfig
from rllib_lpdm.algorithms import ray_internals as internals
from tests.algorithms.runs import config

PLACE = "see algorithms/internals.py"


def test_an_environments_creator_is_found_by_its_registered_name_and_no_other(ray_session):
    register_env("of-the-contract", lambda context: f"made of {context}")
    creator = internals.registered_environment("of-the-contract")
    assert creator is not None, f"Tune has changed its registry: {PLACE}"
    assert creator("this") == "made of this"
    assert internals.registered_environment("CartPole-v1") is None


@pytest.mark.parametrize(
    "call", [{"model_config": {"fcnet_hiddens": [4]}}, {"rl_module_spec": RLModuleSpec()}]
)
def test_a_network_that_was_described_is_told_apart_from_none(call):
    assert not internals.described_network(ReinforceConfig()), f"false alarm: {PLACE}"
    assert internals.described_network(ReinforceConfig().rl_module(**call)), (
        f"rl_module() keeps its arguments elsewhere: {PLACE}"
    )


@pytest.mark.parametrize("part", ["env_to_module", "module_to_env", "learner"])
def test_a_connector_that_was_asked_for_is_noticed(part):
    made = ReinforceConfig()
    assert not internals.has_connectors(made), f"false alarm: {PLACE}"
    method = made.training if part == "learner" else made.env_runners
    if part == "learner":
        made._learner_connector = FlattenObservations
    else:
        method(**{f"{part}_connector": lambda *arguments: FlattenObservations()})
    assert internals.has_connectors(made), f"the config keeps connectors elsewhere: {PLACE}"


@pytest.mark.parametrize(("cuda", "expected"), [(None, ["error"]), ("13.0", [])])
def test_a_seed_still_makes_torch_deterministic_by_the_function_that_is_replaced(
    cuda, expected, monkeypatch
):
    """With a CUDA build RLlib sets a variable of cuBLAS instead."""
    modes = []
    monkeypatch.setattr(torch, "set_deterministic_debug_mode", modes.append)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # restored afterwards
    config(seed=0).build_learner(env=gym.make("CartPole-v1"))
    assert modes == expected, f"RLlib seeds in another way: {PLACE}"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (LearnerGroup, ["_learner", "_workers"]),
        (Algorithm, ["_setup_logdir", "_logdir", "_storage"]),
        (TorchLearner, ["_make_modules_ddp_if_necessary", "_weights_seq_no"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_names_that_are_used_still_exist(owner, names):
    source = "".join(
        inspect.getsource(cls) for cls in owner.__mro__[:-1] if "ray" in cls.__module__
    )
    for name in names:
        assert name in source, f"{owner.__name__}.{name} is gone: {PLACE}"


def test_the_one_learner_is_reached_and_its_updates_are_counted(ray_session):
    algo = config().build_algo()
    learner = internals.on_learners(algo.learner_group, lambda learner: learner)
    assert learner.module is algo.learner_group._learner.module
    algo.train()
    state = learner.get_state()
    assert state["weights_seq_no"] == learner.updates == 3, (
        f"RLlib counts updates under another name: {PLACE}"
    )
    algo.stop()
