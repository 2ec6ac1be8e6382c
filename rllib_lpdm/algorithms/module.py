"""The actor-critic RLModule over a :class:`LocalMLP`."""

import copy
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_lpdm.algorithms.acting import (
    KernelPolicy,
    NumpyPolicy,
    Policy,
    TorchPolicy,
    acts_by_kernel,
)
from rllib_lpdm.algorithms.distributions import FixedGaussian, action_distribution
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.local_learning import LocalMLP
from rllib_lpdm.local_learning.distances import MetricLike
from rllib_lpdm.methods.method import Heads
from rllib_lpdm.schema.registry import BLACK_BOXES, METRICS


class ActorCriticModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Shared hidden layers, a policy head and, where the algorithm learns one, a value head.

    ``model_config`` holds ``hidden_sizes``, ``conv_layers``, ``activation``, ``black_box``,
    ``action_std``, ``initialization``, ``hidden_gain``, ``head_gain``, ``value_head``,
    ``local_heads`` and ``seed``. The run's seed draws the weights, as PyTorch does by default or
    "orthogonal" or "xavier". With ``local_heads`` every hidden layer has its own heads, and the
    last layer's are the network's. "mean" acts by the mean of all, "last" by the network's.

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
        """The heads of every hidden layer, where each has its own; the network's are last."""
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

        For a convolution images (height, width, channels) are turned to channels first, and bytes
        scaled to [0, 1].
        """
        size = math.prod(observations.shape[1:])  # reshape(N, -1) fails where there are no rows
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
        """``(N, *observation shape)`` -> inputs of RLlib's distributions, and the features.

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

    def numpy_policy(self) -> Policy:
        """Returns a policy for acting, with the parameters as they are now.

        With convolutions, or where the mean of several heads acts, the module itself acts in torch.
        If it is on a GPU, a copy does.
        """
        if self.model_config["conv_layers"] or self._acts_by_mean:
            on_cpu = self.policy_head.weight.device.type == "cpu"
            return TorchPolicy(self if on_cpu else copy.deepcopy(self).cpu())
        modules = [*self.encoder.layers, self.policy_head]
        layers = [
            (module.weight.detach().cpu().numpy(), module.bias.detach().cpu().numpy())
            for module in modules
        ]
        activation, black_box = self.encoder.activation, self.encoder.black_box
        if acts_by_kernel(activation, black_box):
            return KernelPolicy(layers)
        return NumpyPolicy(layers, activation, black_box)


def observation_size(space: gym.Space) -> int:
    """Returns the number of features of an observation; raises ValueError unless it is an array."""
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
    """Returns the hidden layers over an environment's observations.

    The arguments after the observation space are those of :class:`LocalMLP`.

    Raises:
        ValueError: the observations are no arrays; or, with convolutions, no images, or smaller
            than a kernel.
    """
    size, shape, image_shape = observation_size(space), space.shape or (), None
    if conv_layers:
        if len(shape) != 3:
            raise ValueError(
                f"conv_layers need observations of shape (height, width, channels), got {space}; "
                "wrap the environment, or leave conv_layers out"
            )
        height, width, channels = shape
        image_shape = channels, height, width
    return LocalMLP(
        size,
        hidden_sizes,
        activation,
        black_box,
        conv_layers=conv_layers,
        image_shape=image_shape,
    )


def metric_function(name: str) -> MetricLike:
    """Returns a metric's name, or the function of a dotted name; raises ValueError without one."""
    return name if name in METRICS else _imported(name, "metric")


def black_box_function(name: str | None) -> Callable[[Tensor], Tensor] | None:
    """Returns the function between hidden layers; raises ValueError if there is none."""
    return None if name is None else BLACK_BOXES.get(name) or _imported(name, "black_box")


def _imported(name: str, kind: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the user's module may raise anything
        reason = str(error) or type(error).__name__
        raise ValueError(f"{kind} {name!r} cannot be imported: {reason}") from None
    if not callable(found):
        raise ValueError(f"{kind} {name!r} is no function")
    return found
