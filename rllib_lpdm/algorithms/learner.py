"""One iteration's update: hidden layers by their local losses, heads by the RL loss."""

import abc
import dataclasses
import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, nn

from rllib_lpdm.algorithms.episodes import (
    Episode,
    RunningStatistics,
    discounted_returns,
    normalised,
)
from rllib_lpdm.algorithms.functions import metric_function
from rllib_lpdm.algorithms.methods import METHODS
from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.algorithms.preparation import (
    check_hidden_weights,
    check_observations,
    hidden_source,
    hidden_weights,
    recorded_observations,
)
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.local_learning import LayerAdam, LayerStep, clipped_step, step_linear
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, Shards, WholeBatch

Array = NDArray[Any]
RETURN_STATISTICS = "return_statistics"


@dataclasses.dataclass(frozen=True)
class OutputGradients:
    """A loss, seen from the network's two outputs.

    Attributes:
        policy: (N, size) gradient with respect to the policy head's outputs.
        value: (N,) gradient of the unweighted value loss; None without a value head.
        terms: named (N,) terms whose means are reported.
    """

    policy: Tensor
    value: Tensor | None
    terms: dict[str, Tensor]


class LocalLearner(TorchLearner, abc.ABC):
    """What REINFORCE and PPO share: optimizers, the update of a batch, returns, checkpoints.

    Subclasses say how an iteration's episodes become batches and which loss a batch has.

    Several learners are all given all episodes, and each computes its own rows of every batch: see
    :class:`~rllib_lpdm.local_learning.shards.Shards`. They make the same steps and return the same
    metrics.
    """

    def build(self) -> None:
        super().build()
        self.return_statistics = RunningStatistics()
        self._shards: WholeBatch = Shards() if self.distributed else WHOLE_BATCH

    def _make_modules_ddp_if_necessary(self) -> None:
        """Nothing: DistributedDataParallel averages gradients of autograd, which are not used."""

    @functools.cached_property
    def actor_critic(self) -> ActorCriticModule:
        """The one module of this learner."""
        module: ActorCriticModule = self.module[DEFAULT_MODULE_ID]
        return module

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam per layer; with ``bp`` one for all; none for frozen layers."""
        config = self.config
        module: ActorCriticModule = self._module[module_id]
        heads = {"policy_head": module.policy_head, "value_head": module.value_head}
        parts: dict[str, nn.Module] = {n: head for n, head in heads.items() if head is not None}
        rates = dict.fromkeys(parts, config.lr)
        method = METHODS[config.method]
        if method.backpropagates:
            parts, rates = {"network": module}, {"network": config.lr}
        elif method.trains_hidden:
            layer_rates = config.settings().hidden_rates()
            layers = zip(module.encoder.layers, layer_rates, strict=True)
            for number, (layer, rate) in enumerate(layers, 1):
                parts[f"hidden_{number}"], rates[f"hidden_{number}"] = layer, rate
        for name, part in parts.items():
            parameters = list(part.parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=LayerAdam(parameters, lr=rates[name]),
                params=parameters,
            )

    def update(self, batch: Any = None, *, training_data: Any = None, **kwargs: Any) -> Any:
        """RLlib's entry point; the algorithm itself calls :meth:`learn`.

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
        metrics = self.learn(episodes, iteration=self._weights_seq_no)
        self.metrics.log_dict(metrics, key=DEFAULT_MODULE_ID, window=1)
        return self.metrics.reduce()

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        """Not part of this update: there is no one loss that reaches every layer.

        Raises:
            TypeError: always; RLlib's own update would be needed to call it.
        """
        raise TypeError(f"{type(self).__name__} has no scalar loss; call learn() or update()")

    def learn(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        """One of the paper's iterations.

        Args:
            episodes: the iteration's episodes, in the order of their indices.
            iteration: from 0; addresses the random streams of shuffles and row subsets.

        Returns:
            Metrics of the update: PPO's are means over the minibatches of its last epoch, but
            ``skipped_steps`` is always the sum over all.
        """
        self._weights_seq_no += 1
        with single_threaded():
            return self._learn(episodes, iteration)

    @abc.abstractmethod
    def _learn(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        """The algorithm's iteration, on one thread."""

    @abc.abstractmethod
    def _output_gradients(
        self, batch: dict[str, Tensor], outputs: Tensor, values: Tensor | None
    ) -> OutputGradients:
        """The RL loss of a batch by its gradients; called without autograd.

        Args:
            batch: named (N, ...) tensors, with ``observations`` among them.
            outputs: (N, size) of the policy head.
            values: (N,) of the value head, None without one.
        """

    def _update_batch(
        self,
        batch: dict[str, Tensor],
        guide: Tensor | None = None,
        rows: Tensor | None = None,
        report: bool = True,
    ) -> dict[str, float]:
        """One step of every layer. All losses use the same forward pass, made before any step.

        Args:
            batch: what :meth:`_output_gradients` needs.
            guide: (N,) values for the guided local loss, None for the unsupervised one.
            rows: (M,) rows whose distances are matched, None for all.
            report: return all metrics, not only ``skipped_steps``.
        """
        if METHODS[self.config.method].backpropagates:
            return self._backpropagate(batch, report)
        return self._learn_locally(batch, guide, rows, report)

    def _learn_locally(
        self, batch: dict[str, Tensor], guide: Tensor | None, rows: Tensor | None, report: bool
    ) -> dict[str, float]:
        module, limit, shards = self.actor_critic, self.config.grad_clip, self._shards
        steps: list[LayerStep] = []
        with torch.inference_mode():  # no_grad whose operations dispatch faster
            if not METHODS[self.config.method].trains_hidden:
                features = shards.forward(module.features, batch["observations"])
            else:
                features, steps = module.encoder.learn(
                    module.inputs(batch["observations"]),
                    self._hidden_optimizers,
                    values=guide,
                    rows=rows,
                    max_gradient_norm=limit,
                    with_error=report,
                    shards=shards,
                    **self._local_loss,
                )
            values = None
            if module.value_head is not None:
                values = shards.forward(module.values, features)
            outputs = shards.forward(module.policy_head, features)
            gradients = self._output_gradients(batch, outputs, values)
            heads = [("policy_head", module.policy_head, gradients.policy)]
            if module.value_head is not None and gradients.value is not None:
                heads.append(("value_head", module.value_head, gradients.value.unsqueeze(1)))
            head_steps = {
                name: step_linear(head, self._optimizer(name), features, gradient, limit, shards)
                for name, head, gradient in heads
            }
        skipped = [step.skipped for step in steps] + [s for _, s in head_steps.values()]
        metrics = {"skipped_steps": float(sum(skipped))}
        if report:
            for number, step in enumerate(steps, 1):
                metrics[f"distance_loss_{number}"] = step.loss
                metrics[f"distance_error_{number}"] = step.error
                metrics[f"grad_norm_hidden_{number}"] = step.gradient_norm
            metrics |= {f"grad_norm_{name}": norm for name, (norm, _) in head_steps.items()}
            metrics |= {name: term.mean().item() for name, term in gradients.terms.items()}
        return metrics

    def _backpropagate(self, batch: dict[str, Tensor], report: bool) -> dict[str, float]:
        module, shards = self.actor_critic, self._shards
        optimizer = self._optimizer("network")
        count = len(batch["observations"])
        own = shards.own(count)
        features = module.features(batch["observations"][own])
        outputs = [module.policy_head(features)]
        if module.value_head is not None:
            outputs.append(module.values(features))
        with torch.no_grad():
            of_all = [shards.gathered(output, count) for output in outputs]
            gradients = self._output_gradients(
                batch, of_all[0], of_all[1] if len(of_all) == 2 else None
            )
            output_gradients = [gradients.policy[own]]
            if gradients.value is not None:
                output_gradients.append(gradients.value[own] * self.config.vf_loss_coeff)
        parameters = optimizer.param_groups[0]["params"]
        network_gradients = torch.autograd.grad(outputs, parameters, output_gradients)
        with torch.no_grad():
            norm, not_finite = clipped_step(
                optimizer, shards.summed(network_gradients), self.config.grad_clip
            )
        metrics = {"skipped_steps": float(not_finite)}
        if report:
            metrics["grad_norm"] = norm
            metrics |= {name: term.mean().item() for name, term in gradients.terms.items()}
        return metrics

    # -- before the first iteration ---------------------------------------------------------------

    def prepare(self) -> list[dict[str, float]]:
        """Gives the hidden layers the start that the settings ask for (section 5).

        Returns:
            Of every pass over recorded observations each layer's mean loss and distance error.

        Raises:
            ValueError: names the setting whose file is missing or does not fit.
        """
        config, encoder = self.config, self.actor_critic.encoder
        if config.init_hidden_from is not None:
            path, arrays = hidden_weights(hidden_source(config.init_hidden_from, config.seed))
            check_hidden_weights(path, arrays, encoder.state_dict())
            encoder.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        if config.pretrain_from is None:
            return []
        recorded = self._tensor(recorded_observations(config.pretrain_from))
        check_observations(
            config.pretrain_from, recorded.shape[1], self.actor_critic.observation_space
        )
        rates = config.settings().hidden_rates()
        optimizers = [  # of their own: Adam's averages of recorded rows say nothing of the run
            LayerAdam(layer.parameters(), lr=rate)
            for layer, rate in zip(encoder.layers, rates, strict=True)
        ]
        epochs = range(config.pretrain_epochs)
        with single_threaded():
            return [self._pretrain(recorded, optimizers, epoch) for epoch in epochs]

    def _pretrain(
        self, recorded: Tensor, optimizers: Sequence[LayerAdam], epoch: int
    ) -> dict[str, float]:
        """One pass over recorded observations, by the unsupervised loss."""
        module, config = self.actor_critic, self.config
        rng = stream(config.seed, Purpose.PRETRAINING, epoch)
        order = self._tensor(rng.permutation(len(recorded)))
        metrics = []
        with torch.inference_mode():
            for rows in order.split(config.pretrain_batch_size):
                if len(rows) < 2:  # the last one may be a single row, which has no distances
                    continue
                _, steps = module.encoder.learn(
                    module.inputs(recorded[rows]),
                    optimizers,
                    max_gradient_norm=config.grad_clip,
                    with_error=True,
                    shards=self._shards,
                    **self._local_loss,
                )
                metrics.append(
                    {
                        f"distance_{what}_{number}": value
                        for number, step in enumerate(steps, 1)
                        for what, value in (("loss", step.loss), ("error", step.error))
                    }
                )
        return averaged(metrics)

    # -- from episodes to tensors -----------------------------------------------------------------

    def _batch(self, episodes: Sequence[Episode]) -> dict[str, Tensor]:
        """Observations, actions and normalised returns of all steps, on the learner's device."""
        with np.errstate(invalid="ignore"):  # what is not finite is skipped, and counted, later
            returns = self._normalised_returns(episodes)
        return {
            "observations": self._tensor(_joined([e.observations[:-1] for e in episodes])),
            "actions": self._tensor(_joined([e.actions for e in episodes])),
            "returns": self._tensor(returns),
        }

    def _normalised_returns(self, episodes: Sequence[Episode]) -> Array:
        config, statistics = self.config, self.return_statistics
        final_values = [0.0] * len(episodes)
        if config.bootstrap_truncated:
            final_values = [0.0 if e.terminated else self._value_of_end(e) for e in episodes]
        returns = np.concatenate(
            [
                discounted_returns(episode.rewards, config.gamma, final_value)
                for episode, final_value in zip(episodes, final_values, strict=True)
            ]
        )
        if config.return_normalization == "batch":
            return normalised(returns, float(returns.mean()), float(returns.std()))
        if np.isfinite(returns).all():
            statistics.update(returns)
        return normalised(returns, statistics.mean, statistics.std)

    def _value_of_end(self, episode: Episode) -> float:
        """The learned value, in reward units, of the observation where the episode was cut off."""
        with torch.no_grad():
            end = self._tensor(episode.observations[-1:])
            value = self.actor_critic.values(self.actor_critic.features(end)).item()
        return self.return_statistics.mean + self.return_statistics.std * value

    def _rows(self, count: int, iteration: int, minibatch: int = 0) -> Tensor | None:
        """The rows whose distances are matched, drawn afresh for every minibatch."""
        limit = self.config.max_rows
        if limit is None or limit >= count:
            return None
        rng = stream(self.config.seed, Purpose.ROWS, iteration, minibatch)
        return self._tensor(rng.choice(count, size=limit, replace=False))

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    # -- optimizers and checkpoints ---------------------------------------------------------------

    def _optimizer(self, name: str) -> LayerAdam:
        optimizer: LayerAdam = self._named_optimizers[f"{DEFAULT_MODULE_ID}_{name}"]
        return optimizer

    @functools.cached_property
    def _local_loss(self) -> dict[str, Any]:
        """What the hidden layers' losses compare, as :meth:`LocalMLP.learn` takes it."""
        config = self.config
        return {
            "metric": metric_function(config.metric),
            "neighbours": config.neighbours,
            "fraction": config.neighbour_fraction,
            "propagate_error": config.propagate_error,
        }

    @functools.cached_property
    def _hidden_optimizers(self) -> list[LayerAdam]:
        count = len(self.actor_critic.encoder.layers)
        return [self._optimizer(f"hidden_{number}") for number in range(1, count + 1)]

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        state[RETURN_STATISTICS] = dataclasses.asdict(self.return_statistics)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state, also one older than the current weights."""
        if COMPONENT_RL_MODULE in state:
            self._weights_seq_no = 0  # RLlib would keep newer weights and say nothing
            self.module.set_state(state[COMPONENT_RL_MODULE])
        super().set_state(state)
        if RETURN_STATISTICS in state:
            self.return_statistics = RunningStatistics(**state[RETURN_STATISTICS])


def averaged(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over minibatches; ``skipped_steps`` is summed instead."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in metrics:
        for name, value in row.items():
            values[name].append(value)
    return {
        name: sum(column) / (1 if name == "skipped_steps" else len(column))
        for name, column in values.items()
    }


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
