"""A network whose hidden layers train themselves while a batch passes through them (section 3)."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rllib_lpdm.local_learning.activations import Activation
from rllib_lpdm.local_learning.layers import convolutions
from rllib_lpdm.local_learning.losses import PAPER_LOSS, LocalLoss
from rllib_lpdm.local_learning.neighbours import neighbour_pairs
from rllib_lpdm.local_learning.optimizer import LayerAdam
from rllib_lpdm.local_learning.pair_matching import matching_for
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, WholeBatch
from rllib_lpdm.schema.registry import ACTIVATIONS


class LayerStep(NamedTuple):
    """A layer's part of one local update.

    Attributes:
        loss: the layer's distance-matching loss before the step.
        gradient_norm: Euclidean norm over weight and bias, before clipping.
        skipped: whether loss or gradient was not finite, and no step was made.
        error: see :func:`~rllib_lpdm.local_learning.losses.distance_error`; before the step, 0
            where it was not asked for.
    """

    loss: float
    gradient_norm: float
    skipped: bool
    error: float = 0.0


class LayerPass(NamedTuple):
    """A hidden layer's part of a forward pass without autograd.

    Attributes:
        layer: computes z from its inputs.
        inputs: (N, d_h).
        outputs: (N, d_y) of its activation.
        kept: (N, d_y) z, or the outputs written over it where these suffice for the derivative.
        activation: its activation.
    """

    layer: nn.Module
    inputs: Tensor
    outputs: Tensor
    kept: Tensor
    activation: Activation

    def by_sums(self, gradient: Tensor) -> Tensor:
        """Returns the gradient by z from the (N, d_y) gradient by the outputs."""
        return self.activation.backward(gradient, self.kept)

    def at(self, rows: Tensor | None) -> "LayerPass":
        """Returns the pass of some rows, None for all."""
        if rows is None:
            return self
        outputs = self.outputs[rows]
        kept = outputs if self.kept is self.outputs else self.kept[rows]
        return self._replace(inputs=self.inputs[rows], outputs=outputs, kept=kept)


class LocalMLP(nn.Module):
    """Hidden layers ``f(h W^T + b)``, trained by backpropagation or each by itself.

    A call of the module is an ordinary forward pass, which autograd may record. :meth:`learn` is
    the paper's method: a forward pass, without autograd, in which every layer makes its own step.

    Args:
        input_size: number of input features d_x.
        hidden_sizes: number of units of each fully connected hidden layer; may be empty.
        activation: one of :data:`~rllib_lpdm.schema.registry.ACTIVATIONS`.
        black_box: applied to the outputs of every hidden layer but the last on their way to the
            next one; (N, d) -> (N, d), a new tensor. It needs no derivative, because a local loss
            sees the outputs before it.
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
        features = x
        for features in self.outputs(x):  # noqa: B007
            pass
        return features

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the (N, d_y) outputs of one hidden layer after another, for (N, d_x) inputs."""
        activate = ACTIVATIONS[self.activation].function
        for place, layer in enumerate(self.layers, 1):
            y = activate(layer(x))
            yield y
            x = self._handed_on(y, place)

    def passes(self, x: Tensor, shards: WholeBatch = WHOLE_BATCH) -> Iterator[LayerPass]:
        """Yields a forward pass without autograd, one layer after another.

        A layer may make a step when it was yielded: the next one gets its outputs from before the
        step. Call it under ``torch.no_grad()``.

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
        loss: LocalLoss = PAPER_LOSS,
        *,
        values: Tensor | None = None,
        rows: Tensor | None = None,
        max_gradient_norm: float | None = None,
        with_error: bool = False,
        shards: WholeBatch = WHOLE_BATCH,
    ) -> tuple[Tensor, list[LayerStep]]:
        """Makes one forward pass in which each layer learns to keep the input's distances.

        A layer sees its own input and output only: forward, gradient by hand, step, drop. No
        autograd graph is built and nothing is kept for a later pass, and peak memory does not grow
        with depth.

        Args:
            x: (N, d_x) input batch.
            optimizers: one per hidden layer, each over that layer's weight and bias.
            loss: the loss of every layer.
            values: (N,) values that guide the target (section 3.2); None for the unsupervised loss.
            rows: (M,) indices of the rows whose distances are matched; None for all. The cost of
                the local losses then grows with M instead of N.
            max_gradient_norm: each layer's gradient is scaled down to this norm.
            with_error: measure every layer's distance error too.
            shards: whose rows this process computes, where several train these layers: see
                :class:`~rllib_lpdm.local_learning.shards.Shards`.

        Returns:
            (N, output_size) features and one :class:`LayerStep` per hidden layer.

        Raises:
            ValueError: there is not one optimizer a layer, shapes do not fit, or the loss is not
                valid, as with a maximum and error propagation.
        """
        if len(optimizers) != len(self.layers):
            raise ValueError(
                f"{len(self.layers)} hidden layers need as many optimizers, got {len(optimizers)}"
            )
        if loss.maximum is not None and loss.propagate_error:
            raise ValueError("a running maximum needs one target for all layers")
        of_target = x.shape[1] if loss.scaling in ("own", "target") else 1
        absolute = loss.scaling == "absolute"
        of_layer = None if loss.scaling == "own" or absolute else 1
        guide = values if values is None or rows is None else values[rows]
        inputs = x if rows is None else x[rows]
        pairs = neighbour_pairs(inputs, loss.neighbours, loss.fraction, loss.metric)
        matching = matching_for(loss.metric, inputs, pairs, shards)
        target = matching.target(inputs, guide, None, of_target, loss.maximum, loss.original)
        features, error = x, None
        steps: list[LayerStep] = []
        for each, optimizer in zip(self.passes(x, shards), optimizers, strict=True):
            features, part = each.outputs, each.at(rows)
            if loss.propagate_error and steps:
                target = matching.target(part.inputs, guide, error, of_target, None, loss.original)
            if target is None:
                steps.append(LayerStep(0.0, 0.0, False))
                error = None
                continue
            match = matching.step(
                part.outputs, target, loss.propagate_error, with_error, of_layer, absolute
            )
            gradients = matching.parameter_gradients(
                part.layer, part.inputs, part.by_sums(match.gradient)
            )
            norm, skipped = optimizer.clipped(gradients, max_gradient_norm)
            skipped = skipped or not math.isfinite(match.loss)
            steps.append(LayerStep(match.loss, norm, skipped, match.distance_error))
            error = match.error
        return features, steps

    def _handed_on(self, outputs: Tensor, place: int) -> Tensor:
        """Returns a layer's outputs as the next layer gets them; places count from 1."""
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
