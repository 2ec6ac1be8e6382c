"""The undocumented parts of torch that this package uses, each with its reason.

A new version of torch may change them. Then ``tests/local_learning/test_internals.py`` fails and
says which, and this file is the one place to mend.
"""

import inspect
from typing import Final

import torch
from torch import Tensor

# -- derivatives, which torch offers through autograd only ----------------------------------------
# Autograd would need a graph for each layer. At a hundred rows it costs more than the derivative.

tanh_backward: Final = torch.ops.aten.tanh_backward.default
gelu_backward: Final = torch.ops.aten.gelu_backward.default
silu_backward: Final = torch.ops.aten.silu_backward.default


def relu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    """Returns the gradient by z of ``y = relu(z)``."""
    by_z: Tensor = torch.ops.aten.threshold_backward.default(gradient, y, 0)
    return by_z


def leaky_relu_backward(gradient: Tensor, y: Tensor, slope: float) -> Tensor:
    """Returns the gradient by z of ``y = leaky_relu(z)``."""
    by_z: Tensor = torch.ops.aten.leaky_relu_backward.default(gradient, y, slope, True)
    return by_z


def elu_backward(gradient: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Returns the gradient by z of ``y = elu(z)``."""
    by_z: Tensor = torch.ops.aten.elu_backward.default(gradient, alpha, 1.0, 1.0, True, y)
    return by_z


def pdist_backward(gradient: Tensor, x: Tensor, p: float, distances: Tensor) -> Tensor:
    """Returns the (N, d) gradient by x from the gradient by ``torch.pdist(x, p)``."""
    by_x: Tensor = torch.ops.aten._pdist_backward.default(gradient, x, p, distances)
    return by_x


def conv2d_backward(
    gradient: Tensor, images: Tensor, weight: Tensor, stride: tuple[int, ...]
) -> list[Tensor]:
    """Returns the gradients of weight and bias of a convolution without padding.

    The public ``torch.nn.grad.conv2d_weight`` leaves out the bias. A sum over rows and places would
    differ in its last bits from the operator's.

    Args:
        gradient: (N, filters, height', width') by the feature maps.
        images: (N, channels, height, width).
        weight: (filters, channels, kernel, kernel).
        stride: of both dimensions.
    """
    no_padding, undilated, wanted = [0, 0], [1, 1], [False, True, True]
    _, by_weight, by_bias = torch.ops.aten.convolution_backward.default(
        gradient,
        images,
        weight,
        [len(weight)],
        stride,
        no_padding,
        undilated,
        False,
        [0, 0],
        1,
        wanted,
    )
    return [by_weight, by_bias]


# -- the optimizer ---------------------------------------------------------------------------------

# ``Adam.step()`` spends most of a small layer's time on bookkeeping around this kernel.
fused_adam: Final = torch._fused_adam_

# torch wraps these to keep its compiler away from them, and imports the compiler for that: a second
# of every process.
add_param_group: Final = inspect.unwrap(torch.optim.Adam.add_param_group)
state_dict: Final = inspect.unwrap(torch.optim.Adam.state_dict)
load_state_dict: Final = inspect.unwrap(torch.optim.Adam.load_state_dict)
