"""PPO in its basic form: clipped ratio, KL penalty, clipped critic, no GAE (section 4.1)."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.algorithms.distributions import ActionDistribution
from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.learner import LocalLearner, averaged
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.methods.method import Batch, Heads, OutputGradients
from rllib_lpdm.schema.settings import PPOSettings


class PPOConfig(LocalConfig):
    """PPO: an iteration collects several whole episodes and learns from them in several epochs.

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
    """The clipped surrogate of Schulman et al. (2017) and the critic on normalised returns.

    The critic's value V is in units of the normalised return ``(G - mu) / sigma``: a state is worth
    ``mu + sigma V`` in rewards. The setting ``advantage`` selects one of:

    - "return": ``A_t = (G_t - mu) / sigma - V(s_t)``.
    - "td": the one-step temporal-difference error in the same units. Within an episode it is
      ``(r_t - (1 - gamma) mu) / sigma + gamma V(s_t+1) - V(s_t)``. At an episode's last step it is
      ``(r_t + gamma e - mu) / sigma - V(s_t)``. The state after that step is worth e in rewards: 0,
      or the learned value where ``bootstrap_truncated`` continues the episode.

    As ``G_t = r_t + gamma G_t+1``, the error is ``A_t - gamma A_t+1``, and A_t at the last step.
    Where sigma vanishes both take all normalised returns for 0.
    """

    def learn_from(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        config, method = self.config, self.method
        batch = self.batch(episodes)
        observations = batch.pop("observations")
        discounts = None
        if config.advantage == "td":
            discounts = self.tensor(_discounts(episodes, config.gamma))
        with torch.no_grad():
            of_heads = [
                batch | self._before(batch, heads, features, discounts)
                for heads, features in method.heads_and_features(observations)
            ]

        metrics: list[dict[str, float]] = []
        for epoch in range(config.num_epochs):
            rng = stream(config.seed, Purpose.SHUFFLE, iteration, epoch)
            order = self.tensor(rng.permutation(len(observations)))
            last_epoch = epoch == config.num_epochs - 1
            for part in order.split(config.minibatch_size):
                once = config.local_updates == "once"
                minibatch = Batch(
                    observations[part],
                    functools.partial(self._loss, of_heads, part),
                    guide=of_heads[-1]["old_values"][part] if method.guided else None,
                    rows=self.rows(len(part), iteration, len(metrics)),
                    report=last_epoch,
                    matches=not (once and metrics),
                    report_matches=not metrics if once else last_epoch,
                )
                metrics.append(self.step(minibatch))
        return averaged(metrics)

    def _before(
        self, batch: dict[str, Tensor], heads: Heads, features: Tensor, discounts: Tensor | None
    ) -> dict[str, Tensor]:
        """Returns the heads' predictions before the update, and the advantages over their values.

        With (T,) discounts of the states after each step these are temporal-difference errors.
        """
        outputs, values = heads.policy(features), heads.values(features)
        log_probs, _ = self.actor_critic.distribution.log_prob(outputs, batch["actions"])
        advantages = batch["returns"] - values
        if discounts is not None:
            advantages -= discounts * advantages.roll(-1)
        std, mean = torch.std_mean(advantages, correction=0)
        return {
            "old_outputs": outputs,
            "old_values": values,
            "old_log_probs": log_probs,
            "advantages": (advantages - mean) / (std + 1e-8),
        }

    def _loss(
        self,
        of_heads: Sequence[dict[str, Tensor]],
        part: Tensor,
        outputs: Tensor,
        values: Tensor | None,
        head: int = -1,
    ) -> OutputGradients:
        """Returns the loss of the rows of a minibatch, against the heads before the update."""
        batch = {name: column[part] for name, column in of_heads[head].items()}
        return clipped_loss(batch, self.actor_critic.distribution, self.config, outputs, values)


def _discounts(episodes: Sequence[Episode], gamma: float) -> NDArray[np.float32]:
    """Returns (T,) discounts of the state after each step: 0 after an episode's last step."""
    discounts = np.full(sum(map(len, episodes)), gamma, np.float32)
    discounts[np.cumsum([len(episode) for episode in episodes]) - 1] = 0.0
    return discounts


def clipped_loss(
    batch: dict[str, Tensor],
    distribution: ActionDistribution,
    config: Any,
    outputs: Tensor,
    values: Tensor | None,
) -> OutputGradients:
    """Returns the loss of a minibatch: clipped ratio, KL penalty and clipped critic.

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
