"""Policies that act: the forward pass for one observation, in compiled loops, numpy or torch."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_lpdm.local_learning import ACTIVATIONS
from rllib_lpdm.local_learning.kernels import compile_kernels, forward

Array = NDArray[Any]
Layers = list[tuple[Array, Array]]


def acts_by_kernel(activation: str, black_box: object = None) -> bool:
    """Whether :class:`KernelPolicy` plays a policy of fully connected layers."""
    return activation == "tanh" and black_box is None and not numba.config.DISABLE_JIT


class KernelPolicy:
    """A policy in compiled loops, with tanh after the hidden layers.

    Args:
        layers: weight (out, in) and bias (out,) of the hidden layers and of the policy head, which
            are copied.
    """

    def __init__(self, layers: Layers) -> None:
        compile_kernels()
        self._packed = forward.packed(layers)

    def __call__(self, observation: Array) -> Array:
        """(d_x,) float32 observation -> (size,) outputs of the policy head."""
        outputs: Array = forward.forward(observation, *self._packed)
        return outputs

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a policy in another process; its arrays in Ray's store are read-only there."""
        compile_kernels()
        parameters, sizes = state["_packed"]
        self._packed = parameters.copy(), sizes.copy()


class NumpyPolicy:
    """A policy in numpy, several times faster than in torch.

    Args:
        layers: weight (out, in) and bias (out,) of the hidden layers and of the policy head.
        activation: of the hidden layers, by name.
        black_box: (1, d) -> (1, d), after every hidden layer but the last.
    """

    def __init__(
        self,
        layers: Layers,
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
    """A policy in torch, with convolutions or several heads.

    Args:
        module: its ``policy`` gives (N, size) outputs and features of ``(N, *observation shape)``.
            It is copied when the policy is sent to another process.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, observation: Array) -> Array:
        """(d_x,) float32 observation -> (size,) outputs of the policy head."""
        with torch.inference_mode():
            outputs, _ = self._module.policy(torch.from_numpy(observation).unsqueeze(0))
            array: Array = outputs.squeeze(0).numpy()
        return array


Policy = KernelPolicy | NumpyPolicy | TorchPolicy
