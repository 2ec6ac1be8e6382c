"""The actor-critic RLModule over a :class:`LocalMLP`, and its numpy twin for acting."""

import copy
import math
from collections.abc import Callable, Sequence
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
from rllib_lpdm.algorithms.functions import black_box_function
from rllib_lpdm.algorithms.kernel_policy import KernelPolicy, acts_by_kernel
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.local_learning import ACTIVATIONS, LocalMLP
from rllib_lpdm.methods.method import Heads

Array = NDArray[Any]


class ActorCriticModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Shared hidden layers, a policy head and, where the algorithm learns one, a value head.

    ``model_config`` holds ``hidden_sizes``, ``conv_layers``, ``activation``, ``black_box``,
    ``action_std``, ``initialization``, ``hidden_gain``, ``head_gain``, ``value_head``,
    ``local_heads`` and ``seed``. The run's seed draws the weights: as PyTorch does by default,
    "orthogonal" or "xavier". With ``local_heads`` every hidden layer has its own heads, the last
    one the network's: "mean" acts by the mean of their outputs, "last" by the network's alone.

    Raises:
        ValueError: the observation space is not a Box, or the action space is not supported.
    """

    def setup(self) -> None:
        config = self.model_config
        self.distribution = action_distribution(self.action_space, config["action_std"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(stream(config["seed"], Purpose.INITIALISATION)))
            self.encoder = hidden_layers(
                self.observation_space,
                config["hidden_sizes"],
                config["conv_layers"],
                config["activation"],
                black_box_function(config["black_box"]),
            )
            self.policy_head = nn.Linear(self.encoder.output_size, self.distribution.size)
            self.value_head: nn.Linear | None = (
                nn.Linear(self.encoder.output_size, 1) if config["value_head"] else None
            )
            # Drawn last: all else starts as it does without them.
            sizes = self.encoder.output_sizes[:-1] if config["local_heads"] else []
            self.local_policy_heads = nn.ModuleList(
                nn.Linear(size, self.distribution.size) for size in sizes
            )
            self.local_value_heads = nn.ModuleList(
                nn.Linear(size, 1) for size in sizes if config["value_head"]
            )
            if config["initialization"] != "torch":
                self._initialise(config)
        if isinstance(self.distribution, FixedGaussian):
            log_std = torch.full((self.distribution.size,), float(np.log(self.distribution.std)))
            self.register_buffer("log_std", log_std, persistent=False)

    def get_non_inference_attributes(self) -> list[str]:
        acting = self.model_config["local_heads"] == "mean"
        return ["value_head", "local_value_heads", *([] if acting else ["local_policy_heads"])]

    @property
    def heads(self) -> list[Heads]:
        """Every hidden layer's, where each has its own, and last the network's."""
        policies: list[Any] = list(self.local_policy_heads)
        values: list[Any] = list(self.local_value_heads) or [None] * len(policies)
        pairs = enumerate(zip(policies, values, strict=True), 1)
        of_layers = [Heads(*pair, f"_{number}") for number, pair in pairs]
        return [*of_layers, Heads(self.policy_head, self.value_head)]

    def features(self, observations: Tensor) -> Tensor:
        """``(N, *observation shape)`` -> (N, output_size) of the last hidden layer."""
        features: Tensor = self.encoder(self.inputs(observations))
        return features

    def policy(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, *observation shape)`` -> (N, size) outputs that act, (N, output_size) features."""
        if not self._acts_by_mean:
            features = self.features(observations)
            return self.policy_head(features), features
        policies = [*self.local_policy_heads, self.policy_head]
        of_layers = self.encoder.outputs(self.inputs(observations))
        outputs = []
        for head, features in zip(policies, of_layers, strict=True):
            outputs.append(head(features))
        return torch.stack(outputs).mean(0), features

    def inputs(self, observations: Tensor) -> Tensor:
        """``(N, *observation shape)``, flattened or not -> (N, d_x) inputs of the first layer.

        Where it is a convolution, images (height, width, channels) are turned to channels first,
        and bytes scaled to [0, 1].
        """
        size = math.prod(observations.shape[1:])  # said, because there may be no rows
        flat = observations.reshape(observations.shape[0], size).float()
        if not self.model_config["conv_layers"]:
            return flat
        images = flat.view(-1, *self.observation_space.shape).permute(0, 3, 1, 2)
        scale = 255.0 if self.observation_space.dtype == np.uint8 else 1.0
        return images.flatten(1) / scale

    def values(self, features: Tensor) -> Tensor:
        """(N, output_size) -> (N,) values in normalised returns; zeros without a value head."""
        value_head = getattr(self, "value_head", None)  # inference-only copies have none
        return Heads(self.policy_head, value_head).values(features)

    def _initialise(self, config: dict[str, Any]) -> None:
        """Draws weights anew, orthogonal with gains or by Glorot and Bengio (2010); no biases."""
        values = [self.value_head] if self.value_head is not None else []
        gains: list[tuple[float, list[Any]]] = [
            (config["hidden_gain"], [*self.encoder.layers]),
            (config["head_gain"], [self.policy_head, *self.local_policy_heads]),
            (1.0, [*values, *self.local_value_heads]),
        ]
        for gain, layers in gains:
            for layer in layers:
                if config["initialization"] == "orthogonal":
                    nn.init.orthogonal_(layer.weight, gain)
                else:
                    nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    @property
    def _acts_by_mean(self) -> bool:
        return self.model_config["local_heads"] == "mean" and len(self.local_policy_heads) > 0

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """``(N, *observation shape)`` -> what RLlib's distributions take, and the features.

        Action distribution inputs are (N, actions) logits, or (N, 2 * actions) means and the
        constant log of the standard deviation.
        """
        outputs, features = self.policy(batch[Columns.OBS])
        if isinstance(self.distribution, FixedGaussian):
            outputs = torch.cat([outputs, self.log_std.expand_as(outputs)], dim=1)
        return {Columns.ACTION_DIST_INPUTS: outputs, Columns.EMBEDDINGS: features}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """``(N, *observation shape)``, or (N, output_size) features -> (N,) values."""
        return self.values(self.features(batch[Columns.OBS]) if embeddings is None else embeddings)

    def numpy_policy(self) -> "Policy":
        """The same policy for acting, of the parameters as they are now.

        With convolutions, or where the mean of several heads acts, it is the module itself, which
        acts in torch; of one on a GPU, a copy.
        """
        if self.model_config["conv_layers"] or self._acts_by_mean:
            on_cpu = self.policy_head.weight.device.type == "cpu"
            return TorchPolicy(self if on_cpu else copy.deepcopy(self).cpu())
        modules = [*self.encoder.layers, self.policy_head]
        layers = [(_array(module.weight), _array(module.bias)) for module in modules]
        activation, black_box = self.encoder.activation, self.encoder.black_box
        if acts_by_kernel(activation, black_box):
            return KernelPolicy(layers)
        return NumpyPolicy(layers, activation, black_box)


class NumpyPolicy:
    """The policy's forward pass for one observation, several times faster than in torch.

    Args:
        layers: weight (out, in) and bias (out,) of the hidden layers and of the policy head.
        activation: of the hidden layers, by name.
        black_box: (1, d) -> (1, d), after every hidden layer but the last.
    """

    def __init__(
        self,
        layers: list[tuple[Array, Array]],
        activation: str = "tanh",
        black_box: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._arguments = layers, activation, black_box
        self._activate, self._black_box = ACTIVATIONS[activation].in_numpy, black_box
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
            x = self._activate(buffer)
            if self._black_box is not None and buffer is not self._hidden[-1][2]:
                x = self._black_box(torch.from_numpy(x).unsqueeze(0)).squeeze(0).detach().numpy()
        outputs: Array = self._head_weight.dot(x)
        outputs += self._head_bias
        return outputs

    def __reduce__(self) -> tuple[type["NumpyPolicy"], tuple[Any, ...]]:
        return NumpyPolicy, self._arguments


class TorchPolicy:
    """The policy's forward pass for one observation in torch, with convolutions or several heads.

    Args:
        module: the actor-critic, which is copied when the policy is sent to another process.
    """

    def __init__(self, module: ActorCriticModule) -> None:
        self._module = module

    def __call__(self, observation: Array) -> Array:
        """(d_x,) float32 observation -> (size,) outputs of the policy head."""
        with torch.inference_mode():
            outputs, _ = self._module.policy(torch.from_numpy(observation).unsqueeze(0))
            array: Array = outputs.squeeze(0).numpy()
        return array


Policy = KernelPolicy | NumpyPolicy | TorchPolicy


def observation_size(space: gym.Space) -> int:
    """Number of features of a flattened observation.

    Raises:
        ValueError: observations are not arrays (Box).
    """
    if not isinstance(space, gym.spaces.Box):
        raise ValueError(
            f"unsupported observation space {space}: only Box observations are trained on; wrap "
            "the environment in gymnasium.wrappers.FlattenObservation, in an experiment file by "
            "wrappers: [FlattenObservation]"
        )
    return math.prod(space.shape)


def hidden_layers(
    space: gym.Space,
    hidden_sizes: Sequence[int],
    conv_layers: Sequence[tuple[int, int, int]] = (),
    activation: str = "tanh",
    black_box: Callable[[Tensor], Tensor] | None = None,
) -> LocalMLP:
    """The hidden layers over an environment's observations.

    Args:
        space: of the observations.
        hidden_sizes: see :class:`LocalMLP`, as the other arguments.
        conv_layers: filters, kernel and stride.
        activation: its name.
        black_box: between the layers.

    Raises:
        ValueError: the observations are no arrays; or, with convolutions, no images, or smaller
            than a kernel.
    """
    return LocalMLP(
        observation_size(space),
        hidden_sizes,
        activation,
        black_box,
        conv_layers=conv_layers,
        image_shape=image_shape(space) if conv_layers else None,
    )


def image_shape(space: gym.Space) -> tuple[int, int, int]:
    """Channels, height and width of an image observation.

    Raises:
        ValueError: the observations are no images.
    """
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 3:
        raise ValueError(
            f"conv_layers need observations of shape (height, width, channels), got {space}; wrap "
            "the environment, or leave conv_layers out"
        )
    height, width, channels = space.shape
    return channels, height, width


def _array(parameter: Tensor) -> Array:
    array: Array = parameter.detach().cpu().numpy()
    return array
