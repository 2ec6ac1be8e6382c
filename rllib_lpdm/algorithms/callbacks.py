"""RLlib's episode callbacks, which need an episode object that training itself does without."""

from typing import TYPE_CHECKING, Any

from ray.rllib.env.single_agent_episode import SingleAgentEpisode

if TYPE_CHECKING:
    from rllib_lpdm.algorithms.rollouts import EpisodeRunner

EPISODE_CALLBACKS = (
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
)


class EpisodeFollower:
    """Keeps the SingleAgentEpisode that RLlib's episode callbacks are given."""

    def __init__(self, runner: "EpisodeRunner", observation: Any, info: dict[str, Any]) -> None:
        self._runner = runner
        self._episode = SingleAgentEpisode(
            observation_space=runner.env.observation_space, action_space=runner.env.action_space
        )
        self._call("on_episode_created")
        self._episode.add_env_reset(observation=observation, infos=info)
        self._call("on_episode_start")

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
        self._call("on_episode_step")

    def end(self) -> None:
        self._call("on_episode_end")

    def _call(self, name: str) -> None:
        self._runner._callback(
            name,
            episode=self._episode,
            env=self._runner.env,
            env_index=0,
            rl_module=self._runner.module,
        )
