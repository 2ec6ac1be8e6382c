"""The training loop: several of the paper's iterations in one ``train()``."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS
from ray.tune.result import RESULT_DUPLICATE

from rllib_lpdm.algorithms.acting import Policy
from rllib_lpdm.algorithms.episodes import Episode, episodes_of_iteration
from rllib_lpdm.algorithms.learner import averaged
from rllib_lpdm.algorithms.ray_internals import FolderlessAlgorithm, Result, on_learners

PROGRESS = "progress"
COUNTERS = ("iterations_done", "env_steps", "episodes")


class LocalAlgorithm(FolderlessAlgorithm):
    """An algorithm that collects whole episodes, updates, and repeats.

    It makes ``iterations_per_report`` iterations a ``train()``.

    Attributes:
        iteration_rows: one dict per iteration of the last ``train()``: iteration, env_steps (so
            far), episodes (so far), episode_return, episode_length (means over the iteration's
            episodes), seconds (of this iteration), then the update's metrics.
        pretraining_rows: with ``pretrain_from``, one dict per pass over the recorded observations
            before the first iteration: each layer's mean loss and distance error.
        iterations_done, env_steps, episodes: the paper's iterations, environment steps and
            episodes so far.
    """

    def setup(self, config: Any) -> None:
        self.iteration_rows: list[dict[str, float]] = []
        self.pretraining_rows: list[dict[str, float]] = []
        self.iterations_done = self.env_steps = self.episodes = 0
        super().setup(config)

    @property
    def finished(self) -> bool:
        """Whether the budget of ``iterations`` is spent."""
        limit = self.config.iterations
        return limit is not None and self.iterations_done >= limit

    def step(self) -> dict[str, Any]:
        """As RLlib's; the result tells Tune when the budget of ``iterations`` is spent.

        A trial that Tune restores with a spent budget ends as done and keeps its last result.
        """
        if self.finished and self._storage:
            return {RESULT_DUPLICATE: True, "done": True}
        return {**super().step(), "done": self.finished}

    def training_step(self) -> None:
        """Makes a fixed number of iterations, or fewer where the budget ends.

        Raises:
            RuntimeError: the budget of ``iterations`` is already spent.
            FloatingPointError: the weights are no longer finite.
        """
        if self.finished:
            raise RuntimeError(
                f"all {self.config.iterations} iterations are done; raise `iterations` to go on"
            )
        end = self.iterations_done + self.config.iterations_per_report
        if self.config.iterations is not None:
            end = min(end, self.config.iterations)
        self.iteration_rows = [self._iterate() for _ in range(self.iterations_done, end)]
        if not all(np.isfinite(weights).all() for weights in self.numpy_weights().values()):
            raise FloatingPointError(
                f"the weights are not finite after iteration {self.iterations_done}; lower lr"
            )
        self._report()

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Evaluates as RLlib does; raises ValueError if it should last as long as no train()."""
        if self.config.evaluation_duration == "auto" and parallel_train_future is None:
            raise ValueError(
                "evaluate(): evaluation_duration='auto' lasts as long as the train() beside it; "
                "give a number of episodes or timesteps to evaluate by hand"
            )
        return super().evaluate(parallel_train_future)

    def _iterate(self) -> dict[str, float]:
        started = time.perf_counter()
        if self.iterations_done == 0:
            self.pretraining_rows = self._on_learners(lambda learner: learner.prepare())
        episodes = self._collect()
        update = self._learn(episodes)
        self.env_steps += sum(len(episode) for episode in episodes)
        self.episodes += len(episodes)
        self.iterations_done += 1
        return {
            "iteration": self.iterations_done,
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "episode_return": sum(e.total_reward() for e in episodes) / len(episodes),
            "episode_length": sum(len(e) for e in episodes) / len(episodes),
            "seconds": time.perf_counter() - started,
            **update,
        }

    def _collect(self) -> list[Episode]:
        """Returns the iteration's episodes in the order of their indices."""
        policy = self._on_learners(lambda learner: learner.actor_critic.numpy_policy(), count=1)
        remote = self.env_runner_group.num_healthy_remote_env_runners() > 0
        play = functools.partial(self._play, policy, ray.put(policy) if remote else None)
        return episodes_of_iteration(self.config, play)

    def _play(self, policy: Policy, shared: Any, indices: Sequence[int]) -> dict[int, Episode]:
        """Deals episodes by index to the healthy remote runners, with the policy as Ray shares it.

        The local runner plays the episodes of a lost one: they are the same wherever played.
        """
        iteration = self.iterations_done
        collected: dict[int, Episode] = {}
        runners = self.env_runner_group.healthy_env_runner_ids()[: len(indices)]
        if runners:
            shares = [indices[k :: len(runners)] for k in range(len(runners))]
            results = self.env_runner_group.foreach_env_runner(
                "rollout",
                kwargs=[
                    {"policy": shared, "iteration": iteration, "indices": share} for share in shares
                ],
                remote_worker_ids=runners,
                local_env_runner=False,
            )
            for episodes in results:
                collected.update(episodes)
        missing = [index for index in indices if index not in collected]
        if missing:
            collected.update(self.env_runner.rollout(policy, iteration, missing))
        return collected

    def _learn(self, episodes: list[Episode]) -> dict[str, float]:
        """Makes the iteration's update; every learner gets all episodes, and computes its part."""
        iteration = self.iterations_done
        if self.learner_group.is_local:
            return self._on_learners(lambda learner: learner.learn(episodes, iteration))
        shared = ray.put(episodes)
        return self._on_learners(lambda learner: learner.learn(ray.get(shared), iteration))

    def _report(self) -> None:
        """Gives RLlib its metrics, and the runners the weights, once for all iterations."""
        results = [self.env_runner.get_metrics()]
        if self.env_runner_group.num_healthy_remote_env_runners():
            results += self.env_runner_group.foreach_env_runner(
                "get_metrics", local_env_runner=False
            )
        self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        for name, mean in averaged(self.iteration_rows, summed=()).items():
            if name not in ("iteration", "env_steps", "episodes"):
                self.metrics.log_value((LEARNER_RESULTS, DEFAULT_MODULE_ID, name), mean, window=1)
        self.metrics.log_value("iterations_done", self.iterations_done, window=1)
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, inference_only=True
        )

    def _on_learners(self, function: Callable[[Any], Result], count: int | None = None) -> Result:
        return on_learners(self.learner_group, function, count)

    def numpy_weights(self) -> dict[str, NDArray[Any]]:
        """Returns a copy of the module's parameters by name, each of its layer's shape."""
        state = self._on_learners(lambda learner: learner.actor_critic.state_dict(), count=1)
        return {name: value.cpu().numpy().copy() for name, value in state.items()}

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        state[PROGRESS] = {name: getattr(self, name) for name in COUNTERS}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.__dict__.update(state.get(PROGRESS, {}))
