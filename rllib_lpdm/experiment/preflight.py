"""What must be right before any cell starts: environments that load and can be trained."""

import importlib.metadata
from collections.abc import Sequence

import gymnasium as gym

from rllib_lpdm.algorithms.distributions import action_distribution
from rllib_lpdm.algorithms.module import observation_size
from rllib_lpdm.algorithms.rollouts import create_environment
from rllib_lpdm.experiment.spec import ExperimentError


def check_environments(environments: Sequence[str]) -> None:
    """Makes, resets and closes each environment once.

    Raises:
        ExperimentError: lists every environment that cannot be trained here, with the reason and,
            where there is one, the way out.
    """
    faults = []
    for index, environment in enumerate(environments):
        try:
            _check(environment)
        except Exception as error:  # an environment may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            faults.append(f"environments[{index}]: {environment}: {reason}{_way_out(environment)}")
    if faults:
        raise ExperimentError("\n".join(faults))


def _check(environment: str) -> None:
    env = create_environment(environment, {})
    try:
        observation_size(env.observation_space)
        action_distribution(env.action_space, action_std=1.0)
        env.reset(seed=0)
    finally:
        env.close()


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
