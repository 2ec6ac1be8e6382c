"""Convolutions among the layers that learn by themselves."""

import pytest
import torch
from torch import nn

from rllib_lpdm.local_learning import (
    FlatConv2d,
    LocalLoss,
    parameter_gradients,
    target_distances,
)
from tests.local_learning import reference
from tests.local_learning.networks import assert_identical, batch, network

IMAGE = (2, 9, 8)
CONV = [(3, 3, 2), (5, 2, 1)]
SIZE = 2 * 9 * 8


def image_network(**options):
    return network(SIZE, 6, 4, conv_layers=CONV, image_shape=IMAGE, **options)


def first_gradients(layer, optimizer):
    """The gradients of an optimizer's first step, read off its running mean."""
    return [optimizer.state[p]["exp_avg"] / (1.0 - 0.9) for p in layer.parameters()]


def test_a_flat_convolution_is_the_convolution_of_the_image():
    torch.manual_seed(0)
    layer = FlatConv2d(IMAGE, 3, 4, 2)
    x = torch.randn(7, SIZE)
    expected = nn.functional.conv2d(x.view(7, *IMAGE), layer.weight, layer.bias, stride=2)
    assert layer.output_shape == tuple(expected.shape[1:])
    torch.testing.assert_close(layer(x), expected.flatten(1))


@pytest.mark.parametrize("layer", [FlatConv2d(IMAGE, 3, 4, 2), nn.Linear(SIZE, 5)], ids=str)
def test_parameter_gradients_equal_autograd(layer):
    layer, x = layer.double(), torch.randn(7, SIZE, dtype=torch.float64)
    z = layer(x)
    upstream = torch.randn_like(z)
    expected = torch.autograd.grad(z, list(layer.parameters()), upstream)
    with torch.no_grad():
        torch.testing.assert_close(parameter_gradients(layer, x, upstream), list(expected))


def test_convolutions_come_first_and_feed_the_linear_layers():
    mlp, optimizers = image_network()
    assert [type(layer) for layer in mlp.layers] == [FlatConv2d, FlatConv2d, nn.Linear, nn.Linear]
    assert isinstance(mlp.layers[0], nn.Conv2d)
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [
        (3, 2, 3, 3),
        (5, 3, 2, 2),
        (6, 5 * 3 * 2),
        (4, 6),
    ]
    x, _ = batch(SIZE)
    before = mlp(x).detach()
    features, steps = mlp.learn(x, optimizers)
    assert len(steps) == 4
    assert_identical(features, before)


def test_convolutions_alone_give_flat_features():
    mlp, optimizers = network(SIZE, conv_layers=CONV, image_shape=IMAGE)
    features, _ = mlp.learn(batch(SIZE)[0], optimizers)
    assert features.shape == (12, mlp.output_size) == (12, 5 * 3 * 2)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("metric", ["l1", "cosine"])
@pytest.mark.parametrize("rows", [None, torch.tensor([3, 1, 7, 8, 2])])
def test_every_layer_has_the_gradient_of_its_own_local_loss(metric, activation, rows):
    mlp, optimizers = image_network(activation=activation)
    twin, _ = image_network(activation=activation)
    x, values = batch(SIZE)
    mlp.learn(x, optimizers, LocalLoss(metric), values=values, rows=rows)
    rows = slice(None) if rows is None else rows
    target, h = target_distances(x[rows], values[rows], metric), x
    function = getattr(nn.functional, activation)
    for layer, optimizer, other in zip(mlp.layers, optimizers, twin.layers, strict=True):
        y = function(other(h))
        loss = reference.autograd_loss(y[rows], target, metric)
        expected = torch.autograd.grad(loss, list(other.parameters()))
        torch.testing.assert_close(
            first_gradients(layer, optimizer), list(expected), rtol=1e-8, atol=1e-10
        )
        h = y.detach()


@pytest.mark.parametrize("alone", range(4))
def test_a_layer_steps_the_same_whether_or_not_the_others_learn(alone):
    mlp, optimizers = image_network()
    other, other_optimizers = image_network(lr=0.0)
    other_optimizers[alone].param_groups[0]["lr"] = 1e-2
    _, steps = mlp.learn(batch(SIZE)[0], optimizers)
    _, other_steps = other.learn(batch(SIZE)[0], other_optimizers)
    assert steps == other_steps
    assert_identical(mlp.layers[alone].state_dict(), other.layers[alone].state_dict())


def test_the_losses_of_convolutions_fall_on_a_fixed_batch():
    mlp, optimizers = image_network(lr=1e-3)
    x, _ = batch(SIZE, count=20)
    losses = [[step.loss for step in mlp.learn(x, optimizers)[1]] for _ in range(60)]
    assert all(last < first for first, last in zip(losses[0], losses[-1], strict=True))


def test_an_image_smaller_than_a_kernel_is_refused_with_the_layer():
    with pytest.raises(ValueError, match=r"hidden layer 2: a 5 x 5 kernel.*image of 4 x 3"):
        network(SIZE, 4, conv_layers=[(3, 3, 2), (5, 5, 1)], image_shape=IMAGE)


@pytest.mark.parametrize("numbers", [(0, 3, 1), (3, 0, 1), (3, 3, 0)])
def test_sizes_that_are_not_positive_are_refused_with_the_layer(numbers):
    with pytest.raises(ValueError, match=r"hidden layer 1: sizes must be positive"):
        network(SIZE, 4, conv_layers=[numbers], image_shape=IMAGE)


@pytest.mark.parametrize("image_shape", [None, (2, 9, 9)])
def test_inputs_that_are_no_image_are_refused(image_shape):
    with pytest.raises(ValueError, match=r"image_shape.*144"):
        network(SIZE, 4, conv_layers=CONV, image_shape=image_shape)
