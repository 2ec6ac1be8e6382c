"""The learner that algorithms share: its network, optimizers, batches and checkpoints."""

import abc
import dataclasses
import functools
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from torch import Tensor

from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.module import ActorCriticModule, metric_function
from rllib_lpdm.algorithms.preparation import load_hidden_layers, pretrain
from rllib_lpdm.algorithms.ray_internals import OneModuleLearner
from rllib_lpdm.algorithms.returns import RunningStatistics, normalised_returns
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.local_learning import LayerAdam, LocalLoss, RunningMaximum
from rllib_lpdm.local_learning.kernels import compile_kernels
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, Shards, WholeBatch
from rllib_lpdm.methods import METHODS
from rllib_lpdm.methods.method import Batch, Method

Array = NDArray[Any]
RETURN_STATISTICS = "return_statistics"
TARGET_MAXIMUM = "target_maximum"


class LocalLearner(OneModuleLearner, abc.ABC):
    """The base of a learner, whose subclasses turn episodes into steps in :meth:`learn_from`.

    Several learners are all given all episodes, and each computes its own rows of every batch: see
    :class:`~rllib_lpdm.local_learning.shards.Shards`. They make the same steps and return the same
    metrics.

    Attributes:
        return_statistics: of all returns so far, or of the latest episodes in ``return_window``.
        target_maximum: of all targets so far.
        method: trains the network.
    """

    method: Method

    def build(self) -> None:
        self.return_statistics = RunningStatistics()
        self.target_maximum = RunningMaximum()
        super().build()
        if self.distributed:
            self.method.shards = Shards()
        compile_kernels()

    @functools.cached_property
    def actor_critic(self) -> ActorCriticModule:
        """The one module of this learner."""
        module: ActorCriticModule = self.module[DEFAULT_MODULE_ID]
        return module

    @property
    def optimizers(self) -> dict[str, LayerAdam]:
        """The method's, by name."""
        return self.method.optimizers

    @property
    def shards(self) -> WholeBatch:
        """The rows of a batch that this learner computes."""
        return self.method.shards

    @functools.cached_property
    def local_loss(self) -> LocalLoss:
        """The hidden layers' loss."""
        config = self.config
        return LocalLoss(
            metric=metric_function(config.metric),
            neighbours=config.neighbours,
            fraction=config.neighbour_fraction,
            propagate_error=config.propagate_error,
            scaling=config.scaling,
            original=config.guided_distances == "original",
            maximum=self.target_maximum if config.target_maximum == "running" else None,
        )

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Registers the method's optimizers with RLlib, which keeps them in checkpoints."""
        self.method = METHODS[self.config.method](
            self.module[module_id],
            self.config,
            self.local_loss,
            lambda index: stream(self.config.seed, Purpose.FEEDBACK, index=index),
            WHOLE_BATCH,
        )
        for name, optimizer in self.optimizers.items():
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=optimizer,
                params=optimizer.param_groups[0]["params"],
            )

    def update(self, batch: Any = None, *, training_data: Any = None, **kwargs: Any) -> Any:
        """Updates as RLlib calls for it; the algorithm itself calls :meth:`learn`.

        Raises:
            ValueError: the training data holds no list of :class:`Episode`, or there are several
                learners, to which RLlib deals different episodes.
        """
        if self.distributed:
            raise ValueError(
                "several learners need all episodes each: call train() instead of update()"
            )
        episodes = kwargs.get("episodes")
        if training_data is not None:
            training_data.solve_refs()
            episodes = training_data.episodes
        if not episodes:
            raise ValueError("LocalLearner.update() needs whole episodes of an EpisodeRunner")
        metrics = self.learn(episodes, iteration=self.updates)
        self.metrics.log_dict(metrics, key=DEFAULT_MODULE_ID, window=1)
        return self.metrics.reduce()

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        """Raises TypeError: no single loss reaches every layer."""
        raise TypeError(f"{type(self).__name__} has no scalar loss; call learn() or update()")

    def learn(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        """Makes one of the paper's iterations.

        Args:
            episodes: the iteration's episodes, in the order of their indices.
            iteration: from 0; addresses the random streams of shuffles and row subsets.

        Returns:
            Metrics of the update. PPO's are means over the minibatches of its last epoch, except
            ``skipped_steps``, which is the sum over all minibatches.
        """
        self.updates += 1
        with single_threaded():
            return self.learn_from(episodes, iteration)

    @abc.abstractmethod
    def learn_from(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        """Does the algorithm's part of :meth:`learn`, on one thread."""

    def prepare(self) -> list[dict[str, float]]:
        """Gives the hidden layers the start that the settings ask for (section 5).

        Returns each layer's mean loss and distance error, for every pass over recorded
        observations. Raises ValueError, which names the setting, for a file that does not fit.
        """
        config, module = self.config, self.actor_critic
        with single_threaded():
            load_hidden_layers(module, config.init_hidden_from, config.seed)
            return [*map(averaged, pretrain(module, config, self.local_loss, self.shards))]

    # -- the parts of an update -------------------------------------------------------------------

    def batch(self, episodes: Sequence[Episode]) -> dict[str, Tensor]:
        """Returns the observations, actions and normalised returns of all steps."""
        config = self.config
        ends = [self._final_value(e) for e in episodes] if config.bootstrap_truncated else None
        running = config.return_normalization == "running"
        statistics = self.return_statistics if running else None
        returns = normalised_returns(episodes, config.gamma, statistics, ends, config.return_window)
        return {
            "observations": self.tensor(np.concatenate([e.observations[:-1] for e in episodes])),
            "actions": self.tensor(np.concatenate([e.actions for e in episodes])),
            "returns": self.tensor(returns),
        }

    def rows(self, count: int, iteration: int, minibatch: int = 0) -> Tensor | None:
        """Draws the rows whose distances a minibatch matches; None for all."""
        limit = self.config.max_rows
        if limit is None or limit >= count:
            return None
        rng = stream(self.config.seed, Purpose.ROWS, iteration, minibatch)
        return self.tensor(rng.choice(count, size=limit, replace=False))

    def step(self, batch: Batch) -> dict[str, float]:
        """Makes one step of every layer that the method trains; returns its metrics."""
        with torch.inference_mode(not self.method.backpropagates):  # dispatches faster than no_grad
            return self.method.update(batch)

    def tensor(self, array: Array) -> Tensor:
        """Returns an array as a tensor on the learner's device."""
        return torch.from_numpy(array).to(self.device)

    def _final_value(self, episode: Episode) -> float:
        """Returns the learned value, in rewards, of an episode's end; 0 where it terminated."""
        if episode.terminated:
            return 0.0
        with torch.no_grad():
            end = self.tensor(episode.observations[-1:])
            value = self.actor_critic.values(self.actor_critic.features(end)).item()
        return self.return_statistics.mean + self.return_statistics.std * value

    # -- checkpoints ------------------------------------------------------------------------------

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        state[RETURN_STATISTICS] = dataclasses.asdict(self.return_statistics)
        state[TARGET_MAXIMUM] = self.target_maximum.value
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state, also one older than the current weights.

        The learning rates stay the config's. An optimizer that the state lacks, because another
        method wrote it, stays as it is.
        """
        if COMPONENT_RL_MODULE in state:
            self.updates = 0  # else RLlib would keep newer weights and say nothing
            self.module.set_state(state[COMPONENT_RL_MODULE])
        rates = {
            name: optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()
        }
        if COMPONENT_OPTIMIZER in state:  # RLlib would replace all of them if it did not know one
            own = {f"{DEFAULT_MODULE_ID}_{name}" for name in rates}
            known = {k: v for k, v in state[COMPONENT_OPTIMIZER].items() if k in own}
            state = {**state, COMPONENT_OPTIMIZER: known}
        super().set_state(state)
        for name, rate in rates.items():
            self.optimizers[name].param_groups[0]["lr"] = rate
        if RETURN_STATISTICS in state:
            self.return_statistics = RunningStatistics(**state[RETURN_STATISTICS])
        self.target_maximum.value = state.get(TARGET_MAXIMUM, self.target_maximum.value)


def averaged(
    rows: Sequence[dict[str, float]], summed: Collection[str] = ("skipped_steps",)
) -> dict[str, float]:
    """Returns the mean of each metric over the rows that have it, or the sum."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            values[name].append(value)
    return {
        name: sum(column) / (1 if name in summed else len(column))
        for name, column in values.items()
    }
