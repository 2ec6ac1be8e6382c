"""REINFORCE, with and without a learned state-value baseline (section 2.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.learner import LocalLearner, OutputGradients
from rllib_lpdm.algorithms.methods import METHODS
from rllib_lpdm.algorithms.settings import Settings


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
    """``-mean(w log pi(a|s))``, w the normalised return less the baseline, if there is one."""

    def _learn(self, episodes: Sequence[Episode], iteration: int) -> dict[str, float]:
        batch = self._batch(episodes)
        guide = None
        if METHODS[self.config.method].guided:
            guide = batch["returns"]
            if self.config.has_value_head:
                with torch.no_grad():
                    module = self.actor_critic
                    features = self._shards.forward(module.features, batch["observations"])
                    guide = module.values(features)
        rows = self._rows(len(batch["returns"]), iteration)
        return self._update_batch(batch, guide, rows)

    def _output_gradients(
        self, batch: dict[str, Tensor], outputs: Tensor, values: Tensor | None
    ) -> OutputGradients:
        returns = batch["returns"]
        error = returns if values is None else returns - values
        # Returns without variance are normalised to zeros: they say nothing of the actions.
        weights = error if bool(returns.any()) else torch.zeros_like(returns)
        log_prob, gradient = self.actor_critic.distribution.log_prob(outputs, batch["actions"])
        terms = {"policy_loss": -weights * log_prob}
        policy_gradient = gradient * (weights / -len(weights)).unsqueeze(1)
        if values is None:
            return OutputGradients(policy_gradient, None, terms)
        terms["value_loss"] = error.square()
        return OutputGradients(policy_gradient, error * (-2.0 / len(error)), terms)
