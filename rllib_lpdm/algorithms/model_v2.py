"""A TorchModelV2 whose hidden layers learn locally, for code on RLlib's old API stack.

RLlib has deprecated this stack, and it is slower than this package's own algorithms. The adapter is
for existing code; ``rllib_lpdm.PPOConfig`` reproduces the paper. The differences:

- The policy's one optimizer, learning rate and gradient clip serve hidden layers and heads alike.
- Autograd differentiates the local loss inside each layer, where the package has the gradient by
  hand. The activations of all layers are kept until the policy's backward pass.
- A Gaussian policy learns its standard deviation, as the second half of the logits head's outputs.
- Each GPU of a policy matches the distances of its own shard of the batch.
- ``local_rl`` and ``dfa`` are refused. RLlib's loss is a function of the logits alone: there is
  none for other heads, and the model cannot see its gradient before the backward pass.
"""

from typing import Any

import gymnasium as gym
import pydantic
import torch
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from torch import Tensor, nn

from rllib_lpdm.algorithms.module import observation_size
from rllib_lpdm.local_learning import LocalMLP, distance_matching_loss, target_distances
from rllib_lpdm.methods import METHODS
from rllib_lpdm.schema.columns import column
from rllib_lpdm.schema.messages import fault, unknown_name
from rllib_lpdm.schema.settings import Settings

_METHODS = [
    name
    for name, entry in METHODS.items()
    if entry.backpropagates or entry.matches_distances or not entry.trains_hidden
]


class LocalTorchModelV2(TorchModelV2, nn.Module):
    """Tanh layers, each trained by its own loss (section 3), under a logits head and a value head.

    RLlib takes the class itself or a name given to ``ModelCatalog.register_custom_model``::

        model={"custom_model": LocalTorchModelV2,
               "custom_model_config": {"method": "lpdm", "hidden_sizes": (64, 64)}}

    Args:
        obs_space: the preprocessed observation space; observations are flattened to d_x features.
        action_space: as in TorchModelV2.
        num_outputs: width of the logits head; for a Gaussian policy twice the action's size.
        model_config: RLlib's model config.
        name: as in TorchModelV2.
        **custom_model_config: ``method`` ("lpdm" by default, "lpdm_guided", "bp" or "frozen") and
            ``hidden_sizes``.

    Raises:
        ValueError: unknown key or value; observations that are not arrays; ``use_lstm``,
            ``use_attention`` or ``free_log_std``.
    """

    def __init__(
        self,
        obs_space: gym.Space,
        action_space: gym.Space,
        num_outputs: int,
        model_config: dict[str, Any],
        name: str,
        **custom_model_config: Any,
    ) -> None:
        TorchModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name)
        nn.Module.__init__(self)
        for option in ("use_lstm", "use_attention", "free_log_std"):
            if model_config.get(option):
                raise ValueError(f"model: LocalTorchModelV2 does not support {option}=True")
        method, hidden_sizes = _validated(**custom_model_config)
        self.method = METHODS[method]
        self.hidden = LocalMLP(observation_size(obs_space), hidden_sizes)
        self.hidden.requires_grad_(self.method.trains_hidden)
        self.logits_head = nn.Linear(self.hidden.output_size, num_outputs)
        self.value_head = nn.Linear(self.hidden.output_size, 1)
        self._local_losses: list[Tensor] = []

    def forward(
        self, input_dict: dict[str, Any], state: list[Tensor], seq_lens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns logits (N, num_outputs) of the observations, and the state unchanged."""
        self._inputs = x = input_dict["obs_flat"].float().flatten(1)
        self._outputs: list[Tensor] = []
        for layer in self.hidden.layers:
            y = torch.tanh(layer(x))
            self._outputs.append(y)
            x = y if self.method.backpropagates else y.detach()
        self._features = x
        return self.logits_head(x), state

    def value_function(self) -> Tensor:
        """Returns (N,) values of the last forward pass."""
        values: Tensor = self.value_head(self._features).squeeze(1)
        return values

    def custom_loss(
        self, policy_loss: list[Tensor] | Tensor, loss_inputs: Any
    ) -> list[Tensor] | Tensor:
        """Adds each layer's local loss (equation 1), on the forward pass of the policy's loss.

        Args:
            policy_loss: a scalar, or one per optimizer of the policy, of which the first (PPO has
                no other) holds the hidden layers.
            loss_inputs: the train batch; unused.

        Returns:
            The losses in the same form; unchanged under "bp" and "frozen".
        """
        if not self.method.matches_distances:
            return policy_loss
        values = self.value_function().detach() if self.method.guided else None
        target = target_distances(self._inputs, values)
        losses = [distance_matching_loss(y, target) for y in self._outputs]
        self._local_losses = [loss.detach() for loss in losses]
        if isinstance(policy_loss, Tensor):
            return policy_loss + sum(losses)
        return [policy_loss[0] + sum(losses), *policy_loss[1:]]

    def metrics(self) -> dict[str, float]:
        """Returns each layer's local loss on the last batch; RLlib reports an iteration's means."""
        return {
            column("distance_loss", k): loss.item() for k, loss in enumerate(self._local_losses, 1)
        }


def _validated(**config: Any) -> tuple[str, tuple[int, ...]]:
    """Returns a config's method and hidden sizes; raises ValueError naming the fault."""
    place, known = "custom_model_config", ("method", "hidden_sizes")
    for key in config:
        if key not in known:
            raise ValueError(f"{place}: {unknown_name(key, known)}")
    method = config.pop("method", "lpdm")
    if method not in _METHODS and method in METHODS:
        raise ValueError(
            f"{place}: method {method!r} is not for RLlib's old API stack; use "
            f"rllib_lpdm.PPOConfig, or {', '.join(_METHODS[:-1])} or {_METHODS[-1]}"
        )
    if method not in METHODS:
        raise ValueError(f"{place}: {unknown_name(str(method), _METHODS, 'method')}")
    try:
        return method, Settings(**config).hidden_sizes
    except pydantic.ValidationError as error:
        raise ValueError(f"{place}: {fault(error)}") from None
