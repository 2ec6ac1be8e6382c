"""A network whose hidden layers train themselves while a batch passes through them (section 3)."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_lpdm.local_learning.losses import distance_error, has_structure, matching_step
from rllib_lpdm.local_learning.optimizer import LayerAdam
from rllib_lpdm.local_learning.targets import target_distances


class LayerStep(NamedTuple):
    """What one layer did in one local update.

    Attributes:
        loss: the layer's distance-matching loss before the step.
        error: see :func:`~rllib_lpdm.local_learning.losses.distance_error`; before the step, 0
            where it was not asked for.
        gradient_norm: Euclidean norm over weight and bias, before clipping.
        skipped: whether loss or gradient was not finite, so that no step was made.
    """

    loss: float
    gradient_norm: float
    skipped: bool
    error: float = 0.0


class LocalMLP(nn.Module):
    """Hidden layers ``tanh(h W^T + b)``, trained by backpropagation or each by itself.

    Calling the module is an ordinary forward pass, which autograd may record. :meth:`learn` is the
    paper's method: one forward pass, without autograd, in which every layer makes its own step.

    Args:
        input_size: number of input features d_x.
        hidden_sizes: number of units of each hidden layer; may be empty.
    """

    def __init__(self, input_size: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        widths = [input_size, *hidden_sizes]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(widths)
        )
        self.output_size = widths[-1]

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The hidden layers, input side first."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """(N, d_x) inputs -> (N, output_size) features."""
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x

    @torch.no_grad()
    def learn(
        self,
        x: Tensor,
        optimizers: Sequence[LayerAdam],
        *,
        values: Tensor | None = None,
        rows: Tensor | None = None,
        max_gradient_norm: float | None = None,
        metric: str = "l1",
        with_error: bool = False,
    ) -> tuple[Tensor, list[LayerStep]]:
        """One forward pass in which each layer matches the pairwise distances of the input.

        A layer sees its own input and output only: forward, gradient by hand, step, drop. No
        autograd graph is built and nothing is kept for a later pass, so peak memory does not grow
        with depth. The outputs handed on are those from before the layer's step.

        Args:
            x: (N, d_x) input batch.
            optimizers: one per hidden layer, each over that layer's weight and bias.
            values: (N,) values that guide the target (section 3.2); None for the unsupervised loss.
            rows: (M,) indices of the rows whose distances are matched; None for all. The cost of
                the local losses then grows with M instead of N.
            max_gradient_norm: each layer's gradient is scaled down to this norm.
            metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
            with_error: measure every layer's distance error too.

        Returns:
            (N, output_size) features and one :class:`LayerStep` per hidden layer.

        Raises:
            ValueError: the number of optimizers is not the number of layers, or shapes do not fit.
        """
        if len(optimizers) != len(self.layers):
            raise ValueError(
                f"{len(self.layers)} hidden layers need as many optimizers, got {len(optimizers)}"
            )
        if rows is None:
            target = target_distances(x, values, metric)
        else:
            target = target_distances(x[rows], None if values is None else values[rows], metric)
        structured = has_structure(target)
        steps = []
        for layer, optimizer in zip(self.linear_layers, optimizers, strict=True):
            y = functional.linear(x, layer.weight, layer.bias).tanh_()
            step = LayerStep(0.0, 0.0, False)
            if structured:
                layer_input, output = (x, y) if rows is None else (x[rows], y[rows])
                loss, gradient, distances = matching_step(output, target, metric)
                error = distance_error(distances, target) if with_error else 0.0
                gradient = torch.ops.aten.tanh_backward.default(gradient, output)
                norm, skipped = step_linear(
                    layer, optimizer, layer_input, gradient, max_gradient_norm
                )
                step = LayerStep(loss, norm, skipped or not math.isfinite(loss), error)
            steps.append(step)
            x = y
        return x, steps


def step_linear(
    layer: nn.Linear,
    optimizer: LayerAdam,
    inputs: Tensor,
    output_gradient: Tensor,
    max_gradient_norm: float | None = None,
) -> tuple[float, bool]:
    """One optimizer step of a linear layer from the gradient with respect to its outputs.

    Call it under ``torch.no_grad()``.

    Args:
        layer: the layer, ``z = h W^T + b``.
        optimizer: over the layer's weight and bias, in this order.
        inputs: (N, d_h) the layer's inputs h.
        output_gradient: (N, d_z) gradient of the loss with respect to z.
        max_gradient_norm: the gradient is scaled down to this norm.

    Returns:
        As :func:`clipped_step`.
    """
    return clipped_step(
        optimizer, [output_gradient.t() @ inputs, output_gradient.sum(0)], max_gradient_norm
    )


def clipped_step(
    optimizer: LayerAdam, gradients: list[Tensor], max_gradient_norm: float | None = None
) -> tuple[float, bool]:
    """One optimizer step, with the gradients scaled down to a norm over all of them.

    Call it under ``torch.no_grad()``. Nothing is stepped where the gradient is exactly zero (there
    is nothing to learn, and Adam's momentum must not move the parameters) or not finite.

    Args:
        optimizer: over the parameters.
        gradients: one per parameter of the optimizer; may be scaled in place.
        max_gradient_norm: largest Euclidean norm over all gradients; None for no limit.

    Returns:
        The norm before clipping, and whether the step was skipped as not finite.
    """
    norm = math.hypot(*(torch.linalg.vector_norm(g).item() for g in gradients))
    if not math.isfinite(norm):
        return norm, True
    if norm > 0.0:
        excess = 1.0 if max_gradient_norm is None else norm / max_gradient_norm
        optimizer.apply(gradients, divisor=excess if excess > 1.0 else None)
    return norm, False
