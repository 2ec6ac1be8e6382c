"""The hidden layers before the first iteration: loaded, or trained on recordings (section 5)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.algorithms.preparation import (
    check_hidden_weights,
    check_observations,
    hidden_source,
    hidden_weights,
    recorded_observations,
)
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.local_learning import LayerAdam
from rllib_lpdm.local_learning.shards import WholeBatch
from rllib_lpdm.methods.method import hidden_optimizers
from rllib_lpdm.schema.columns import column


def load_hidden_layers(module: ActorCriticModule, source: str | None, seed: int) -> None:
    """Gives a network the hidden layers of another run; None leaves them as they are.

    Raises:
        ValueError: names the setting whose file is missing or does not fit.
    """
    if source is None:
        return
    path, arrays = hidden_weights(hidden_source(source, seed))
    check_hidden_weights(path, arrays, module.encoder.state_dict())
    module.encoder.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})


def pretrain(
    module: ActorCriticModule, config: Any, local_loss: Mapping[str, Any], shards: WholeBatch
) -> Iterator[list[dict[str, float]]]:
    """Trains the hidden layers on recorded observations; yields each pass's metrics.

    Args:
        module: the network.
        config: has ``pretrain_from``, which is None where there is nothing to do.
        local_loss: what the layers' losses compare, as ``LocalMLP.learn`` takes it.
        shards: whose rows of a batch this process computes.

    Raises:
        ValueError: names the setting whose file is missing or does not fit.
    """
    if config.pretrain_from is None:
        return
    device = module.policy_head.weight.device
    recorded = torch.from_numpy(recorded_observations(config.pretrain_from)).to(device)
    check_observations(config.pretrain_from, recorded.shape[1], module.observation_space)
    # Optimizers for this alone: Adam's averages of recorded rows say nothing of the run.
    optimizers = hidden_optimizers(module, config)
    for epoch in range(config.pretrain_epochs):
        rng = stream(config.seed, Purpose.PRETRAINING, epoch)
        order = torch.from_numpy(rng.permutation(len(recorded))).to(device)
        batches = (recorded[rows] for rows in order.split(config.pretrain_batch_size))
        yield [
            _one_step(module, batch, optimizers, config.grad_clip, local_loss, shards)
            for batch in batches
            if len(batch) > 1  # the last one may be a single row, which has no distances
        ]


@torch.inference_mode()
def _one_step(
    module: ActorCriticModule,
    observations: Tensor,
    optimizers: Sequence[LayerAdam],
    grad_clip: float | None,
    local_loss: Mapping[str, Any],
    shards: WholeBatch,
) -> dict[str, float]:
    """Makes a step of every hidden layer by the unsupervised loss; returns its metrics."""
    _, steps = module.encoder.learn(
        module.inputs(observations),
        optimizers,
        max_gradient_norm=grad_clip,
        with_error=True,
        shards=shards,
        **local_loss,
    )
    return {
        column(metric, number): value
        for number, step in enumerate(steps, 1)
        for metric, value in (("distance_loss", step.loss), ("distance_error", step.error))
    }
