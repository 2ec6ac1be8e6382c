"""What is used of torch without being documented: a version that changes it fails here."""

import pytest
import torch
from torch.nn import functional

from rllib_lpdm.local_learning import torch_internals as internals

BACKWARD = {
    "tanh": (torch.tanh, lambda g, z: internals.tanh_backward(g, torch.tanh(z))),
    "gelu": (functional.gelu, internals.gelu_backward),
    "silu": (functional.silu, internals.silu_backward),
    "relu": (torch.relu, lambda g, z: internals.relu_backward(g, torch.relu(z))),
    "leaky_relu": (
        lambda z: functional.leaky_relu(z, 0.1),
        lambda g, z: internals.leaky_relu_backward(g, functional.leaky_relu(z, 0.1), 0.1),
    ),
    "elu": (
        lambda z: functional.elu(z, 2.0),
        lambda g, z: internals.elu_backward(g, functional.elu(z, 2.0), 2.0),
    ),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_the_derivative_of_an_activation_is_that_of_autograd(name):
    function, backward = BACKWARD[name]
    z, g = torch.randn(2, 50, dtype=torch.float64)
    z.requires_grad_()
    (expected,) = torch.autograd.grad(function(z), z, g)
    broken = f"torch has changed aten's {name} backward operator: see local_learning/internals.py"
    torch.testing.assert_close(backward(g, z.detach()), expected, msg=broken)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_the_gradient_of_pdist_is_that_of_autograd(p):
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    distances, g = torch.pdist(x, p), torch.randn(21, dtype=torch.float64)
    (expected,) = torch.autograd.grad(distances, x, g)
    found = internals.pdist_backward(g, x.detach(), p, distances.detach())
    broken = "torch has changed _pdist_backward: see local_learning/internals.py"
    torch.testing.assert_close(found, expected, msg=broken)


def test_the_gradients_of_a_convolution_are_those_of_autograd():
    layer = torch.nn.Conv2d(3, 4, 2, 2, dtype=torch.float64)
    images = torch.randn(5, 3, 7, 6, dtype=torch.float64)
    output = layer(images)
    g = torch.randn_like(output)
    expected = list(torch.autograd.grad(output, [layer.weight, layer.bias], g))
    found = internals.conv2d_backward(g, images, layer.weight.detach(), layer.stride)
    broken = "torch has changed convolution_backward: see local_learning/internals.py"
    torch.testing.assert_close(found, expected, msg=broken)


def test_the_kernel_of_adam_makes_the_step_of_torchs_adam():
    weight, gradient = torch.randn(2, 9)
    theirs = torch.nn.Parameter(weight.clone())
    theirs.grad = gradient.clone()
    torch.optim.Adam([theirs], lr=0.1, fused=True).step()
    zeros = [torch.zeros(9), torch.zeros(9)]
    internals.fused_adam(
        [weight], [gradient], zeros[:1], zeros[1:], [], [torch.ones(())], lr=0.1, beta1=0.9,
        beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
    )  # fmt: skip
    broken = "torch has changed _fused_adam_: see local_learning/internals.py"
    torch.testing.assert_close(weight, theirs.detach(), rtol=0, atol=0, msg=broken)
