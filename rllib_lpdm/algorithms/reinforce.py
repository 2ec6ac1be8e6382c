"""REINFORCE, with and without a learned state-value baseline (section 2.2)."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.algorithms.distributions import ActionDistribution
from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.learner import LocalLearner
from rllib_lpdm.methods.method import Batch, OutputGradients
from rllib_lpdm.schema.settings import Settings


class ReinforceConfig(LocalConfig):
    """REINFORCE: one episode is one iteration and one update.

    ``training(baseline=True)`` learns a state value on the normalised return and subtracts it.

    Example:
        >>> config = ReinforceConfig().environment("CartPole-v1").training(method="lpdm")
        >>> algo = config.debugging(seed=0).build_algo()
        >>> result = algo.train()
    """

    settings_class = Settings

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or Reinforce)
        self.baseline = False

    @property
    def episodes_per_iteration(self) -> int:
        return 1

    @property
    def has_value_head(self) -> bool:
        return self.baseline

    def get_default_learner_class(self) -> type["ReinforceLearner"]:
        return ReinforceLearner


class Reinforce(LocalAlgorithm):
    """See :class:`ReinforceConfig`."""

    @classmethod
    def get_default_config(cls) -> ReinforceConfig:
        return ReinforceConfig()


class ReinforceLearner(LocalLearner):
    """``-mean(w log pi(a|s))``: w is the normalised return, less the baseline if there is one."""

    def learn_from(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        module = self.actor_critic
        batch = self.batch(episodes)
        guide = batch["returns"] if self.method.guided else None
        if guide is not None and self.config.baseline:
            with torch.no_grad():
                features = self.shards.forward(module.features, batch["observations"])
                guide = module.values(features)
        loss = functools.partial(
            policy_gradient_loss, batch["actions"], batch["returns"], module.distribution
        )
        rows = self.rows(len(batch["returns"]), iteration)
        return self.step(Batch(batch["observations"], loss, guide, rows))


def policy_gradient_loss(
    actions: Tensor,
    returns: Tensor,
    distribution: ActionDistribution,
    outputs: Tensor,
    values: Tensor | None,
    head: int = -1,
) -> OutputGradients:
    """Returns the loss of REINFORCE and, where values are learned, their mean squared error.

    Args:
        actions: (N, ...) as drawn.
        returns: (N,) normalised.
        distribution: of the actions.
        outputs: (N, size) of the policy head.
        values: (N,) of the value head, None without one.
        head: index of these heads, all of which have the same loss.
    """
    error = returns if values is None else returns - values
    # Returns without variance are normalised to zeros: they say nothing of the actions.
    weights = error if bool(returns.any()) else torch.zeros_like(returns)
    log_prob, gradient = distribution.log_prob(outputs, actions)
    terms = {"policy_loss": -weights * log_prob}
    policy_gradient = gradient * (weights / -len(weights)).unsqueeze(1)
    if values is None:
        return OutputGradients(policy_gradient, None, terms)
    terms["value_loss"] = error.square()
    return OutputGradients(policy_gradient, error * (-2.0 / len(error)), terms)
