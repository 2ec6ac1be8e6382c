"""Activations with their derivatives by hand."""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import scipy  # loads its `special` when asked
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rllib_lpdm.local_learning import torch_internals

Array = NDArray[Any]

LEAKY_RELU_SLOPE: Final = 0.01
ELU_ALPHA: Final = 1.0


class Activation(NamedTuple):
    """An activation ``y = f(z)``, elementwise.

    Attributes:
        function: z -> y, differentiable by autograd.
        in_place: z -> y written over z, where y suffices for the derivative; else a new y, so that
            in either case the tensor passed in is what ``backward`` needs afterwards.
        backward: (gradient by y, the tensor that was passed to ``in_place``) -> gradient by z.
        in_numpy: z -> y for acting, which may write over z.
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    in_numpy: Callable[[Array], Array]


def _tanh_in_numpy(z: Array) -> Array:
    return np.tanh(z, z)


def _relu_in_numpy(z: Array) -> Array:
    return np.maximum(z, 0, z)


def _leaky_relu(z: Tensor) -> Tensor:
    return functional.leaky_relu(z, LEAKY_RELU_SLOPE)


def _leaky_relu_in_place(z: Tensor) -> Tensor:
    return functional.leaky_relu_(z, LEAKY_RELU_SLOPE)


def _leaky_relu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    return torch_internals.leaky_relu_backward(gradient, y, LEAKY_RELU_SLOPE)


def _leaky_relu_in_numpy(z: Array) -> Array:
    return np.maximum(z, LEAKY_RELU_SLOPE * z)


def _elu(z: Tensor) -> Tensor:
    return functional.elu(z, ELU_ALPHA)


def _elu_in_place(z: Tensor) -> Tensor:
    return functional.elu_(z, ELU_ALPHA)


def _elu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    return torch_internals.elu_backward(gradient, y, ELU_ALPHA)


def _elu_in_numpy(z: Array) -> Array:
    return np.where(z > 0, z, ELU_ALPHA * np.expm1(np.minimum(z, 0)))


def _gelu_in_numpy(z: Array) -> Array:
    y: Array = 0.5 * z * (1 + scipy.special.erf(z * np.float32(math.sqrt(0.5))))
    return y


def _silu_in_numpy(z: Array) -> Array:
    y: Array = z * scipy.special.expit(z)
    return y


TANH: Final = Activation(torch.tanh, torch.tanh_, torch_internals.tanh_backward, _tanh_in_numpy)
RELU: Final = Activation(torch.relu, torch.relu_, torch_internals.relu_backward, _relu_in_numpy)
LEAKY_RELU: Final = Activation(
    _leaky_relu, _leaky_relu_in_place, _leaky_relu_backward, _leaky_relu_in_numpy
)
ELU: Final = Activation(_elu, _elu_in_place, _elu_backward, _elu_in_numpy)
GELU: Final = Activation(
    functional.gelu, functional.gelu, torch_internals.gelu_backward, _gelu_in_numpy
)
SILU: Final = Activation(
    functional.silu, functional.silu, torch_internals.silu_backward, _silu_in_numpy
)
