"""A network that learns layer by layer while a batch passes through it."""

import math

import numpy as np
import pytest
import torch

from rllib_lpdm.local_learning import LayerAdam, distance_matching_loss, target_distances
from tests.local_learning import reference
from tests.local_learning.networks import assert_identical, batch, network

WIDTHS = [(4,), (4, 6), (4, 6, 5, 7, 3, 6), (3, 1, 1), (1, 1, 8)]
DEEP = (4, 6, 5, 7)


def first_gradients(layer, optimizer):
    """The gradients of an optimizer's first step, read off its running mean."""
    return [optimizer.state[p]["exp_avg"] / (1.0 - 0.9) for p in layer.parameters()]


@pytest.mark.parametrize("max_norm", [None, 0.05])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("widths", WIDTHS)
def test_learning_equals_a_loop_of_autograd_clipping_and_adam_per_layer(widths, guided, max_norm):
    mlp, optimizers = network(*widths)
    twin, _ = network(*widths)
    adams = [torch.optim.Adam(layer.parameters(), lr=1e-2) for layer in twin.layers]
    for seed in range(5):
        x, values = batch(widths[0], seed=seed)
        values = values if guided else None
        features, steps = mlp.learn(x, optimizers, values=values, max_gradient_norm=max_norm)
        target, h = torch.from_numpy(reference.target_distances(x, values)), x
        for layer, adam, step in zip(twin.layers, adams, steps, strict=True):
            y = torch.tanh(layer(h))
            loss = distance_matching_loss(y, target)
            adam.zero_grad()
            loss.backward()
            limit = math.inf if max_norm is None else max_norm
            norm = torch.nn.utils.clip_grad_norm_(layer.parameters(), limit)
            adam.step()
            assert step[:3] == pytest.approx((loss.item(), norm.item(), False), rel=1e-6)
            h = y.detach()
        torch.testing.assert_close(features, h, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mlp.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)


def test_every_layer_follows_the_formula_of_its_own_gradient():
    mlp, optimizers = network(*DEEP)
    (x, values), h = batch(4), batch(4)[0].numpy()
    start = [[p.detach().numpy().copy() for p in layer.parameters()] for layer in mlp.layers]
    mlp.learn(x, optimizers, values=values)
    target = reference.target_distances(x, values)
    for layer, optimizer, (weight, bias) in zip(mlp.layers, optimizers, start, strict=True):
        expected = reference.layer_gradients(weight, bias, h, target)
        actual = first_gradients(layer, optimizer)
        torch.testing.assert_close(actual, [torch.from_numpy(g) for g in expected])
        h = np.tanh(h @ weight.T + bias)


def test_gradients_are_those_of_the_sum_of_local_losses_with_detached_inputs():
    mlp, optimizers = network(*DEEP)
    twin, _ = network(*DEEP)
    x, values = batch(4)
    mlp.learn(x, optimizers, values=values)
    total, h, target = 0.0, x, target_distances(x, values)
    for layer in twin.layers:
        y = torch.tanh(layer(h))
        total = total + distance_matching_loss(y, target)
        h = y.detach()
    total.backward()
    for layer, optimizer, other in zip(mlp.layers, optimizers, twin.layers, strict=True):
        expected = [p.grad for p in other.parameters()]
        torch.testing.assert_close(first_gradients(layer, optimizer), expected)


@pytest.mark.parametrize("changed", [1, 2])
def test_no_layer_is_reached_by_the_losses_of_later_layers(changed):
    mlp, optimizers = network(*DEEP)
    other, other_optimizers = network(*DEEP)
    torch.nn.init.normal_(other.layers[changed].weight)
    _, steps = mlp.learn(batch(4)[0], optimizers)
    _, other_steps = other.learn(batch(4)[0], other_optimizers)
    assert steps[:changed] == other_steps[:changed]
    assert steps[changed] != other_steps[changed]
    assert_identical(
        list(mlp.layers[:changed].parameters()), list(other.layers[:changed].parameters())
    )


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_a_layer_steps_the_same_whether_or_not_the_others_learn(alone):
    mlp, optimizers = network(*DEEP)
    other, other_optimizers = network(*DEEP, lr=0.0)
    other_optimizers[alone].param_groups[0]["lr"] = 1e-2
    features, steps = mlp.learn(batch(4)[0], optimizers)
    other_features, other_steps = other.learn(batch(4)[0], other_optimizers)
    assert steps == other_steps
    assert_identical(features, other_features)
    assert_identical(mlp.layers[alone].state_dict(), other.layers[alone].state_dict())


@pytest.mark.parametrize("widths", WIDTHS)
def test_features_are_the_plain_forward_pass_from_before_the_steps(widths):
    mlp, optimizers = network(*widths)
    x, _ = batch(widths[0])
    before = mlp(x).detach()
    features, steps = mlp.learn(x, optimizers)
    assert features.shape == (len(x), mlp.output_size)
    assert len(steps) == len(widths) - 1
    assert_identical(features, before)
    assert not steps or not torch.equal(mlp(x), before)


def test_no_autograd_node_and_no_grad_is_left_behind():
    mlp, optimizers = network(*DEEP)
    x, values = (tensor.requires_grad_() for tensor in batch(4))
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(packed.append, lambda tensor: tensor):
        features, _ = mlp.learn(x, optimizers, values=values, max_gradient_norm=0.5)
        assert not packed
        assert mlp(x).requires_grad
        assert packed
    assert features.grad_fn is None
    assert not features.requires_grad
    assert all(p.grad is None for p in (x, values, *mlp.parameters()))


def test_permuting_the_rows_permutes_the_features_and_keeps_the_steps():
    mlp, optimizers = network(*DEEP)
    permuted, permuted_optimizers = network(*DEEP)
    x, values = batch(4)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    features, steps = mlp.learn(x, optimizers, values=values)
    other = permuted.learn(x[order], permuted_optimizers, values=values[order])
    torch.testing.assert_close(other[0], features[order])
    torch.testing.assert_close(other[1], steps)
    torch.testing.assert_close(permuted.state_dict(), mlp.state_dict())


@pytest.mark.parametrize("guided", [False, True])
def test_chosen_rows_train_the_layers_as_if_alone_and_all_rows_get_features(guided):
    mlp, optimizers = network(*DEEP)
    subset, subset_optimizers = network(*DEEP)
    x, values = batch(4, count=20)
    values, rows = values if guided else None, torch.tensor([17, 3, 4, 11, 0, 8])
    before = mlp(x).detach()
    features, steps = mlp.learn(x, optimizers, values=values, rows=rows)
    subset_values = values[rows] if guided else None
    _, subset_steps = subset.learn(x[rows], subset_optimizers, values=subset_values)
    assert_identical(features, before)
    torch.testing.assert_close(steps, subset_steps)
    torch.testing.assert_close(mlp.state_dict(), subset.state_dict())


def test_each_layer_is_clipped_by_its_own_norm():
    mlp, optimizers = network(*DEEP)
    free, free_optimizers = network(*DEEP)
    norms = [step.gradient_norm for step in free.learn(batch(4)[0], free_optimizers)[1]]
    limit = sum(sorted(norms)[:2]) / 2.0
    _, steps = mlp.learn(batch(4)[0], optimizers, max_gradient_norm=limit)
    assert [step.gradient_norm for step in steps] == norms
    for layer, optimizer, norm in zip(mlp.layers, optimizers, norms, strict=True):
        applied = math.hypot(*(g.norm().item() for g in first_gradients(layer, optimizer)))
        assert applied == pytest.approx(min(norm, limit))


def test_a_wrong_number_of_optimizers_is_refused_with_both_numbers():
    mlp, optimizers = network(*DEEP)
    with pytest.raises(ValueError, match=r"3 hidden layers.*got 2"):
        mlp.learn(batch(4)[0], optimizers[:2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_learning_on_the_gpu_equals_learning_on_the_cpu():
    results = []
    for device in ("cpu", "cuda"):
        mlp, _ = network(*DEEP)
        mlp.to(device)
        optimizers = [LayerAdam(layer.parameters(), 1e-2) for layer in mlp.layers]
        x, values = (tensor.to(device) for tensor in batch(4))
        learned = [mlp.learn(x, optimizers, values=values, max_gradient_norm=0.5) for _ in range(3)]
        results.append(([f.cpu() for f, _ in learned], [s for _, s in learned], mlp.cpu()))
    (features, steps, mlp), (gpu_features, gpu_steps, gpu_mlp) = results
    torch.testing.assert_close(gpu_features, features)
    torch.testing.assert_close(gpu_steps, steps)
    torch.testing.assert_close(gpu_mlp.state_dict(), mlp.state_dict())
