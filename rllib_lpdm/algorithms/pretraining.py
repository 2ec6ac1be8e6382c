"""The hidden layers before the first iteration: loaded, or trained on recordings (section 5)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_lpdm.algorithms.optimizers import hidden_optimizers
from rllib_lpdm.algorithms.preparation import (
    check_hidden_weights,
    check_observations,
    hidden_source,
    hidden_weights,
    recorded_observations,
)
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.local_learning import LayerAdam
from rllib_lpdm.results.columns import column

if TYPE_CHECKING:
    from rllib_lpdm.algorithms.learner import LocalLearner


def prepare(learner: "LocalLearner") -> Iterator[list[dict[str, float]]]:
    """Loads the layers, then trains them; yields the metrics of each pass's minibatches.

    Raises:
        ValueError: names the setting whose file is missing or does not fit.
    """
    config, module = learner.config, learner.actor_critic
    if config.init_hidden_from is not None:
        path, arrays = hidden_weights(hidden_source(config.init_hidden_from, config.seed))
        check_hidden_weights(path, arrays, module.encoder.state_dict())
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        module.encoder.load_state_dict(tensors)
    if config.pretrain_from is None:
        return
    recorded = learner.tensor(recorded_observations(config.pretrain_from))
    check_observations(config.pretrain_from, recorded.shape[1], module.observation_space)
    # Optimizers of its own: Adam's averages of recorded rows say nothing of the run.
    optimizers = hidden_optimizers(module, config)
    for epoch in range(config.pretrain_epochs):
        yield _one_pass(learner, recorded, optimizers, epoch)


@torch.inference_mode()
def _one_pass(
    learner: "LocalLearner", recorded: Tensor, optimizers: Sequence[LayerAdam], epoch: int
) -> list[dict[str, float]]:
    """One pass over recorded observations, by the unsupervised loss."""
    module, config = learner.actor_critic, learner.config
    rng = stream(config.seed, Purpose.PRETRAINING, epoch)
    order = learner.tensor(rng.permutation(len(recorded)))
    metrics = []
    for rows in order.split(config.pretrain_batch_size):
        if len(rows) < 2:  # the last one may be a single row, which has no distances
            continue
        _, steps = module.encoder.learn(
            module.inputs(recorded[rows]),
            optimizers,
            max_gradient_norm=config.grad_clip,
            with_error=True,
            shards=learner.shards,
            **learner.local_loss,
        )
        metrics.append(
            {
                column(metric, number): value
                for number, step in enumerate(steps, 1)
                for metric, value in (("distance_loss", step.loss), ("distance_error", step.error))
            }
        )
    return metrics
