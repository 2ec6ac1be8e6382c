"""What the two distance matrices are divided by, against autograd of the loss as it is written."""

import math

import numba
import pytest
import torch

from rllib_lpdm.local_learning import LayerAdam, LocalMLP

ROWS, INPUTS, SIZES = 40, 5, (16, 24)


def distances(rows):
    return (rows[:, None] - rows[None]).abs().sum(-1)


def written_out(y, x, scaling):
    d_x, d_y = x.shape[1], y.shape[1]
    of_target, of_layer = {"own": (d_x, d_y), "target": (d_x, 1), "none": (1, 1)}[scaling]
    target = distances(x) / distances(x).max() / of_target
    return torch.linalg.norm(distances(y) / distances(y).max() / of_layer - target)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("scaling", ["own", "target", "none"])
def test_loss_and_gradient_of_every_layer_are_those_of_the_scaled_matrices(
    scaling, kernels, monkeypatch
):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", not kernels)
    torch.manual_seed(0)
    x, network = torch.randn(ROWS, INPUTS), LocalMLP(INPUTS, SIZES)
    expected, inputs = [], x
    for layer in network.layers:
        layer.zero_grad()
        outputs = torch.tanh(layer(inputs.detach()))
        loss = written_out(outputs, x, scaling)
        loss.backward()
        norm = math.hypot(layer.weight.grad.norm(), layer.bias.grad.norm())
        expected.append((loss.item(), norm))
        inputs = outputs
    optimizers = [LayerAdam(layer.parameters(), lr=1e-3) for layer in network.layers]
    _, steps = network.learn(x, optimizers, scaling=scaling)
    for step, (loss, norm) in zip(steps, expected, strict=True):
        assert step.loss == pytest.approx(loss, rel=1e-4)
        assert step.gradient_norm == pytest.approx(norm, rel=1e-3)
