"""The env runner, which plays whole episodes."""

import math
import time
from collections.abc import Collection, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from numpy.typing import NDArray
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils import metrics as metric_names
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.framework import get_device

from rllib_lpdm.algorithms.acting import Policy
from rllib_lpdm.algorithms.distributions import action_distribution
from rllib_lpdm.algorithms.episodes import EPISODE_CALLBACKS, Episode, EpisodeFollower
from rllib_lpdm.algorithms.ray_internals import registered_environment, seeded_without_compiler
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.local_learning.kernels import compile_kernels
from rllib_lpdm.schema.environments import EnvironmentMaker, check_single_agent

Array = NDArray[Any]

FIRST_CAPACITY = 128  # steps; buffers double when an episode outgrows them


class EpisodeRunner(EnvRunner, Checkpointable):
    """Plays whole episodes of one environment, each from its own random streams.

    Training calls :meth:`rollout`, RLlib's evaluation calls :meth:`sample`. The environment is
    reset with a seed before every episode. So an episode depends on its address (seed, iteration,
    index) and on the policy, and on nothing that ran before it in this process.
    """

    env: Any
    _vector: Any = None  # of this environment alone, for RLlib's callbacks
    num_env_steps_sampled_lifetime: int

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        with seeded_without_compiler():
            super().__init__(config=config, **kwargs)
        self.worker_index: int = kwargs.get("worker_index") or 0
        classes = self.config.callbacks_class
        classes = classes if isinstance(classes, (list, tuple)) else [classes]
        self._callbacks = [callbacks() for callbacks in classes]
        self._calls_back = any(map(self._uses_callback, EPISODE_CALLBACKS))
        self._finished: list[tuple[int, float, float]] = []  # steps, return, seconds
        self._evaluated = 0  # episodes of the present evaluation
        compile_kernels()
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Makes the environment that the config names: an id, a registered name, or a callable."""
        if self.env is not None:
            self.env.close()
        self.env = create_environment(
            self.config.env, self.config.env_config, self.worker_index, self.num_workers
        )
        self._distribution = action_distribution(self.env.action_space, self.config.action_std)
        if self._calls_back or self._uses_callback("on_environment_created"):
            self._vector = gym.vector.SyncVectorEnv([lambda: self.env])
        self._callback(
            "on_environment_created",
            env=self._vector,
            env_context=EnvContext(self.config.env_config, self.worker_index, self.num_workers),
        )

    def make_module(self) -> None:
        """Builds the torch module, whose policy :meth:`sample` plays."""
        spec = self.config.get_rl_module_spec(
            env=self.env, spaces=self.get_spaces(), inference_only=True
        )
        self.module = spec.build()
        self.module.to(get_device(self.config, self.config.num_gpus_per_env_runner))

    def rollout(self, policy: Policy, iteration: int, indices: Sequence[int]) -> dict[int, Episode]:
        """Plays the training episodes at the addresses (seed, iteration, index), by index."""
        with single_threaded():
            episodes = {
                index: self._run_episode(
                    policy, stream(self.config.seed, Purpose.EPISODE, iteration, index), True
                )
                for index in indices
            }
        self._callback("on_sample_end", samples=list(episodes.values()))
        return episodes

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: float | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = True,
    ) -> list[Episode]:
        """Plays whole episodes for RLlib's evaluation, every time from the same starts.

        Args:
            num_timesteps: number of steps to play at least.
            num_episodes: number of episodes to play; 1 if neither number is given.
            explore: whether to draw actions; None takes the most probable one, unless
                ``evaluation_config`` sets ``explore``.
            random_actions: not supported; every action comes from the policy.
            force_reset: whether to begin with the first start again; False goes on after the last
                call's episodes. An episode always begins with a reset.

        Raises:
            ValueError: both numbers were given, or random actions were asked for.
        """
        if num_timesteps is not None and num_episodes is not None:
            raise ValueError("give num_timesteps or num_episodes, not both")
        if random_actions:
            raise ValueError("EpisodeRunner.sample() has no random actions; step `env` for those")
        if explore is None:
            config = self.config
            explore = config.explore if config.in_evaluation else config.evaluation_explores
        if num_episodes is None:
            num_episodes = 1 if num_timesteps is None else math.inf
        enough_steps = math.inf if num_timesteps is None else num_timesteps
        policy = self.module.numpy_policy()
        episodes: list[Episode] = []
        steps = 0
        self._evaluated = 0 if force_reset else self._evaluated
        with single_threaded():
            while len(episodes) < num_episodes and steps < enough_steps:
                rng = stream(
                    self.config.seed, Purpose.EVALUATION, self.worker_index, self._evaluated
                )
                episodes.append(self._run_episode(policy, rng, explore))
                steps += len(episodes[-1])
                self._evaluated += 1
        self._callback("on_sample_end", samples=episodes)
        return episodes

    def _run_episode(self, policy: Policy, rng: np.random.Generator, explore: bool) -> Episode:
        started = time.perf_counter()
        step, distribution = self.env.step, self._distribution
        draw, mode, to_env = distribution.sample, distribution.mode, distribution.to_env
        observation, info = self.env.reset(seed=integer_seed(rng))
        shape = self.env.observation_space.shape
        check_shape(observation, shape)
        follower = (
            EpisodeFollower(self._episode_callback, self._vector, observation, info)
            if self._calls_back
            else None
        )

        capacity = FIRST_CAPACITY
        observations = np.empty((capacity + 1, np.size(observation)), np.float32)
        actions: Array = np.empty((capacity, *distribution.action_shape), distribution.action_dtype)
        noise = distribution.noise(rng, capacity)
        flat = len(shape) == 1
        observations[0] = observation if flat else np.ravel(observation)
        rewards: list[float] = []
        t = 0
        terminated = truncated = False
        while not (terminated or truncated):
            if t == capacity:
                observations = _doubled(observations, capacity)
                actions = _doubled(actions, capacity)
                noise = np.concatenate([noise, distribution.noise(rng, capacity)])
                capacity *= 2
            outputs = policy(observations[t])
            action = draw(outputs, noise[t]) if explore else mode(outputs)
            actions[t] = action
            observation, reward, terminated, truncated, info = step(to_env(action))
            if getattr(observation, "shape", None) != shape:  # faster than np.shape
                check_shape(observation, shape)
            t += 1
            observations[t] = observation if flat else np.ravel(observation)
            rewards.append(float(reward))
            if follower is not None:
                follower.step(observation, action, reward, terminated, truncated, info)
        if follower is not None:
            follower.end()

        episode = Episode(
            observations[: t + 1], actions[:t], np.array(rewards, np.float64), bool(terminated)
        )
        self._finished.append((t, episode.total_reward(), time.perf_counter() - started))
        return episode

    # -- the interface of RLlib's EnvRunner -------------------------------------------------------

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        spaces = (self.env.observation_space, self.env.action_space)
        places = (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES, DEFAULT_MODULE_ID)
        return dict.fromkeys(places, spaces)

    def get_metrics(self) -> Any:
        """Returns RLlib's usual metrics of the episodes since the last call, ready to be merged."""
        window = max(1, self.config.metrics_num_episodes_for_smoothing)
        for steps, total_reward, seconds in self._finished:
            for key, value, reduce in (
                (metric_names.EPISODE_LEN_MEAN, steps, "mean"),
                (metric_names.EPISODE_RETURN_MEAN, total_reward, "mean"),
                (metric_names.EPISODE_DURATION_SEC_MEAN, seconds, "mean"),
                (metric_names.EPISODE_LEN_MIN, steps, "min"),
                (metric_names.EPISODE_LEN_MAX, steps, "max"),
                (metric_names.EPISODE_RETURN_MIN, total_reward, "min"),
                (metric_names.EPISODE_RETURN_MAX, total_reward, "max"),
            ):
                self.metrics.log_value(key, value, reduce=reduce, window=window)
        total_steps = sum(steps for steps, _, _ in self._finished)
        self.num_env_steps_sampled_lifetime += total_steps
        for name, lifetime, number in (
            (
                metric_names.NUM_ENV_STEPS_SAMPLED,
                metric_names.NUM_ENV_STEPS_SAMPLED_LIFETIME,
                total_steps,
            ),
            (metric_names.NUM_EPISODES, metric_names.NUM_EPISODES_LIFETIME, len(self._finished)),
        ):
            # An evaluation beside the training plans its next call by the throughput of steps.
            throughput = lifetime == metric_names.NUM_ENV_STEPS_SAMPLED_LIFETIME
            self.metrics.log_value(name, number, reduce="sum")
            self.metrics.log_value(
                lifetime, number, reduce="lifetime_sum", with_throughput=throughput
            )
        self._finished.clear()
        return self.metrics.reduce()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        steps = self.num_env_steps_sampled_lifetime
        state: dict[str, Any] = {metric_names.NUM_ENV_STEPS_SAMPLED_LIFETIME: steps}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(**kwargs)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        self.num_env_steps_sampled_lifetime = state.get(
            metric_names.NUM_ENV_STEPS_SAMPLED_LIFETIME, self.num_env_steps_sampled_lifetime
        )
        if COMPONENT_RL_MODULE in state:
            weights = state[COMPONENT_RL_MODULE]
            if isinstance(weights, ray.ObjectRef):  # RLlib broadcasts them so
                weights = ray.get(weights)
            self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), {"config": self.config, "worker_index": self.worker_index}

    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        return [(COMPONENT_RL_MODULE, self.module)]

    def assert_healthy(self) -> None:
        assert self.env is not None
        assert self.module is not None

    def stop(self) -> None:
        self.env.close()

    # -- callbacks --------------------------------------------------------------------------------

    def _uses_callback(self, name: str) -> bool:
        overridden = any(
            getattr(type(callback), name) is not getattr(RLlibCallback, name)
            for callback in self._callbacks
        )
        return overridden or bool(getattr(self.config, f"callbacks_{name}", None))

    def _callback(self, name: str, **arguments: Any) -> None:
        if self._uses_callback(name):
            make_callback(
                name,
                callbacks_objects=self._callbacks,
                callbacks_functions=getattr(self.config, f"callbacks_{name}", None),
                kwargs={"env_runner": self, "metrics_logger": self.metrics, **arguments},
            )

    def _episode_callback(self, name: str, **arguments: Any) -> None:
        self._callback(name, rl_module=self.module, **arguments)


def create_environment(
    env: Any, env_config: dict[str, Any], worker_index: int = 0, num_workers: int = 0
) -> gym.Env:
    """Makes an environment from a maker, a callable, a name of Tune's, or a gymnasium id.

    Raises:
        ValueError: it has several agents, or a wrapper keeps statistics of its observations.
    """
    maker = EnvironmentMaker.of(env_config)
    if maker is not None:
        made = maker(**{k: value for k, value in env_config.items() if k != maker.KEY})
    elif creator := env if callable(env) else registered_environment(env):
        made = creator(EnvContext(env_config, worker_index, num_workers=num_workers))
    else:
        made = gym.make(env, disable_env_checker=True, **env_config)
    check_single_agent(made)
    return made


def check_shape(observation: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError for an observation whose shape is not the observation space's.

    Without this check numpy might broadcast it.
    """
    if np.shape(observation) != shape:
        raise ValueError(
            f"the environment gave an observation of shape {np.shape(observation)}, but its "
            f"observation_space declares {shape}"
        )


def _doubled(array: Array, capacity: int) -> Array:
    """Returns a copy with room for ``capacity`` more rows."""
    larger = np.empty((len(array) + capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
