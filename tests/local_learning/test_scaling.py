"""What the two distance matrices are divided by, against autograd of the loss as it is written."""

import math

import numba
import pytest
import torch

from rllib_lpdm.local_learning import LayerAdam, LocalMLP, RunningMaximum

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


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("guided", [False, True])
def test_a_running_maximum_makes_targets_of_different_batches_comparable(
    guided, kernels, monkeypatch
):
    """Of a batch with half the distances the target is half as large, and the loss says so."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", not kernels)
    torch.manual_seed(0)
    x, network, maximum = torch.randn(ROWS, INPUTS), LocalMLP(INPUTS, SIZES[:1]), RunningMaximum()
    optimizers = [LayerAdam(layer.parameters(), lr=0.0) for layer in network.layers]
    values = torch.linspace(-1.0, 1.0, ROWS) if guided else None
    guidance = (values.max() - values) / 4 if guided else torch.zeros(ROWS)  # u of section 3.2
    largest = 0.0
    for rows in (x, 0.5 * x, 2.0 * x, x):
        wanted = distances(rows)
        if guided:  # there, distances are normalised before values are added
            wanted = wanted / wanted.max() + guidance[:, None] + guidance[None]
            wanted.fill_diagonal_(0.0)
        largest = max(largest, wanted.max().item())
        outputs = distances(torch.tanh(network.layers[0](rows)))
        loss = torch.linalg.norm(outputs / outputs.max() / SIZES[0] - wanted / largest / INPUTS)
        _, (step,) = network.learn(rows, optimizers, values=values, maximum=maximum)
        assert step.loss == pytest.approx(loss.item(), rel=1e-4)
    assert maximum.value == pytest.approx(largest)


def test_a_running_maximum_forgets_what_is_not_finite():
    maximum = RunningMaximum(2.0)
    assert math.isnan(maximum.take(math.nan))
    assert maximum.take(math.inf) == math.inf
    assert maximum.take(1.0) == maximum.value == 2.0


def test_a_running_maximum_needs_one_target():
    network = LocalMLP(INPUTS, SIZES)
    optimizers = [LayerAdam(layer.parameters(), lr=1e-3) for layer in network.layers]
    with pytest.raises(ValueError, match="one target for all layers"):
        network.learn(
            torch.randn(4, INPUTS), optimizers, propagate_error=True, maximum=RunningMaximum()
        )
