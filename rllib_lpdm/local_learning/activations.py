"""Activations with their derivatives by hand."""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LEAKY_RELU_SLOPE: Final = 0.01
ELU_ALPHA: Final = 1.0


class Activation(NamedTuple):
    """An activation ``y = f(z)``, elementwise.

    Attributes:
        function: z -> y, differentiable by autograd.
        in_place: z -> y written over z, where y suffices for the derivative; else a new y, so that
            in either case the tensor passed in is what ``backward`` needs afterwards.
        backward: (gradient by y, the tensor that was passed to ``in_place``) -> gradient by z.
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _leaky_relu(z: Tensor) -> Tensor:
    return functional.leaky_relu(z, LEAKY_RELU_SLOPE)


def _leaky_relu_in_place(z: Tensor) -> Tensor:
    return functional.leaky_relu_(z, LEAKY_RELU_SLOPE)


def _leaky_relu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    by_z: Tensor = torch.ops.aten.leaky_relu_backward.default(gradient, y, LEAKY_RELU_SLOPE, True)
    return by_z


def _relu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    by_z: Tensor = torch.ops.aten.threshold_backward.default(gradient, y, 0)
    return by_z


def _elu(z: Tensor) -> Tensor:
    return functional.elu(z, ELU_ALPHA)


def _elu_in_place(z: Tensor) -> Tensor:
    return functional.elu_(z, ELU_ALPHA)


def _elu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    by_z: Tensor = torch.ops.aten.elu_backward.default(gradient, ELU_ALPHA, 1.0, 1.0, True, y)
    return by_z


#: Every activation by its name.
ACTIVATIONS: Final = {
    "tanh": Activation(torch.tanh, torch.tanh_, torch.ops.aten.tanh_backward.default),
    "relu": Activation(torch.relu, torch.relu_, _relu_backward),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_in_place, _leaky_relu_backward),
    "elu": Activation(_elu, _elu_in_place, _elu_backward),
    "gelu": Activation(functional.gelu, functional.gelu, torch.ops.aten.gelu_backward.default),
    "silu": Activation(functional.silu, functional.silu, torch.ops.aten.silu_backward.default),
}
