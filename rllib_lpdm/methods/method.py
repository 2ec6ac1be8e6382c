"""A method trains a network: it makes the optimizers, and then one update after another.

All losses of an update use the same forward pass, made before any of its steps. Files of methods
load torch when they train, because the checks of an experiment file do without it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rllib_lpdm.local_learning import LayerAdam, LayerPass, LocalLoss, LocalMLP
    from rllib_lpdm.local_learning.shards import WholeBatch


class Heads(NamedTuple):
    """The layers that predict from a hidden layer's outputs.

    Attributes:
        policy: (N, d) -> (N, size).
        value: (N, d) -> (N, 1); None where the algorithm learns no value.
        suffix: ends the names of their optimizers, such as "_1"; empty for the network's last.
    """

    policy: nn.Linear
    value: nn.Linear | None
    suffix: str = ""

    def values(self, features: Tensor) -> Tensor:
        """Returns (N,) values in normalised returns of (N, d) features; zeros without a head."""
        if self.value is None:
            return features.new_zeros(features.shape[0])
        values: Tensor = self.value(features).squeeze(1)
        return values

    @property
    def weights(self) -> list[Tensor]:
        """The policy's (size, d) weight, and the value's (1, d) weight if there is a value head."""
        return [head.weight for head in (self.policy, self.value) if head is not None]


class Network(Protocol):
    """The part of an actor-critic network that a method trains.

    Attributes:
        encoder: the hidden layers.
        heads: the heads of each hidden layer, where each has its own. The last ones act.
    """

    encoder: LocalMLP

    @property
    def heads(self) -> list[Heads]: ...

    def inputs(self, observations: Tensor) -> Tensor:
        """``(N, *observation shape)`` -> (N, d_x) inputs of the first layer."""

    def features(self, observations: Tensor) -> Tensor:
        """``(N, *observation shape)`` -> (N, output_size) outputs of the last hidden layer."""

    def parameters(self) -> Any: ...


class OutputGradients(NamedTuple):
    """Gradients of a loss by the network's two outputs.

    Attributes:
        policy: (N, size) gradient by the policy head's outputs.
        value: (N,) gradient of the unweighted value loss; None without a value head.
        terms: named (N,) terms whose means are reported.
    """

    policy: Tensor
    value: Tensor | None
    terms: dict[str, Tensor]


class Loss(Protocol):
    """An algorithm's loss of one batch. Methods call it without autograd."""

    def __call__(self, outputs: Tensor, values: Tensor | None, head: int = -1) -> OutputGradients:
        """Returns the gradients of the loss.

        Args:
            outputs: (N, size) of a policy head.
            values: (N,) of the value head beside it; None without one.
            head: index of these heads in ``Network.heads``.
        """


class Batch(NamedTuple):
    """The rows that one update learns from.

    Attributes:
        observations: ``(N, *observation shape)``.
        loss: the RL loss of these rows.
        guide: (N,) values for the guided local loss, None for the unsupervised one.
        rows: (M,) rows whose distances are matched, None for all.
        report: whether all metrics are wanted, not only ``skipped_steps``.
        matches: whether layers that match distances make a step, too.
        report_matches: whether the metrics of these steps are wanted.
    """

    observations: Tensor
    loss: Loss
    guide: Tensor | None = None
    rows: Tensor | None = None
    report: bool = True
    matches: bool = True
    report_matches: bool = True


Metrics = dict[str, float]


DISTANCE_SETTINGS = frozenset(
    {
        *("metric", "max_rows", "neighbours", "neighbour_fraction", "propagate_error", "scaling"),
        *("target_maximum", "guided_distances", "local_updates"),
    }
)


class Method(abc.ABC):
    """A way to train a network.

    Args:
        network: the network to train.
        config: has ``lr``, ``grad_clip``, ``vf_loss_coeff`` and the method's own settings.
        local_loss: the hidden layers' loss, for methods that match distances.
        random: the generator of an index, the same for every run of a seed.
        shards: whose rows of a batch this process computes.

    Attributes:
        description: what trains the hidden layers, for tables and documents.
        trains_hidden: whether anything trains the hidden layers.
        backpropagates: whether the RL loss passes through all layers by the chain rule.
        matches_distances: whether each hidden layer learns by its own loss (equation 1).
        guided: whether values guide the distances that are matched (section 3.2).
        local_heads: whether every hidden layer has its own heads.
        ignores: settings that change nothing, where nothing is pre-trained.
        optimizers: by name: "network" where one steps all layers, else "policy_head", "value_head"
            and "hidden_1", ....
    """

    description: ClassVar[str]
    trains_hidden: ClassVar[bool] = True
    backpropagates: ClassVar[bool] = False
    matches_distances: ClassVar[bool] = False
    guided: ClassVar[bool] = False
    local_heads: ClassVar[bool] = False
    ignores: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        network: Network,
        config: Any,
        local_loss: LocalLoss,
        random: Callable[[int], np.random.Generator],
        shards: WholeBatch,
    ) -> None:
        self.network, self.config = network, config
        self.local_loss, self.random, self.shards = local_loss, random, shards
        self.optimizers = self.make_optimizers()

    @classmethod  # noqa: B027
    def check(cls, settings: Any) -> None:
        """Raises ValueError where the method cannot train a network of these settings."""

    def make_optimizers(self) -> dict[str, LayerAdam]:
        """Returns one Adam for each head and, where they are trained, for each hidden layer."""
        from rllib_lpdm.local_learning import LayerAdam

        optimizers = {
            name + heads.suffix: LayerAdam(head.parameters(), self.config.lr)
            for heads in self.network.heads
            for name, head in (("policy_head", heads.policy), ("value_head", heads.value))
            if head is not None
        }
        if self.trains_hidden:
            hidden = hidden_optimizers(self.network, self.config)
            optimizers |= {f"hidden_{number}": each for number, each in enumerate(hidden, 1)}
        return optimizers

    @abc.abstractmethod
    def update(self, batch: Batch) -> Metrics:
        """Makes one step of every layer that the method trains; returns its metrics.

        The caller has switched autograd off, except for a method that backpropagates.
        """

    # -- the parts that methods share -------------------------------------------------------------

    def heads_and_features(self, observations: Tensor) -> Iterator[tuple[Heads, Tensor]]:
        """Yields all heads, each with the (N, d) features of ``(N, *observation shape)``."""
        network, heads = self.network, self.network.heads
        if len(heads) == 1:
            yield heads[0], self.shards.forward(network.features, observations)
            return
        passes = network.encoder.passes(network.inputs(observations), self.shards)
        for of_layer, each in zip(heads, passes, strict=True):
            yield of_layer, each.outputs

    def loss(self, features: Tensor, loss: Loss, head: int = -1) -> OutputGradients:
        """Returns the RL loss of the heads at an index, on (N, d) features."""
        heads, values = self.network.heads[head], None
        if heads.value is not None:
            values = self.shards.forward(heads.value, features).squeeze(1)
        return loss(self.shards.forward(heads.policy, features), values, head)

    def by_features(self, loss: OutputGradients, matrices: Sequence[Tensor]) -> Tensor:
        """Returns the (N, d) gradient by features, through (outputs, d) matrices.

        Args:
            loss: by the outputs.
            matrices: the policy's, and the value's if there is one.
        """
        gradient = loss.policy @ matrices[0]
        if loss.value is not None:
            by_value = loss.value * self.config.vf_loss_coeff
            gradient += by_value.unsqueeze(1) @ matrices[1]
        return gradient

    def step_hidden(self, number: int, each: LayerPass, gradient: Tensor) -> tuple[float, bool]:
        """Makes a step of a hidden layer, counted from 1, by the (N, d) gradient by its outputs.

        Returns the gradient's norm, and whether the step was skipped.
        """
        by_sums = each.by_sums(gradient)
        gradients = self.shards.parameter_gradients(each.layer, each.inputs, by_sums)
        return self.optimizers[f"hidden_{number}"].clipped(gradients, self.config.grad_clip)

    def step_heads(
        self, features: Tensor, loss: OutputGradients, head: int = -1
    ) -> tuple[Metrics, list[bool]]:
        """Makes a step of the heads at an index; returns the norms, and which were skipped."""
        heads = self.network.heads[head]
        stepped = [("policy_head", heads.policy, loss.policy)]
        if heads.value is not None and loss.value is not None:
            stepped.append(("value_head", heads.value, loss.value.unsqueeze(1)))
        norms: Metrics = {}
        skipped: list[bool] = []
        for name, layer, gradient in stepped:
            gradients = self.shards.parameter_gradients(layer, features, gradient)
            norm, not_finite = self.optimizers[name + heads.suffix].clipped(
                gradients, self.config.grad_clip
            )
            norms[f"grad_norm_{name}"] = norm
            skipped.append(not_finite)
        return norms, skipped

    def train_heads(self, batch: Batch) -> Metrics:
        """Makes a step of the network's heads, on hidden layers that stay as they are."""
        features = self.shards.forward(self.network.features, batch.observations)
        loss = self.loss(features, batch.loss)
        norms, skipped = self.step_heads(features, loss)
        return metrics(batch, skipped, norms, loss)


def hidden_optimizers(network: Network, config: Any) -> list[LayerAdam]:
    """Returns a new Adam for every hidden layer, at the layer's own rate (appendix C)."""
    from rllib_lpdm.local_learning import LayerAdam

    layers = zip(network.encoder.layers, config.settings().hidden_rates(), strict=True)
    return [LayerAdam(layer.parameters(), rate) for layer, rate in layers]


def metrics(
    batch: Batch,
    skipped: Sequence[bool],
    measured: Metrics,
    loss: OutputGradients,
    matched: Mapping[str, float] = MappingProxyType({}),
) -> Metrics:
    """Returns the metrics of an update.

    Args:
        batch: says whether all are wanted.
        skipped: of each step, whether it was left out because it was not finite.
        measured: norms of gradients.
        loss: its terms' means are metrics.
        matched: of the distances; always reported.
    """
    found = {"skipped_steps": float(sum(skipped)), **matched}
    if batch.report:
        found |= measured
        found |= {name: term.mean().item() for name, term in loss.terms.items()}
    return found
