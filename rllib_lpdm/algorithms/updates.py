"""One update of the network, by each of the methods: forward, loss, steps.

All losses of an update use the same forward pass, made before any of its steps.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from rllib_lpdm.local_learning import clipped_step, step_linear
from rllib_lpdm.results.columns import column

if TYPE_CHECKING:
    from rllib_lpdm.algorithms.learner import LocalLearner


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
    """

    observations: Tensor
    loss: Loss
    guide: Tensor | None = None
    rows: Tensor | None = None
    report: bool = True


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
    module = learner.actor_critic
    features, steps = module.encoder.learn(
        module.inputs(batch.observations),
        learner.hidden_optimizers,
        values=batch.guide,
        rows=batch.rows,
        max_gradient_norm=learner.config.grad_clip,
        with_error=batch.report,
        shards=learner.shards,
        **learner.local_loss,
    )
    loss, norms, skipped = _step_heads(learner, features, batch.loss)
    measured = {
        name: value
        for number, step in enumerate(steps, 1)
        for name, value in (
            (column("distance_loss", number), step.loss),
            (column("distance_error", number), step.error),
            (column("grad_norm_hidden", number), step.gradient_norm),
        )
    }
    return _metrics(batch, [*(step.skipped for step in steps), *skipped], measured | norms, loss)


@torch.inference_mode()
def train_heads(learner: "LocalLearner", batch: Batch) -> dict[str, float]:
    """A step of the heads by the RL loss, on hidden layers that stay as they are."""
    features = learner.shards.forward(learner.actor_critic.features, batch.observations)
    loss, norms, skipped = _step_heads(learner, features, batch.loss)
    return _metrics(batch, skipped, norms, loss)


def _step_heads(
    learner: "LocalLearner", features: Tensor, loss: Loss
) -> tuple[OutputGradients, dict[str, float], list[bool]]:
    """A step of each head on (N, output_size) features: the loss, norms, and what was skipped."""
    module, shards = learner.actor_critic, learner.shards
    values = None
    if module.value_head is not None:
        values = shards.forward(module.values, features)
    gradients = loss(shards.forward(module.policy_head, features), values)
    heads = [("policy_head", module.policy_head, gradients.policy)]
    if module.value_head is not None and gradients.value is not None:
        heads.append(("value_head", module.value_head, gradients.value.unsqueeze(1)))
    norms: dict[str, float] = {}
    skipped: list[bool] = []
    for name, head, gradient in heads:
        norms[f"grad_norm_{name}"], not_finite = step_linear(
            head, learner.optimizers[name], features, gradient, learner.config.grad_clip, shards
        )
        skipped.append(not_finite)
    return gradients, norms, skipped


def _metrics(
    batch: Batch, skipped: Sequence[bool], measured: dict[str, float], loss: OutputGradients
) -> dict[str, float]:
    metrics = {"skipped_steps": float(sum(skipped))}
    if batch.report:
        metrics |= measured
        metrics |= {name: term.mean().item() for name, term in loss.terms.items()}
    return metrics
