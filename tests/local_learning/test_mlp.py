"""A network that learns layer by layer while a batch passes through it."""

import itertools
import math

import numpy as np
import pytest
import torch

from rllib_lpdm.local_learning import (
    LayerAdam,
    LocalLoss,
    distance_matching_loss,
    target_distances,
)
from tests.local_learning import reference
from tests.local_learning.networks import assert_identical, batch, network
from tests.pairwise import pairwise

WIDTHS = [(4,), (4, 6), (4, 6, 5, 7, 3, 6), (3, 1, 1), (1, 1, 8)]
DEEP = (4, 6, 5, 7)


def first_gradients(layer, optimizer):
    """The gradients of an optimizer's first step, read off its running mean."""
    return [optimizer.state[p]["exp_avg"] / (1.0 - 0.9) for p in layer.parameters()]


@pairwise(max_norm=[None, 0.05], guided=[False, True], widths=WIDTHS)
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


@pairwise(
    activation=["tanh", "relu", "elu", "silu"],
    rows=[None, torch.tensor([9, 2, 3, 11, 0, 8, 5])],
    guided=[False, True],
    options=[
        {"metric": "gram"},
        {"neighbours": "both"},
        {"propagate_error": True},
        {"propagate_error": True, "neighbours": "closest", "fraction": 0.3, "metric": "cosine"},
    ],
)
def test_options_compose_as_in_a_loop_of_autograd_per_layer(options, guided, rows, activation):
    mlp, optimizers = network(4, 9, 8, 7, activation=activation, black_box=torch.round)
    twin, _ = network(4, 9, 8, 7, activation=activation)
    x, values = batch(4, count=12)
    values = values if guided else None
    features, steps = mlp.learn(x, optimizers, LocalLoss(**options), values=values, rows=rows)
    metric, which = options.get("metric", "l1"), options.get("neighbours", "all")
    chosen = slice(None) if rows is None else rows
    guide = values[chosen] if guided else None
    weights = np.full(len(x[chosen]) * (len(x[chosen]) - 1) // 2, 2)
    if which != "all":
        weights = reference.neighbours(x[chosen], which, options.get("fraction", 0.5), metric)
    h, target, error = x, None, None
    for layer, optimizer, other, step in zip(
        mlp.layers, optimizers, twin.layers, steps, strict=True
    ):
        if target is None or options.get("propagate_error"):
            target = reference.target_distances(
                h[chosen], guide, metric, weights, error, x.shape[1]
            )
        y = getattr(torch.nn.functional, activation)(other(h))
        loss = reference.autograd_loss(y[chosen], target, metric, weights)
        expected = torch.autograd.grad(loss, list(other.parameters()))
        assert step.loss == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(first_gradients(layer, optimizer), list(expected))
        distances = reference.pairwise_distances(y[chosen].detach(), metric)
        matched = distances / np.abs(distances[weights > 0]).max() / y.shape[1]
        error = (weights > 0) * (matched - target)
        h = y.detach() if layer is mlp.layers[-1] else y.detach().round()
    torch.testing.assert_close(features, h)


def test_error_propagation_leaves_the_first_layer_as_it_is_and_changes_the_second():
    mlp, optimizers = network(*DEEP)
    other, other_optimizers = network(*DEEP)
    _, steps = mlp.learn(batch(4)[0], optimizers)
    _, propagated = other.learn(batch(4)[0], other_optimizers, LocalLoss(propagate_error=True))
    assert propagated[0] == steps[0]
    assert propagated[1] != steps[1]


def test_keeping_all_neighbours_learns_as_without_a_selection():
    mlp, optimizers = network(*DEEP)
    other, other_optimizers = network(*DEEP)
    x, values = batch(4)
    _, steps = mlp.learn(x, optimizers, values=values)
    loss = LocalLoss(neighbours="both", fraction=1.0)
    _, kept = other.learn(x, other_optimizers, loss, values=values)
    torch.testing.assert_close(kept, steps)
    torch.testing.assert_close(other.state_dict(), mlp.state_dict())


@pytest.mark.parametrize("options", [{"propagate_error": True}, {"neighbours": "both"}], ids=str)
def test_peak_memory_does_not_grow_with_depth(options):
    def peak(depth):
        mlp, optimizers = network(*(32,) * (depth + 1), dtype=torch.float32)
        x, _ = batch(32, count=64, dtype=torch.float32)
        mlp.learn(x, optimizers, LocalLoss(**options))
        with torch.profiler.profile(profile_memory=True) as profile:
            mlp.learn(x, optimizers, LocalLoss(**options))
        events = profile.profiler.kineto_results.events()
        changes = [event.nbytes() for event in events if event.name() == "[memory]"]
        return max(itertools.accumulate(changes))

    assert peak(16) < 1.05 * peak(3)


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
