"""RLlib's episode callbacks, which need an episode object that training itself does without."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

EPISODE_CALLBACKS = (
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
)


class EpisodeFollower:
    """Keeps the SingleAgentEpisode that RLlib's episode callbacks are given.

    Args:
        call: calls all callbacks of a name with the given keyword arguments.
        env: a vector of one, the environment of the episode.
        observation: what its reset returned.
        info: likewise.
    """

    def __init__(
        self,
        call: Callable[..., None],
        env: gym.vector.SyncVectorEnv,
        observation: Any,
        info: dict[str, Any],
    ) -> None:
        self._call = call
        self._env = env
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
    """The value with copies of its arrays and containers, which an environment may use again."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value
