"""Whole episodes, and the objects that RLlib's episode callbacks are given in their place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

Array = NDArray[Any]

EPISODE_CALLBACKS = [f"on_episode_{event}" for event in ("created", "start", "step", "end")]


@dataclass(frozen=True)
class Episode:
    """One whole episode of T steps.

    Attributes:
        observations: (T + 1, d) float32, flattened; the last row is where the episode ended.
        actions: (T,) int64 or (T, actions) float32, as drawn: not clipped.
        rewards: (T,) float64.
        terminated: whether the environment ended it, rather than a time limit.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: bool

    def __len__(self) -> int:
        return len(self.rewards)

    env_steps = agent_steps = __len__

    def total_reward(self) -> float:
        """Returns the undiscounted return, the paper's score of an episode."""
        return float(self.rewards.sum())


def episodes_of_iteration(
    config: Any, play: Callable[[Sequence[int]], dict[int, Episode]]
) -> list[Episode]:
    """Plays the episodes that one update learns from; returns them in the order of their indices.

    Args:
        config: says how many, and how many steps they have at least.
        play: returns the episodes with some indices.
    """
    episodes: list[Episode] = []
    while not episodes or sum(map(len, episodes)) < config.steps_per_iteration:
        indices = range(len(episodes), len(episodes) + config.episodes_per_iteration)
        played = play(indices)
        episodes += [played[index] for index in indices]
    return episodes


class EpisodeFollower:
    """Keeps the SingleAgentEpisode that RLlib's episode callbacks are given.

    It copies observations, actions and infos, because an environment may use their memory again.

    Args:
        call: calls all callbacks of a name with the given keyword arguments.
        env: a vector of one, the environment of the episode.
        observation, info: as its reset returned them.
    """

    def __init__(
        self,
        call: Callable[..., None],
        env: gym.vector.SyncVectorEnv,
        observation: Any,
        info: dict[str, Any],
    ) -> None:
        self._call, self._env = call, env
        self._episode = SingleAgentEpisode(
            observation_space=env.single_observation_space, action_space=env.single_action_space
        )
        self._notify("on_episode_created")
        self._episode.add_env_reset(observation=_copied(observation), infos=_copied(info))
        self._notify("on_episode_start")

    def step(
        self,
        observation: Any,
        action: Any,
        reward: Any,
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
    ) -> None:
        self._episode.add_env_step(
            observation=_copied(observation),
            action=_copied(action),
            reward=float(reward),
            infos=_copied(info),
            terminated=bool(terminated),
            truncated=bool(truncated),
        )
        self._notify("on_episode_step")

    def end(self) -> None:
        self._notify("on_episode_end")

    def _notify(self, name: str) -> None:
        self._call(name, episode=self._episode, env=self._env, env_index=0)


def _copied(value: Any) -> Any:
    """Returns the value with copies of its arrays and containers; other objects stay the same."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value
