"""Adam from given gradients, and the clipped step on top of it."""

import copy
import math

import pytest
import torch

from rllib_lpdm.local_learning import LayerAdam, parameter_gradients

SHAPES = [(5, 3), (5,)]


def random_tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def parameters(values=None):
    return [torch.nn.Parameter(value.clone()) for value in values or random_tensors(99)]


def fused_adam(params, lr=3e-3):
    return torch.optim.Adam(params, lr=lr, fused=True)


def step(optimizer, seed):
    """One step from random gradients, in the optimizer's own way."""
    gradients = random_tensors(seed)
    if isinstance(optimizer, LayerAdam):
        optimizer.apply(gradients)
    else:
        for parameter, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


def contents(optimizer):
    """Copies of all parameters and of all optimizer state."""
    params = optimizer.param_groups[0]["params"]
    state = [optimizer.state[p][key].clone() for p in params for key in sorted(optimizer.state[p])]
    return [p.detach().clone() for p in params] + state


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_twenty_steps_equal_fused_adam_bit_for_bit():
    ours, theirs = LayerAdam(parameters(), lr=3e-3), fused_adam(parameters())
    for seed in range(20):
        step(ours, seed)
        step(theirs, seed)
        assert equal(contents(ours), contents(theirs))


@pytest.mark.parametrize(
    ("first", "second", "steps_before"),
    [
        (LayerAdam, LayerAdam, 0),
        (LayerAdam, fused_adam, 0),
        (LayerAdam, LayerAdam, 7),
        (LayerAdam, fused_adam, 7),
        (fused_adam, LayerAdam, 7),
    ],
)
def test_a_checkpoint_continues_bit_for_bit_in_either_optimizer(first, second, steps_before):
    original = first(parameters(), lr=3e-3)
    for seed in range(steps_before):
        step(original, seed)
    checkpoint = copy.deepcopy(original.state_dict())
    restored = second(parameters(original.param_groups[0]["params"]), lr=1.0)
    restored.load_state_dict(checkpoint)
    for seed in range(steps_before, steps_before + 5):
        step(original, seed)
        step(restored, seed)
    assert equal(contents(original), contents(restored))


def test_a_step_from_param_grad_continues_the_same_state():
    ours, theirs = LayerAdam(parameters(), lr=3e-3), fused_adam(parameters())
    for seed in range(6):
        if seed % 2:
            step(ours, seed)
        else:
            for parameter, gradient in zip(
                ours.param_groups[0]["params"], random_tensors(seed), strict=True
            ):
                parameter.grad = gradient
            ours.step()
        step(theirs, seed)
    assert equal(contents(ours), contents(theirs))


def test_a_learning_rate_changed_in_the_param_group_is_used():
    ours, theirs = LayerAdam(parameters(), lr=3e-3), fused_adam(parameters())
    for optimizer in (ours, theirs):
        step(optimizer, 0)
        optimizer.param_groups[0]["lr"] = 0.1
        step(optimizer, 1)
    assert equal(contents(ours), contents(theirs))


@pytest.mark.parametrize("limit", [0.1, 0.5, 1.0])
def test_gradients_above_the_limit_are_scaled_to_it_with_their_direction_kept(limit):
    gradients, original = random_tensors(3), random_tensors(3)
    norm = math.sqrt(sum((g**2).sum().item() for g in original))
    optimizer = LayerAdam(parameters(), lr=1e-3)
    reported, skipped = optimizer.clipped(gradients, limit)
    assert (reported, skipped) == (pytest.approx(norm, rel=1e-6), False)
    for clipped, full in zip(gradients, original, strict=True):
        torch.testing.assert_close(clipped, full * (limit / norm))
    means = [optimizer.state[p]["exp_avg"] for p in optimizer.param_groups[0]["params"]]
    applied = math.sqrt(sum((m**2).sum().item() for m in means)) / (1.0 - 0.9)
    assert applied == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("limit", [None, 1e3])
def test_without_a_limit_or_below_it_gradients_are_applied_as_they_are(limit):
    ours, theirs = LayerAdam(parameters(), lr=3e-3), fused_adam(parameters())
    gradients = random_tensors(4)
    ours.clipped(gradients, limit)
    step(theirs, 4)
    assert equal(gradients, random_tensors(4))
    assert equal(contents(ours), contents(theirs))


@pytest.mark.parametrize("limit", [None, 0.5])
def test_a_zero_gradient_makes_no_step_in_spite_of_momentum(limit):
    optimizer = LayerAdam(parameters(), lr=3e-3)
    step(optimizer, 0)
    before = contents(optimizer)
    assert optimizer.clipped([torch.zeros(s) for s in SHAPES], limit) == (0.0, False)
    assert equal(contents(optimizer), before)


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_non_finite_gradient_is_reported_and_leaves_everything_untouched(place, bad, limit):
    optimizer = LayerAdam(parameters(), lr=3e-3)
    step(optimizer, 0)
    before = contents(optimizer)
    gradients = random_tensors(1)
    gradients[place].view(-1)[2] = bad
    norm, skipped = optimizer.clipped(gradients, limit)
    assert skipped
    assert not math.isfinite(norm)
    assert equal(contents(optimizer), before)


def test_step_of_a_linear_layer_equals_autograd_through_it():
    torch.manual_seed(0)
    layer, twin = torch.nn.Linear(3, 5), torch.nn.Linear(3, 5)
    twin.load_state_dict(layer.state_dict())
    inputs, output_gradient = torch.randn(8, 3), torch.randn(8, 5)
    gradients = parameter_gradients(layer, inputs, output_gradient)
    LayerAdam(layer.parameters(), lr=1e-2).clipped(gradients)
    twin(inputs).backward(output_gradient)
    fused_adam(twin.parameters(), lr=1e-2).step()
    torch.testing.assert_close(list(layer.parameters()), list(twin.parameters()))
