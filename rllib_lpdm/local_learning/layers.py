"""Layers of flattened rows, and the gradients by their inputs and parameters."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from rllib_lpdm.local_learning.torch_internals import conv2d_backward


class FlatConv2d(nn.Conv2d):
    """A convolution from flattened images to flattened feature maps, without padding.

    Args:
        image_shape: (channels, height, width) of its input.
        filters: number of feature maps.
        kernel: height and width of a filter.
        stride: step between the places of a filter.

    Raises:
        ValueError: the image is smaller than the kernel, or a number is not positive.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], filters: int, kernel: int, stride: int
    ) -> None:
        channels, height, width = image_shape
        if min(*image_shape, filters, kernel, stride) < 1:
            raise ValueError(
                f"sizes must be positive, got an image of {channels} x {height} x {width}, "
                f"{filters} filters, kernel {kernel} and stride {stride}"
            )
        if min(height, width) < kernel:
            raise ValueError(
                f"a {kernel} x {kernel} kernel does not fit into an image of {height} x {width}"
            )
        super().__init__(channels, filters, kernel, stride)
        self.image_shape = image_shape
        rows, columns = ((size - kernel) // stride + 1 for size in (height, width))
        self.output_shape = (filters, rows, columns)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, channels * height * width) -> (N, filters * height' * width'), channels first."""
        return super().forward(inputs.reshape(-1, *self.image_shape)).flatten(1)

    def input_gradient(self, output_gradient: Tensor) -> Tensor:
        """Does the work of :func:`input_gradient`."""
        by_images: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            (len(output_gradient), *self.image_shape),
            self.weight,
            output_gradient.reshape(-1, *self.output_shape),
            self.stride,
        )
        return by_images.flatten(1)

    def parameter_gradients(self, inputs: Tensor, output_gradient: Tensor) -> list[Tensor]:
        """Does the work of :func:`parameter_gradients`."""
        return conv2d_backward(
            output_gradient.reshape(-1, *self.output_shape),
            inputs.reshape(-1, *self.image_shape),
            self.weight,
            self.stride,
        )


def parameter_gradients(layer: nn.Module, inputs: Tensor, output_gradient: Tensor) -> list[Tensor]:
    """Returns the gradients of a layer's weight and bias, without autograd.

    Args:
        layer: an ``nn.Linear`` or :class:`FlatConv2d`, which computes z from its inputs h.
        inputs: (N, d_h) the layer's inputs.
        output_gradient: (N, d_z) gradient of the loss by z.
    """
    if isinstance(layer, FlatConv2d):
        return layer.parameter_gradients(inputs, output_gradient)
    return [output_gradient.t() @ inputs, output_gradient.sum(0)]


def input_gradient(layer: nn.Module, output_gradient: Tensor) -> Tensor:
    """Returns the (N, d_h) gradient by a layer's inputs from the (N, d_z) one by its outputs.

    The layer is an ``nn.Linear`` or :class:`FlatConv2d`.
    """
    if isinstance(layer, FlatConv2d):
        return layer.input_gradient(output_gradient)
    by_inputs: Tensor = output_gradient.matmul(layer.weight)  # type: ignore[arg-type]
    return by_inputs


def convolutions(
    image_shape: tuple[int, int, int], conv_layers: Sequence[tuple[int, int, int]]
) -> list[FlatConv2d]:
    """Returns a stack of convolutions.

    Args:
        image_shape: (channels, height, width) of the network's input.
        conv_layers: filters, kernel and stride of each. The ValueError of one names the layer.
    """
    layers: list[FlatConv2d] = []
    for number, (filters, kernel, stride) in enumerate(conv_layers, 1):
        try:
            layers.append(FlatConv2d(image_shape, filters, kernel, stride))
        except ValueError as error:
            raise ValueError(f"conv_layers: hidden layer {number}: {error}") from None
        image_shape = layers[-1].output_shape
    return layers
