"""What must be right before any cell starts: environments, networks, files to start from."""

import contextlib
import functools
import importlib.metadata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rllib_lpdm.algorithms.distributions import action_distribution
from rllib_lpdm.algorithms.module import hidden_layers, observation_size
from rllib_lpdm.algorithms.preparation import (
    check_hidden_weights,
    check_observations,
    hidden_source,
    hidden_weights,
    recorded_observations,
)
from rllib_lpdm.algorithms.rollouts import check_shape, create_environment
from rllib_lpdm.local_learning import LocalMLP
from rllib_lpdm.schema.cell_settings import PATHS
from rllib_lpdm.schema.environments import EnvironmentMaker, EnvironmentSpec
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, one_line, shown

FAULTS_LISTED = 10
STEPS = 3  # that every environment takes
NUMBERS = "biuf"  # numpy's kinds of them


def check_environments(environments: Sequence[EnvironmentSpec]) -> None:
    """Makes, resets, steps and closes each environment once.

    Raises:
        UserError: lists every environment that cannot be trained here, with the reason and,
            where there is one, the way out.
    """
    faults = []
    for index, environment in enumerate(environments):
        try:
            _check(environment)
        except Exception as error:  # an environment may raise anything
            reason = f"{one_line(error)}{_way_out(environment.id)}"
            faults.append(f"environments[{index}]: {environment.label}: {reason}")
    if faults:
        raise UserError("\n".join(faults))


def endless(environments: Iterable[EnvironmentSpec]) -> list[str]:
    """Names of the environments whose episodes gymnasium does not end after some time."""
    return [one.label for one in environments if one.time_limit is None]


def flat_images(cells: Iterable[Cell]) -> list[str]:
    """Names of the environments whose images some cells would see as flat vectors."""
    makers = {cell.environment: cell.maker for cell in cells if not cell.settings.conv_layers}
    return [
        name for name, maker in makers.items() if len(_observation_space(maker).shape or ()) == 3
    ]


def check_networks(cells: Sequence[Cell]) -> None:
    """Fits convolutions to the environments, and to the networks the files that they start from.

    Networks are built without memory, and each file is read once.

    Args:
        cells: those that have not begun; one that has a checkpoint needs its files no more.

    Raises:
        UserError: lists the first cell of every fault: observations that are no images or
            smaller than a kernel; a file of ``init_hidden_from`` or ``pretrain_from`` that is
            missing, damaged or does not fit.
    """
    networks: dict[tuple[Any, ...], Cell] = {}
    weights: dict[str, dict[tuple[Any, ...], Cell]] = defaultdict(dict)
    recordings: dict[str, dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        settings = cell.settings
        key = (cell.environment, settings.hidden_sizes, settings.conv_layers)
        if settings.conv_layers:
            networks.setdefault(key, cell)
        if settings.init_hidden_from is not None:
            source = hidden_source(settings.init_hidden_from, cell.seed)
            weights[source].setdefault(key, cell)
        if settings.pretrain_from is not None:
            recordings[settings.pretrain_from].setdefault(cell.environment, cell)

    makers = {cell.environment: cell.maker for cell in cells}
    space = functools.cache(lambda environment: _observation_space(makers[environment]))
    faults = _Faults()
    for cell in networks.values():
        with faults.of(cell):
            _network(cell, space(cell.environment))
    for source, starting in weights.items():
        with faults.of(next(iter(starting.values()))):
            path, arrays = hidden_weights(source)
            for cell in starting.values():
                with faults.of(cell):
                    network = _network(cell, space(cell.environment))
                    check_hidden_weights(path, arrays, network.state_dict())
    for source, pretrained in recordings.items():
        with faults.of(next(iter(pretrained.values()))):
            width = recorded_observations(source).shape[1]
            for cell in pretrained.values():
                with faults.of(cell):
                    check_observations(source, width, space(cell.environment))
    faults.raise_any()


def starts_from_files(cells: Iterable[Cell]) -> bool:
    """Whether the settings of any cell name a file."""
    return any(getattr(cell.settings, name) is not None for cell in cells for name in PATHS)


class _Faults:
    """Faults of cells, each once, with the first cell that has it."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}

    @contextlib.contextmanager
    def of(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # an environment may raise anything
            self._cells.setdefault(one_line(error), cell)

    def raise_any(self) -> None:
        lines = [f"{cell.name}: {reason}" for reason, cell in self._cells.items()]
        if len(lines) > FAULTS_LISTED:
            lines[FAULTS_LISTED:] = [f"and {len(lines) - FAULTS_LISTED} more"]
        if lines:
            raise UserError("\n".join(lines))


def _network(cell: Cell, space: gym.Space) -> LocalMLP:
    """A cell's hidden layers over a space of observations; only their shapes are there."""
    with torch.device("meta"):
        return hidden_layers(space, cell.settings.hidden_sizes, cell.settings.conv_layers)


def _observation_space(maker: EnvironmentMaker) -> gym.Space:
    env = create_environment(maker.spec.id, maker.env_config)
    env.close()
    return env.observation_space


def _check(environment: EnvironmentSpec) -> None:
    env = create_environment(environment.id, EnvironmentMaker(environment).env_config)
    try:
        observation_size(env.observation_space)
        _play(env)
    except (TypeError, ValueError) as error:
        if "unpack" not in str(error):
            raise
        raise ValueError(
            f"{error}: reset() must return observation and info, step() observation, reward, "
            "terminated, truncated and info"
        ) from error
    finally:
        env.close()


def _play(env: gym.Env) -> None:
    """Plays a few steps with actions as training draws them, of a policy that knows nothing.

    Raises:
        ValueError: says what the environment gave that training cannot take.
    """
    distribution = action_distribution(env.action_space, action_std=1.0)
    observation, _ = env.reset(seed=0)
    _check_observation(observation, env.observation_space)
    for noise in distribution.noise(np.random.default_rng(0), STEPS):
        action = distribution.sample(np.zeros(distribution.size, np.float32), noise)
        observation, reward, terminated, truncated, _ = env.step(distribution.to_env(action))
        _check_observation(observation, env.observation_space)
        for name, value in {
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
        }.items():
            given = np.asarray(value)
            if given.shape != () or given.dtype.kind not in NUMBERS:
                raise ValueError(f"step() gave {shown(value)} as {name}, which must be one number")
        if terminated or truncated:
            break


def _check_observation(observation: Any, space: gym.Space) -> None:
    check_shape(observation, space.shape or ())
    given, declared = np.asarray(observation).dtype, np.dtype(space.dtype)
    if given.kind not in NUMBERS or (given.kind == "f" and declared.kind != "f"):
        raise ValueError(
            f"the environment gave an observation of type {given}, but its observation_space "
            f"declares {declared}"
        )


def _way_out(environment: str) -> str:
    entry_point = str(gym.registry[environment].entry_point)
    if "mujoco" not in entry_point:
        return ""
    try:
        version = importlib.metadata.version("mujoco")
    except importlib.metadata.PackageNotFoundError:
        return " (mujoco is not installed: pip install 'mujoco==2.3.7' on Python 3.11)"
    if environment == "Pusher-v4" and int(version.split(".")[0]) >= 3:
        return (
            f" (mujoco {version} is installed; Pusher-v4 needs mujoco 2.3.7, which has wheels for "
            "Python 3.11 and older: use Python 3.11, or Pusher-v5)"
        )
    return f" (mujoco {version} is installed)"
