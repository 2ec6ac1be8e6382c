"""Activations with their derivatives by hand, and functions without a derivative."""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import scipy  # loads its `special` when it is used
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rllib_lpdm.local_learning import torch_internals

Array = NDArray[Any]

LEAKY_RELU_SLOPE: Final = 0.01  # the default of torch.nn.functional, as is the next
ELU_ALPHA: Final = 1.0
QUANTISATION_STEP: Final = 0.25


class Activation(NamedTuple):
    """An activation ``y = f(z)``, elementwise.

    Attributes:
        function: z -> y, differentiable by autograd.
        in_place: z -> y. It writes y over z where ``backward`` needs y alone, else into a new
            tensor. In either case ``backward`` then needs the tensor that was passed in.
        backward: (gradient by y, the tensor that was passed to ``in_place``) -> gradient by z.
        in_numpy: z -> y for acting, which may write over z.
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    in_numpy: Callable[[Array], Array]


TANH: Final = Activation(
    torch.tanh, torch.tanh_, torch_internals.tanh_backward, lambda z: np.tanh(z, z)
)
RELU: Final = Activation(
    torch.relu, torch.relu_, torch_internals.relu_backward, lambda z: np.maximum(z, 0, z)
)
LEAKY_RELU: Final = Activation(
    functional.leaky_relu,
    functional.leaky_relu_,
    lambda gradient, y: torch_internals.leaky_relu_backward(gradient, y, LEAKY_RELU_SLOPE),
    lambda z: np.maximum(z, LEAKY_RELU_SLOPE * z),
)
ELU: Final = Activation(
    functional.elu,
    functional.elu_,
    lambda gradient, y: torch_internals.elu_backward(gradient, y, ELU_ALPHA),
    lambda z: np.where(z > 0, z, ELU_ALPHA * np.expm1(np.minimum(z, 0))),
)
GELU: Final = Activation(
    functional.gelu,
    functional.gelu,
    torch_internals.gelu_backward,
    lambda z: 0.5 * z * (1 + scipy.special.erf(z * np.float32(math.sqrt(0.5)))),
)
SILU: Final = Activation(
    functional.silu,
    functional.silu,
    torch_internals.silu_backward,
    lambda z: z * scipy.special.expit(z),
)


# Black boxes between hidden layers. A layer's local loss sees its output before the function, and
# needs no derivative of it.


def quantise(x: Tensor) -> Tensor:
    """Rounds to the nearest multiple of 1/4, halves to the even one; the shape stays."""
    return torch.round(x / QUANTISATION_STEP).mul_(QUANTISATION_STEP)


def sign(x: Tensor) -> Tensor:
    """Returns -1, 0 or 1 by the sign of each entry; the shape stays."""
    return torch.sign(x)
