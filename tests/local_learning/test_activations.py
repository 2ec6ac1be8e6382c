"""Activations and their derivatives by hand."""

import pytest
import torch
from torch.nn import functional

from rllib_lpdm.local_learning import ACTIVATIONS, LocalMLP

EXPECTED = {
    "tanh": functional.tanh,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


def preactivations():
    edges = torch.tensor([0.0, -0.0, 1e-9, -1e-9, 40.0, -40.0], dtype=torch.float64)
    return torch.cat([3.0 * torch.randn(50, dtype=torch.float64), edges])


def test_every_activation_is_tested():
    assert set(ACTIVATIONS) == set(EXPECTED)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_function_in_place_or_not_is_that_of_torch(name):
    z, activation = preactivations(), ACTIVATIONS[name]
    torch.testing.assert_close(activation.function(z), EXPECTED[name](z), rtol=0, atol=0)
    torch.testing.assert_close(activation.in_place(z.clone()), EXPECTED[name](z), rtol=0, atol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_by_hand_equals_autograd(name):
    z, activation = preactivations().requires_grad_(), ACTIVATIONS[name]
    upstream = torch.randn_like(z)
    (expected,) = torch.autograd.grad(EXPECTED[name](z), z, upstream)
    passed_in = z.detach().clone()
    activation.in_place(passed_in)
    torch.testing.assert_close(activation.backward(upstream, passed_in), expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_function_for_acting_is_that_of_torch(name):
    z = preactivations().float()
    acting = torch.from_numpy(ACTIVATIONS[name].in_numpy(z.numpy().copy()))
    torch.testing.assert_close(acting, EXPECTED[name](z), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "relu", "leaky_relu", "elu"])
def test_no_second_tensor_is_made_where_the_output_gives_the_derivative(name):
    z = preactivations()
    assert ACTIVATIONS[name].in_place(z) is z


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'softplus'.*tanh.*silu"):
        LocalMLP(3, (4,), "softplus")
