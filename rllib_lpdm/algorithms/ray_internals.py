"""The private parts of Ray that this package uses, each with its reason.

A new version of Ray may change them. Then ``tests/algorithms/test_internals.py`` fails and says
which, and this file is the one place to mend.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gymnasium as gym
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.tune.registry import ENV_CREATOR, _global_registry
from ray.util.debug import log_once

Result = TypeVar("Result")


def on_learners(
    group: LearnerGroup, function: Callable[[Any], Result], count: int | None = None
) -> Result:
    """Calls a function on the first ``count`` learners, or all, and returns the first's result.

    The public ``foreach_learner`` waits for all of them. Where one fails the others wait for it in
    vain, and only an error raised at once ends that.
    """
    if group.is_local:
        return function(group._learner)
    learners = group._workers[:count]
    results: list[Result] = ray.get([learner.apply.remote(function) for learner in learners])
    return results[0]


def registered_environment(name: Any) -> Callable[[Any], gym.Env] | None:
    """Returns what ``register_env`` was given for a name, or None; Ray has no public look-up."""
    if not _global_registry.contains(ENV_CREATOR, name):
        return None
    creator: Callable[[Any], gym.Env] = _global_registry.get(ENV_CREATOR, name)
    return creator


def described_network(config: AlgorithmConfig) -> bool:
    """Whether ``rl_module()`` was called; the public properties mix in the defaults."""
    return bool(config._model_config) or config._rl_module_spec is not None


def has_connectors(config: AlgorithmConfig) -> bool:
    """Whether any connector was asked for, which no public property says."""
    return bool(
        config._env_to_module_connector
        or config._module_to_env_connector
        or config._learner_connector
    )


def stay_silent_on_the_api_stack(config: AlgorithmConfig) -> None:
    """Marks RLlib's one-time advice to leave the new API stack as given; it is of no use here."""
    log_once(f"{config.algo_class.__name__}_on_new_api_stack")


@contextmanager
def seeded_without_compiler() -> Iterator[None]:
    """Context in which RLlib seeds torch without importing torch's compiler.

    ``torch.use_deterministic_algorithms`` tells the compiler too. It is not used here, and takes a
    second to import in every process.
    """
    original = torch.use_deterministic_algorithms

    def lighter(mode: bool) -> None:
        torch.set_deterministic_debug_mode("error" if mode else "default")

    torch.use_deterministic_algorithms = lighter  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms = original


class FolderlessAlgorithm(Algorithm):
    """RLlib's Algorithm, without an empty folder in the home for each one that is built."""

    def setup(self, config: Any) -> None:
        with seeded_without_compiler():
            super().setup(config)

    def _setup_logdir(self) -> None:
        if self._storage:
            super()._setup_logdir()
        else:
            self._logdir = tempfile.gettempdir()


class OneModuleLearner(TorchLearner):
    """RLlib's TorchLearner, without DistributedDataParallel, and with a name for its count."""

    def __init__(self, **kwargs: Any) -> None:
        with seeded_without_compiler():
            super().__init__(**kwargs)

    def _make_modules_ddp_if_necessary(self) -> None:
        """Does nothing: DistributedDataParallel averages autograd's gradients, which are unused."""

    @property
    def updates(self) -> int:
        """The number of updates, by which RLlib tells newer weights from older ones."""
        number: int = self._weights_seq_no
        return number

    @updates.setter
    def updates(self, number: int) -> None:
        self._weights_seq_no = number
