"""A network whose hidden layers train themselves while a batch passes through them (section 3)."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rllib_lpdm.local_learning.activations import Activation
from rllib_lpdm.local_learning.distances import MetricLike
from rllib_lpdm.local_learning.layers import convolutions
from rllib_lpdm.local_learning.neighbours import neighbour_pairs
from rllib_lpdm.local_learning.optimizer import LayerAdam
from rllib_lpdm.local_learning.pair_matching import matching_for
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, WholeBatch
from rllib_lpdm.local_learning.targets import RunningMaximum
from rllib_lpdm.schema.registry import ACTIVATIONS, Scaling


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


class LayerPass(NamedTuple):
    """A hidden layer's part of a forward pass without autograd.

    Attributes:
        layer: which computes z of its inputs.
        inputs: (N, d_h).
        outputs: (N, d_y) of its activation.
        kept: (N, d_y) z, or the outputs written over it where these suffice for the derivative.
        activation: which it is.
    """

    layer: nn.Module
    inputs: Tensor
    outputs: Tensor
    kept: Tensor
    activation: Activation

    def by_sums(self, gradient: Tensor) -> Tensor:
        """(N, d_y) gradient by the outputs -> gradient by z."""
        return self.activation.backward(gradient, self.kept)


class LocalMLP(nn.Module):
    """Hidden layers ``f(h W^T + b)``, trained by backpropagation or each by itself.

    Calling the module is an ordinary forward pass, which autograd may record. :meth:`learn` is the
    paper's method: one forward pass, without autograd, in which every layer makes its own step.

    Args:
        input_size: number of input features d_x.
        hidden_sizes: number of units of each fully connected hidden layer; may be empty.
        activation: one of :data:`~rllib_lpdm.local_learning.activations.ACTIVATIONS`.
        black_box: applied to the outputs of every hidden layer but the last on their way to the
            next one; (N, d) -> (N, d), a new tensor. A local loss sees the outputs before it, so
            that it needs no derivative.
        conv_layers: filters, kernel and stride of the convolutions that come before the fully
            connected layers. Inputs are then flattened images, channels first.
        image_shape: (channels, height, width) of the inputs; only with convolutions.

    Raises:
        ValueError: unknown activation, image and input size that do not fit, or an image smaller
            than a layer's kernel.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        activation: str = "tanh",
        black_box: Callable[[Tensor], Tensor] | None = None,
        *,
        conv_layers: Sequence[tuple[int, int, int]] = (),
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}"
            )
        if conv_layers and (image_shape is None or math.prod(image_shape) != input_size):
            raise ValueError(
                f"conv_layers need inputs of image_shape (channels, height, width): {input_size} "
                f"features are no image of {image_shape}"
            )
        images = convolutions(image_shape, conv_layers) if image_shape is not None else []
        flat_size = math.prod(images[-1].output_shape) if images else input_size
        widths = [flat_size, *hidden_sizes]
        self.output_sizes = [*(math.prod(image.output_shape) for image in images), *hidden_sizes]
        self.layers = nn.ModuleList(
            [*images, *(nn.Linear(*sizes) for sizes in itertools.pairwise(widths))]
        )
        self.activation = activation
        self.black_box = black_box
        self.output_size = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, d_x) inputs -> (N, output_size) features."""
        activate = ACTIVATIONS[self.activation].function
        for place, layer in enumerate(self.layers, 1):
            x = self._handed_on(activate(layer(x)), place)
        return x

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """(N, d_x) inputs -> (N, d_y) outputs of one hidden layer after another."""
        activate = ACTIVATIONS[self.activation].function
        for place, layer in enumerate(self.layers, 1):
            y = activate(layer(x))
            yield y
            x = self._handed_on(y, place)

    def passes(self, x: Tensor, shards: WholeBatch = WHOLE_BATCH) -> Iterator[LayerPass]:
        """A forward pass without autograd, one layer after another, which may then make a step.

        The outputs handed on are those from before the step. Call it under ``torch.no_grad()``.

        Args:
            x: (N, d_x) input batch.
            shards: as in :meth:`learn`.
        """
        activation = ACTIVATIONS[self.activation]
        for place, layer in enumerate(self.layers, 1):
            z = shards.forward(layer.forward, x)
            y = activation.in_place(z)
            yield LayerPass(layer, x, y, z, activation)
            x = self._handed_on(y, place)

    @torch.no_grad()
    def learn(
        self,
        x: Tensor,
        optimizers: Sequence[LayerAdam],
        *,
        values: Tensor | None = None,
        rows: Tensor | None = None,
        max_gradient_norm: float | None = None,
        metric: MetricLike = "l1",
        neighbours: str = "all",
        fraction: float = 0.5,
        propagate_error: bool = False,
        scaling: Scaling = "own",
        maximum: RunningMaximum | None = None,
        original: bool = False,
        with_error: bool = False,
        shards: WholeBatch = WHOLE_BATCH,
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
            neighbours: which of these rows' pairs are matched (appendix A), selected once from the
                input batch: see :func:`~rllib_lpdm.local_learning.neighbours.neighbour_pairs`.
            fraction: share of the other rows that a row keeps; without meaning for "all".
            propagate_error: instead of the network's input, a layer matches its own input, scaled
                by the previous layer's error (appendix B).
            scaling: the divisors of the distances. All but the last divide both matrices by their
                maximum.

                - "own": also the inputs' by d_x and the outputs' by d_y.
                - "target": also the inputs' by d_x.
                - "none": by nothing else.
                - "absolute": the inputs' by their maximum alone, the outputs' by d_y alone.
            maximum: of the targets so far, which takes in this one, to divide the target by; None
                for its own. Not with ``propagate_error``, whose layers have targets of their own.
            original: values guide the input's distances as they are, not over their maximum.
            with_error: measure every layer's distance error too.
            shards: whose rows this process computes, where several train these layers: see
                :class:`~rllib_lpdm.local_learning.shards.Shards`.

        Returns:
            (N, output_size) features and one :class:`LayerStep` per hidden layer.

        Raises:
            ValueError: the number of optimizers is not the number of layers, shapes do not fit, the
                metric or the neighbours are unknown, the fraction is not in (0, 1], or there is a
                maximum with error propagation.
        """
        if len(optimizers) != len(self.layers):
            raise ValueError(
                f"{len(self.layers)} hidden layers need as many optimizers, got {len(optimizers)}"
            )
        if maximum is not None and propagate_error:
            raise ValueError("a running maximum needs one target for all layers")
        activation = ACTIVATIONS[self.activation]
        of_target = x.shape[1] if scaling in ("own", "target") else 1
        absolute = scaling == "absolute"
        of_layer = None if scaling == "own" or absolute else 1
        guide = None if values is None else _chosen(values, rows)
        inputs = _chosen(x, rows)
        pairs = neighbour_pairs(inputs, neighbours, fraction, metric)
        matching = matching_for(metric, inputs, pairs, shards)
        target = matching.target(inputs, guide, None, of_target, maximum, original)
        steps = []
        for place, (layer, optimizer) in enumerate(zip(self.layers, optimizers, strict=True), 1):
            z = shards.forward(layer.forward, x)
            y = activation.in_place(z)
            step, error = LayerStep(0.0, 0.0, False), None
            if target is not None:
                output = _chosen(y, rows)
                match = matching.step(
                    output, target, propagate_error, with_error, of_layer, absolute
                )
                gradient = activation.backward(
                    match.gradient, output if z is y else _chosen(z, rows)
                )
                gradients = matching.parameter_gradients(layer, _chosen(x, rows), gradient)
                norm, skipped = optimizer.clipped(gradients, max_gradient_norm)
                skipped, error = skipped or not math.isfinite(match.loss), match.error
                step = LayerStep(match.loss, norm, skipped, match.distance_error)
            steps.append(step)
            x = self._handed_on(y, place)
            if propagate_error and place < len(self.layers):
                inputs = _chosen(x, rows)
                target = matching.target(inputs, guide, error, of_target, None, original)
        return x, steps

    def _handed_on(self, outputs: Tensor, place: int) -> Tensor:
        """What follows the layer at a place, counted from 1, gets of its outputs."""
        if self.black_box is None or place == len(self.layers):
            return outputs
        handed_on = self.black_box(outputs)
        if not isinstance(handed_on, Tensor) or (
            (handed_on.shape, handed_on.dtype) != (outputs.shape, outputs.dtype)
        ):
            raise ValueError(
                f"the black box must return a tensor like its input, {tuple(outputs.shape)} of "
                f"{outputs.dtype}"
            )
        return handed_on


def _chosen(batch: Tensor, rows: Tensor | None) -> Tensor:
    return batch if rows is None else batch[rows]
