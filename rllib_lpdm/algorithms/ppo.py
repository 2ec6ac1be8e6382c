"""PPO in its basic form: clipped ratio, KL penalty, clipped critic, no GAE (section 4.1)."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.algorithms.distributions import ActionDistribution
from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.learner import LocalLearner, averaged
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.algorithms.settings import PPOSettings
from rllib_lpdm.algorithms.updates import Batch, OutputGradients


class PPOConfig(LocalConfig):
    """PPO: a fixed number of whole episodes is one iteration, in several epochs of minibatches.

    Example:
        >>> config = PPOConfig().environment("Hopper-v4").training(method="lpdm_guided")
        >>> algo = config.debugging(seed=0).build_algo()
        >>> result = algo.train()
    """

    settings_class = PPOSettings

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or PPO)

    @property
    def has_value_head(self) -> bool:
        return True

    def get_default_learner_class(self) -> type["PPOLearner"]:
        return PPOLearner


class PPO(LocalAlgorithm):
    """See :class:`PPOConfig`."""

    @classmethod
    def get_default_config(cls) -> PPOConfig:
        return PPOConfig()


class PPOLearner(LocalLearner):
    """The clipped surrogate of Schulman et al. (2017) and the critic on normalised returns."""

    def learn_from(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        config, module = self.config, self.actor_critic
        batch = self.batch(episodes)
        count = len(batch["returns"])
        with torch.no_grad():
            features = self.forward(module.features, batch["observations"])
            batch["old_outputs"] = module.policy_head(features)
            batch["old_values"] = module.values(features)
            batch["old_log_probs"], _ = module.distribution.log_prob(
                batch["old_outputs"], batch["actions"]
            )
            advantages = batch["returns"] - batch["old_values"]
            std, mean = torch.std_mean(advantages, correction=0)
            batch["advantages"] = (advantages - mean) / (std + 1e-8)

        metrics: list[dict[str, float]] = []
        for epoch in range(config.num_epochs):
            rng = stream(config.seed, Purpose.SHUFFLE, iteration, epoch)
            order = self.tensor(rng.permutation(count))
            split = [column[order].split(config.minibatch_size) for column in batch.values()]
            for columns in zip(*split, strict=True):
                minibatch = dict(zip(batch, columns, strict=True))
                loss = functools.partial(clipped_loss, minibatch, module.distribution, config)
                guide = minibatch["old_values"] if self.method.guided else None
                rows = self.rows(len(minibatch["returns"]), iteration, len(metrics))
                last_epoch = epoch == config.num_epochs - 1
                metrics.append(
                    self.step(Batch(minibatch["observations"], loss, guide, rows, last_epoch))
                )
        return averaged(metrics)


def clipped_loss(
    batch: dict[str, Tensor],
    distribution: ActionDistribution,
    config: Any,
    outputs: Tensor,
    values: Tensor | None,
) -> OutputGradients:
    """The loss of a minibatch: clipped ratio, KL penalty and clipped critic.

    Args:
        batch: (N, ...) actions, returns and advantages; outputs, log-probabilities and values of
            the network before the iteration's updates.
        distribution: of the actions.
        config: has ``clip_param``, ``kl_coeff`` and ``vf_clip_param``.
        outputs: (N, size) of the policy head.
        values: (N,) of the value head.
    """
    assert values is not None
    count = len(values)

    log_probs, log_prob_gradient = distribution.log_prob(outputs, batch["actions"])
    ratio = torch.exp(log_probs - batch["old_log_probs"])
    surrogate = ratio * batch["advantages"]
    clipped = ratio.clamp_(1.0 - config.clip_param, 1.0 + config.clip_param)
    clipped.mul_(batch["advantages"])
    divergence, divergence_gradient = distribution.kl(batch["old_outputs"], outputs)
    # Where the clipped term is the smaller one it is constant, so no gradient flows.
    flowing = (surrogate * (surrogate <= clipped)).mul_(-1.0 / count)
    policy_gradient = log_prob_gradient.mul_(flowing.unsqueeze(1))
    policy_gradient.add_(divergence_gradient, alpha=config.kl_coeff / count)

    old_values, returns = batch["old_values"], batch["returns"]
    limit = config.vf_clip_param
    error, change = values - returns, values - old_values
    # Within the limit both errors are the same number, and not only up to rounding.
    excess = change - change.clamp(-limit, limit)
    squared_error, clipped_square = error.square(), (error - excess).square_()
    # Likewise: the clipped error is constant in the value outside the limit.
    value_gradient = error.mul_(squared_error >= clipped_square).mul_(2.0 / count)

    terms = {
        "policy_loss": -torch.minimum(surrogate, clipped),
        "value_loss": torch.maximum(squared_error, clipped_square),
        "kl": divergence,
    }
    return OutputGradients(policy_gradient, value_gradient, terms)
