"""The actor-critic RLModule over a :class:`LocalMLP`, and its numpy twin for acting."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_lpdm.algorithms.distributions import FixedGaussian, action_distribution
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.local_learning import LocalMLP

Array = NDArray[Any]


class ActorCriticModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Shared hidden layers, a policy head and, where the algorithm learns one, a value head.

    ``model_config`` holds ``hidden_sizes``, ``action_std``, ``value_head`` and ``seed``. Weights
    have PyTorch's default initialisation, drawn from the run's seed.

    Raises:
        ValueError: the observation space is not a Box, or the action space is not supported.
    """

    def setup(self) -> None:
        config = self.model_config
        self.distribution = action_distribution(self.action_space, config["action_std"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(stream(config["seed"], Purpose.INITIALISATION)))
            self.encoder = LocalMLP(
                observation_size(self.observation_space), config["hidden_sizes"]
            )
            self.policy_head = nn.Linear(self.encoder.output_size, self.distribution.size)
            self.value_head: nn.Linear | None = (
                nn.Linear(self.encoder.output_size, 1) if config["value_head"] else None
            )
        if isinstance(self.distribution, FixedGaussian):
            log_std = torch.full((self.distribution.size,), float(np.log(self.distribution.std)))
            self.register_buffer("log_std", log_std, persistent=False)

    def get_non_inference_attributes(self) -> list[str]:
        return ["value_head"]

    def features(self, observations: Tensor) -> Tensor:
        """(N, *observation shape) -> (N, output_size) of the last hidden layer."""
        features: Tensor = self.encoder(observations.reshape(len(observations), -1).float())
        return features

    def values(self, features: Tensor) -> Tensor:
        """(N, output_size) -> (N,) values in normalised returns; zeros without a value head."""
        head = getattr(self, "value_head", None)  # inference-only copies have none
        if head is None:
            return features.new_zeros(features.shape[0])
        values: Tensor = head(features).squeeze(1)
        return values

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """(N, *observation shape) -> what RLlib's distributions take, and the features.

        Action distribution inputs are (N, actions) logits, or (N, 2 * actions) means and the
        constant log of the standard deviation.
        """
        features = self.features(batch[Columns.OBS])
        outputs = self.policy_head(features)
        if isinstance(self.distribution, FixedGaussian):
            outputs = torch.cat([outputs, self.log_std.expand_as(outputs)], dim=1)
        return {Columns.ACTION_DIST_INPUTS: outputs, Columns.EMBEDDINGS: features}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """(N, *observation shape), or (N, output_size) features -> (N,) values."""
        return self.values(self.features(batch[Columns.OBS]) if embeddings is None else embeddings)

    def numpy_policy(self) -> "NumpyPolicy":
        """The same policy in numpy; on the CPU it shares the parameters' memory."""
        layers = [*self.encoder.layers, self.policy_head]
        return NumpyPolicy([(_array(layer.weight), _array(layer.bias)) for layer in layers])


class NumpyPolicy:
    """The policy's forward pass for one observation, several times faster than in torch.

    Args:
        layers: weight (out, in) and bias (out,) of the hidden layers and of the policy head.
    """

    def __init__(self, layers: list[tuple[Array, Array]]) -> None:
        self._layers = layers
        self._hidden = [
            (weight, bias, np.empty(len(bias), np.float32)) for weight, bias in layers[:-1]
        ]
        self._head_weight, self._head_bias = layers[-1]

    def __call__(self, observation: Array) -> Array:
        """(d_x,) float32 observation -> (size,) outputs of the policy head."""
        x = observation
        for weight, bias, buffer in self._hidden:
            weight.dot(x, buffer)
            np.add(buffer, bias, buffer)
            x = np.tanh(buffer, buffer)
        outputs: Array = self._head_weight.dot(x)
        outputs += self._head_bias
        return outputs

    def __reduce__(self) -> tuple[type["NumpyPolicy"], tuple[list[tuple[Array, Array]]]]:
        return NumpyPolicy, (self._layers,)


def observation_size(space: gym.Space) -> int:
    """Number of features of a flattened observation.

    Raises:
        ValueError: observations are not arrays (Box).
    """
    if not isinstance(space, gym.spaces.Box):
        raise ValueError(
            f"unsupported observation space {space}: only Box observations are trained on; wrap "
            "the environment, for example in gymnasium.wrappers.FlattenObservation"
        )
    return math.prod(space.shape)


def _array(parameter: Tensor) -> Array:
    array: Array = parameter.detach().cpu().numpy()
    return array
