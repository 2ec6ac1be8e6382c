"""What the two distance matrices are divided by, against autograd of the loss as it is written."""

import math

import numba
import pytest
import torch

from rllib_lpdm.local_learning import (
    METRICS,
    LayerAdam,
    LocalLoss,
    LocalMLP,
    RunningMaximum,
    distance_matching_gradient,
    distance_matching_loss,
    neighbour_pairs,
    target_distances,
)
from tests.local_learning.reference import pairwise_distances

ROWS, INPUTS, SIZES = 40, 5, (16, 24)


def distances(rows):
    return (rows[:, None] - rows[None]).abs().sum(-1)


def wanted_distances(x, values=None):
    """(N, N) distances of the inputs over their maximum, with guidance of section 3.2."""
    wanted = distances(x) / distances(x).max()
    if values is None:
        return wanted
    u = (1.0 - (values - values.min()) / (values.max() - values.min())) / 2.0
    wanted = (wanted + u[:, None] + u[None]) * (1.0 - torch.eye(len(x)))
    return wanted / wanted.max()


def written_out(y, x, scaling, values=None):
    d_x, d_y = x.shape[1], y.shape[1]
    wanted, found = wanted_distances(x, values), distances(y)
    if scaling == "absolute":
        return torch.linalg.norm(found / d_y - wanted)
    of_target, of_layer = {"own": (d_x, d_y), "target": (d_x, 1), "none": (1, 1)}[scaling]
    return torch.linalg.norm(found / found.max() / of_layer - wanted / of_target)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("scaling", ["own", "target", "none", "absolute"])
def test_loss_and_gradient_of_every_layer_are_those_of_the_scaled_matrices(
    scaling, guided, kernels, monkeypatch
):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", not kernels)
    torch.manual_seed(0)
    x, network = torch.randn(ROWS, INPUTS), LocalMLP(INPUTS, SIZES)
    values = torch.randn(ROWS) if guided else None
    expected, inputs = [], x
    for layer in network.layers:
        layer.zero_grad()
        outputs = torch.tanh(layer(inputs.detach()))
        loss = written_out(outputs, x, scaling, values)
        loss.backward()
        norm = math.hypot(layer.weight.grad.norm(), layer.bias.grad.norm())
        expected.append((loss.item(), norm))
        inputs = outputs
    optimizers = [LayerAdam(layer.parameters(), lr=1e-3) for layer in network.layers]
    _, steps = network.learn(x, optimizers, LocalLoss(scaling=scaling), values=values)
    for step, (loss, norm) in zip(steps, expected, strict=True):
        assert step.loss == pytest.approx(loss, rel=1e-4)
        assert step.gradient_norm == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("neighbours", ["all", "both"])
@pytest.mark.parametrize("rows", [2, 12])
def test_the_absolute_loss_and_its_gradient_are_as_written_by_every_metric(
    rows, neighbours, metric
):
    torch.manual_seed(0)
    inputs = torch.randn(rows, INPUTS, dtype=torch.float64)
    outputs = torch.randn(rows, 7, dtype=torch.float64, requires_grad=True)
    pairs = neighbour_pairs(inputs, neighbours, 0.3, metric)
    target = target_distances(inputs, metric=metric, pairs=pairs, dimensions=1)
    loss = distance_matching_loss(outputs, target, metric, pairs=pairs, absolute=True)
    (by_autograd,) = torch.autograd.grad(loss, outputs)
    wanted = pairwise_distances(inputs.numpy(), metric)
    found = pairwise_distances(outputs.detach().numpy(), metric)
    weights = 2.0
    if pairs is not None:
        wanted, found, weights = wanted[pairs.place], found[pairs.place], pairs.weight.numpy()
    expected = (weights * (found / 7 - wanted / abs(wanted).max()) ** 2).sum() ** 0.5
    assert loss.item() == pytest.approx(expected)
    by_hand = distance_matching_gradient(
        outputs.detach(), target, metric, pairs=pairs, absolute=True
    )
    torch.testing.assert_close(by_hand, (loss.detach(), by_autograd))
    assert by_autograd.any()


@pytest.mark.parametrize("kernels", [True, False])
def test_constant_outputs_have_the_absolute_loss_of_their_target_and_no_gradient(
    kernels, monkeypatch
):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", not kernels)
    torch.manual_seed(0)
    x, network = torch.randn(ROWS, INPUTS), LocalMLP(INPUTS, SIZES[:1])
    network.layers[0].weight.data.zero_()
    before = network.layers[0].bias.detach().clone()
    optimizers = [LayerAdam(network.layers[0].parameters(), lr=1e-3)]
    _, (step,) = network.learn(x, optimizers, LocalLoss(scaling="absolute"), with_error=True)
    assert step.loss == pytest.approx(torch.linalg.norm(wanted_distances(x)).item(), rel=1e-5)
    assert (step.gradient_norm, step.skipped) == (0.0, False)
    assert 0.0 < step.error < 1.0
    torch.testing.assert_close(network.layers[0].bias.detach(), before, rtol=0.0, atol=0.0)


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
        _, (step,) = network.learn(rows, optimizers, LocalLoss(maximum=maximum), values=values)
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
    loss = LocalLoss(propagate_error=True, maximum=RunningMaximum())
    with pytest.raises(ValueError, match="one target for all layers"):
        network.learn(torch.randn(4, INPUTS), optimizers, loss)
