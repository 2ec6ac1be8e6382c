"""Environment steps per second: of rollouts, of REINFORCE and of PPO."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig as StockPPOConfig

from benchmarks.measure import Row, compare
from rllib_lpdm.algorithms import PPOConfig, ReinforceConfig
from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.distributions import action_distribution
from rllib_lpdm.algorithms.rollouts import EpisodeRunner, create_environment
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream

RUNNER_TARGETS = {
    "CartPole-v1": 0.33,
    "Hopper-v4": 0.75,
    "Walker2d-v4": 0.75,
    "HalfCheetah-v4": 0.75,
    "Ant-v4": 0.75,
}
SMALL = {"hidden_sizes": (128, 128), "lr": 1e-3, "grad_clip": 0.1}
WIDE = {"hidden_sizes": (64, 128, 256), "lr": 5e-4, "grad_clip": 0.5}
WHOLE_BATCH = {"episodes_per_iteration": 1, "minibatch_size": 1_000_000}  # as paper.yaml has it
ACTION_STD = {"Ant-v4": 0.2}
STEPS_A_ROUND = 4000


def runner() -> list[Row]:
    """Rollouts of the first policy, against the same episodes replayed on the bare environment."""
    rows = []
    for environment, target in RUNNER_TARGETS.items():
        with _algorithm(ReinforceConfig(), environment, **_tuned_settings(environment)) as algo:
            rollout = _Rollouts(algo)
            rows.append(
                compare(
                    "runner",
                    environment,
                    rollout.measure,
                    rollout.replay,
                    compared_with="raw environment, same actions",
                    unit="steps/s",
                    at_least=target,
                )
            )
    return rows


def reinforce() -> list[Row]:
    """REINFORCE with ``lpdm`` in training, against replays of what its policy has come to play."""
    rows = []
    for environment in ("Hopper-v4", "Ant-v4"):
        settings = _tuned_settings(environment)
        with _algorithm(ReinforceConfig(), environment, method="lpdm", **settings) as algo:
            rollout = _Rollouts(algo)
            rows.append(
                compare(
                    "reinforce",
                    f"{environment} lpdm",
                    functools.partial(_training_speed, algo),
                    rollout.replay_afresh,
                    compared_with="raw environment, same policy",
                    unit="steps/s",
                    at_least=0.6,
                )
            )
    return rows


def ppo() -> list[Row]:
    """PPO in training against RLlib's own: 2048 steps, minibatches of 64, 10 epochs, 64 x 64."""
    rows = []
    targets = {
        ("CartPole-v1", "lpdm"): 10.0,
        ("CartPole-v1", "bp"): 6.0,
        ("Hopper-v4", "lpdm"): 7.0,
        ("Hopper-v4", "bp"): 5.0,
    }
    for (environment, method), target in targets.items():
        with (
            _algorithm(
                PPOConfig(),
                environment,
                method=method,
                hidden_sizes=(64, 64),
                lr=3e-4,
                minibatch_size=64,
                num_epochs=10,
                episodes_per_iteration=93,  # of about 22 steps each under the first policy
            ) as ours,
            _stock_ppo(environment) as stock,
        ):
            rows.append(
                compare(
                    "ppo",
                    f"{environment} {method}",
                    functools.partial(_training_speed, ours),
                    functools.partial(_stock_speed, stock),
                    compared_with="stock RLlib PPO",
                    unit="steps/s",
                    at_least=target,
                    rounds=3,
                )
            )
    return rows


def iterations() -> list[Row]:
    """Whole iterations, collecting and learning, by ``lpdm`` against ``bp``, for each step.

    Where episodes do not end early, it is the ratio of iterations.
    """
    rows = []
    cases: list[tuple[str, str, dict[str, Any], float | None]] = [
        ("reinforce", "HalfCheetah-v4", {}, 1.45),
        ("reinforce", "Ant-v4", {}, 1.1),
        ("reinforce", "Hopper-v4", {}, 1.1),
        ("ppo", "HalfCheetah-v4", {}, 1.15),
        ("ppo", "Hopper-v4", {}, 1.15),
        ("ppo", "HalfCheetah-v4", WHOLE_BATCH, None),
    ]
    for algorithm, environment, own, target in cases:
        settings = {**_tuned_settings(environment), "iterations_per_report": 1, **own}
        config = PPOConfig if algorithm == "ppo" else ReinforceConfig
        with (
            _algorithm(config(), environment, method="lpdm", **settings) as local,
            _algorithm(config(), environment, method="bp", **settings) as backpropagating,
        ):
            rows.append(
                compare(
                    "iterations",
                    f"{algorithm} {environment}{', whole batch' if own else ''}",
                    functools.partial(_microseconds_a_step, local),
                    functools.partial(_microseconds_a_step, backpropagating),
                    compared_with="bp, same settings",
                    unit="us/step",
                    at_most=target,
                )
            )
    return rows


def _microseconds_a_step(algo: LocalAlgorithm) -> float:
    return 1e6 / _training_speed(algo)


class _Rollouts:
    """Episodes of the algorithm's policy, and their replay on an environment of their own."""

    def __init__(self, algo: LocalAlgorithm) -> None:
        self._runner: EpisodeRunner = algo.env_runner
        self._seed = algo.config.seed
        self._env = create_environment(algo.config.env, {})
        distribution = action_distribution(self._env.action_space, algo.config.action_std)
        self._to_env: Callable[[Any], Any] = distribution.to_env
        self._next = 0
        self._recorded: list[tuple[int, list[Any]]] = []

    def measure(self) -> float:
        """Steps/s of the runner over at least STEPS_A_ROUND steps, which it records."""
        self._recorded = []
        policy = self._runner.module.numpy_policy()
        steps, seconds = 0, 0.0
        while steps < STEPS_A_ROUND:
            started = time.process_time()
            episode = self._runner.rollout(policy, 0, [self._next])[self._next]
            seconds += time.process_time() - started
            rng = stream(self._seed, Purpose.EPISODE, 0, self._next)
            actions = [self._to_env(action) for action in episode.actions]
            self._recorded.append((integer_seed(rng), actions))
            steps += len(episode)
            self._next += 1
        return steps / seconds

    def replay_afresh(self) -> float:
        """:meth:`replay` of new episodes of the policy as it is now."""
        self.measure()
        return self.replay()

    def replay(self) -> float:
        """Steps/s of the bare environment over the episodes recorded last."""
        steps = 0
        started = time.process_time()
        for seed, actions in self._recorded:
            self._env.reset(seed=seed)
            for action in actions:
                self._env.step(action)
            steps += len(actions)
        return steps / (time.process_time() - started)


def _training_speed(algo: LocalAlgorithm) -> float:
    """Steps/s of train() calls over at least STEPS_A_ROUND steps."""
    before = steps = algo.env_steps
    started = time.process_time()
    while steps - before < STEPS_A_ROUND:
        algo.train()
        steps = algo.env_steps
    return (steps - before) / (time.process_time() - started)


def _stock_speed(algo: Algorithm) -> float:
    started = time.process_time()
    algo.train()
    return algo.config.train_batch_size / (time.process_time() - started)


def _tuned_settings(environment: str) -> dict[str, Any]:
    """As ``tune_configs/tuned/by_environment.yaml`` has them."""
    sizes = SMALL if environment == "CartPole-v1" else WIDE
    return {**sizes, "action_std": ACTION_STD.get(environment, 0.5)}


@contextmanager
def _algorithm(config: Any, environment: str, **settings: Any) -> Iterator[LocalAlgorithm]:
    settings.setdefault("iterations_per_report", 25 if isinstance(config, ReinforceConfig) else 5)
    algo = config.environment(environment).training(**settings).debugging(seed=0).build_algo()
    try:
        yield algo
    finally:
        algo.stop()


@contextmanager
def _stock_ppo(environment: str) -> Iterator[Algorithm]:
    algo = (
        StockPPOConfig()
        .environment(environment)
        .env_runners(num_env_runners=0)
        .training(train_batch_size=2048, minibatch_size=64, num_epochs=10, lr=3e-4)
        .rl_module(model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": True})
        .debugging(seed=0)
        .build_algo()
    )
    try:
        yield algo
    finally:
        algo.stop()
