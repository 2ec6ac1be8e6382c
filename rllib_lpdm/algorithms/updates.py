"""One update of the network, by each of the methods: forward, loss, steps.

All losses of an update use the same forward pass, made before any of its steps.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from rllib_lpdm.local_learning import LayerPass, clipped_step, step_linear
from rllib_lpdm.results.columns import column

if TYPE_CHECKING:
    from rllib_lpdm.algorithms.learner import LocalLearner
    from rllib_lpdm.algorithms.module import Heads


class OutputGradients(NamedTuple):
    """A loss, seen from the network's two outputs.

    Attributes:
        policy: (N, size) gradient with respect to the policy head's outputs.
        value: (N,) gradient of the unweighted value loss; None without a value head.
        terms: named (N,) terms whose means are reported.
    """

    policy: Tensor
    value: Tensor | None
    terms: dict[str, Tensor]


# (N, size) outputs of the policy head and (N,) of the value head, None without one -> the RL loss.
# Called without autograd.
Loss = Callable[[Tensor, Tensor | None], OutputGradients]


class Batch(NamedTuple):
    """What an update is made of.

    Attributes:
        observations: ``(N, *observation shape)``.
        loss: the RL loss of these rows.
        guide: (N,) values for the guided local loss, None for the unsupervised one.
        rows: (M,) rows whose distances are matched, None for all.
        report: whether all metrics are wanted, not only ``skipped_steps``.
        layer_losses: of each hidden layer's own heads, the network's last, where they differ: what
            PPO's compares with differs from head to head.
        matches: whether layers that match distances make a step, too.
        report_matches: whether the metrics of these steps are wanted.
    """

    observations: Tensor
    loss: Loss
    guide: Tensor | None = None
    rows: Tensor | None = None
    report: bool = True
    layer_losses: Sequence[Loss] | None = None
    matches: bool = True
    report_matches: bool = True


class Update(Protocol):
    """One step of every layer that a method trains; returns its metrics."""

    def __call__(self, learner: "LocalLearner", batch: Batch) -> dict[str, float]: ...


def backpropagate(learner: "LocalLearner", batch: Batch) -> dict[str, float]:
    """One step of one optimizer, by the gradient of both losses through all layers."""
    module, shards, optimizer = learner.actor_critic, learner.shards, learner.optimizers["network"]
    count = len(batch.observations)
    own = shards.own(count)
    features = module.features(batch.observations[own])
    outputs = [module.policy_head(features)]
    if module.value_head is not None:
        outputs.append(module.values(features))
    with torch.no_grad():
        policy, *values = (shards.gathered(output, count) for output in outputs)
        loss = batch.loss(policy, values[0] if values else None)
        output_gradients = [loss.policy[own]]
        if loss.value is not None:
            output_gradients.append(loss.value[own] * learner.config.vf_loss_coeff)
    parameters = optimizer.param_groups[0]["params"]
    gradients = torch.autograd.grad(outputs, parameters, output_gradients)
    with torch.no_grad():
        norm, skipped = clipped_step(optimizer, shards.summed(gradients), learner.config.grad_clip)
    return _metrics(batch, [skipped], {"grad_norm": norm}, loss)


@torch.inference_mode()  # no_grad whose operations dispatch faster
def match_distances(learner: "LocalLearner", batch: Batch) -> dict[str, float]:
    """A step of every hidden layer by its local loss, and of the heads by the RL loss."""
    if not batch.matches:
        return train_heads(learner, batch)
    module = learner.actor_critic
    features, steps = module.encoder.learn(
        module.inputs(batch.observations),
        learner.hidden_optimizers,
        values=batch.guide,
        rows=batch.rows,
        max_gradient_norm=learner.config.grad_clip,
        with_error=batch.report_matches,
        shards=learner.shards,
        **learner.local_loss,
    )
    loss = _loss(learner, features, module.heads[-1], batch.loss)
    norms, skipped = _step_heads(learner, features, module.heads[-1], loss)
    measured = {
        name: value
        for number, step in enumerate(steps, 1)
        for name, value in (
            (column("distance_loss", number), step.loss),
            (column("distance_error", number), step.error),
            (column("grad_norm_hidden", number), step.gradient_norm),
        )
        if batch.report_matches
    }
    skips = [*(step.skipped for step in steps), *skipped]
    return _metrics(batch, skips, norms, loss, measured)


@torch.inference_mode()
def train_heads(learner: "LocalLearner", batch: Batch) -> dict[str, float]:
    """A step of the heads by the RL loss, on hidden layers that stay as they are."""
    features = learner.shards.forward(learner.actor_critic.features, batch.observations)
    heads = learner.actor_critic.heads[-1]
    loss = _loss(learner, features, heads, batch.loss)
    norms, skipped = _step_heads(learner, features, heads, loss)
    return _metrics(batch, skipped, norms, loss)


@torch.inference_mode()
def train_with_local_heads(learner: "LocalLearner", batch: Batch) -> dict[str, float]:
    """A step of every hidden layer and of its own heads, by the RL loss of these heads.

    A layer's gradient stops at its input, so one layer after another is done with and forgotten.
    """
    module = learner.actor_critic
    if not module.encoder.layers:
        return train_heads(learner, batch)
    losses = batch.layer_losses or [batch.loss] * len(module.heads)
    passes = module.encoder.passes(module.inputs(batch.observations), learner.shards)
    measured: dict[str, float] = {}
    skipped: list[bool] = []
    for number, (each, heads, of_outputs) in enumerate(
        zip(passes, module.heads, losses, strict=True), 1
    ):
        loss = _loss(learner, each.outputs, heads, of_outputs)
        gradient = _by_features(learner, loss, heads.weights)
        norm, not_finite = _step_hidden(learner, number, each, gradient)
        norms, heads_skipped = _step_heads(learner, each.outputs, heads, loss)
        measured[column("grad_norm_hidden", number)] = norm
        skipped += [not_finite, *heads_skipped]
    return _metrics(batch, skipped, measured | norms, loss)


@torch.inference_mode()
def send_feedback(learner: "LocalLearner", batch: Batch) -> dict[str, float]:
    """A step of every hidden layer by the RL loss at the outputs, sent to it by a fixed matrix."""
    module = learner.actor_critic
    inputs, heads = module.inputs(batch.observations), module.heads[-1]
    passes = list(module.encoder.passes(inputs, learner.shards))
    features = passes[-1].outputs if passes else inputs
    loss = _loss(learner, features, heads, batch.loss)
    measured: dict[str, float] = {}
    skipped: list[bool] = []
    for number, (each, matrix) in enumerate(zip(passes, learner.feedback(), strict=True), 1):
        gradient = _by_features(
            learner, loss, matrix.split([len(weight) for weight in heads.weights])
        )
        norm, not_finite = _step_hidden(learner, number, each, gradient)
        measured[column("grad_norm_hidden", number)] = norm
        skipped.append(not_finite)
    norms, heads_skipped = _step_heads(learner, features, heads, loss)
    return _metrics(batch, [*skipped, *heads_skipped], measured | norms, loss)


def _loss(learner: "LocalLearner", features: Tensor, heads: "Heads", loss: Loss) -> OutputGradients:
    """The RL loss of some heads on (N, d) features."""
    forward, values = learner.shards.forward, None
    if heads.value is not None:
        values = forward(heads.value, features).squeeze(1)
    return loss(forward(heads.policy, features), values)


def _by_features(
    learner: "LocalLearner", loss: OutputGradients, matrices: Sequence[Tensor]
) -> Tensor:
    """(N, d) gradient by features, through (outputs, d) matrices of the policy and the value."""
    gradient = loss.policy @ matrices[0]
    if loss.value is not None:
        by_value = loss.value * learner.config.vf_loss_coeff
        gradient += by_value.unsqueeze(1) @ matrices[1]
    return gradient


def _step_hidden(
    learner: "LocalLearner", number: int, each: LayerPass, gradient: Tensor
) -> tuple[float, bool]:
    """A step of the hidden layer of a number by the (N, d) gradient by its outputs."""
    gradients = learner.shards.parameter_gradients(each.layer, each.inputs, each.by_sums(gradient))
    optimizer = learner.optimizers[f"hidden_{number}"]
    return clipped_step(optimizer, gradients, learner.config.grad_clip)


def _step_heads(
    learner: "LocalLearner", features: Tensor, heads: "Heads", loss: OutputGradients
) -> tuple[dict[str, float], list[bool]]:
    """A step of each head on (N, d) features: norms, and what was skipped."""
    stepped = [("policy_head", heads.policy, loss.policy)]
    if heads.value is not None and loss.value is not None:
        stepped.append(("value_head", heads.value, loss.value.unsqueeze(1)))
    norms: dict[str, float] = {}
    skipped: list[bool] = []
    for name, head, gradient in stepped:
        optimizer = learner.optimizers[name + heads.suffix]
        norms[f"grad_norm_{name}"], not_finite = step_linear(
            head, optimizer, features, gradient, learner.config.grad_clip, learner.shards
        )
        skipped.append(not_finite)
    return norms, skipped


def _metrics(
    batch: Batch,
    skipped: Sequence[bool],
    measured: dict[str, float],
    loss: OutputGradients,
    matched: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    metrics = {"skipped_steps": float(sum(skipped)), **matched}
    if batch.report:
        metrics |= measured
        metrics |= {name: term.mean().item() for name, term in loss.terms.items()}
    return metrics
