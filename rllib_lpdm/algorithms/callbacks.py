"""RLlib's episode callbacks, which need an episode object that training itself does without."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
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
        env: the environment of the episode.
        observation: what its reset returned.
        info: likewise.
    """

    def __init__(
        self, call: Callable[..., None], env: gym.Env, observation: Any, info: dict[str, Any]
    ) -> None:
        self._call = call
        self._env = env
        self._episode = SingleAgentEpisode(
            observation_space=env.observation_space, action_space=env.action_space
        )
        self._notify("on_episode_created")
        self._episode.add_env_reset(observation=observation, infos=info)
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
            observation=observation,
            action=action,
            reward=float(reward),
            infos=info,
            terminated=bool(terminated),
            truncated=bool(truncated),
        )
        self._notify("on_episode_step")

    def end(self) -> None:
        self._notify("on_episode_end")

    def _notify(self, name: str) -> None:
        self._call(name, episode=self._episode, env=self._env, env_index=0)
