"""The target of the hidden layers: distances of the input, guided by values or not."""

import math

import numpy as np
import pytest
import torch

from rllib_lpdm.local_learning import METRICS, target_distances
from tests.local_learning import reference
from tests.pairwise import pairwise

SEEDS = [0, 1, 4, 11]


def random_batch(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    count, width = 2 + seed, 1 + 5 * seed % 13
    inputs = torch.randn(count, width, generator=generator, dtype=dtype)
    return inputs, 10.0 * torch.randn(count, generator=generator, dtype=dtype)


@pairwise(metric=METRICS, dtype=[torch.float32, torch.float64], seed=SEEDS)
def test_target_equals_the_formula_with_and_without_values_and_error(seed, dtype, metric):
    inputs, values = random_batch(seed, dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    errors = torch.randn(math.comb(len(inputs), 2), dtype=dtype)
    for guide in (None, values):
        for error in (None, errors):
            target = target_distances(inputs, guide, metric, error=error)
            assert target.dtype == dtype
            error = None if error is None else error.numpy()
            expected = reference.target_distances(inputs, guide, metric, error=error)
            np.testing.assert_allclose(target, expected, rtol=tolerance, atol=tolerance)


def test_unsupervised_target_by_hand():
    inputs = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]])
    torch.testing.assert_close(target_distances(inputs), torch.tensor([0.25, 0.5, 0.25]))


def test_guided_target_by_hand():
    inputs = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    values = torch.tensor([-10.0, 0.0, 10.0])
    # u = (1/2, 1/4, 0); D' = (1/2 + 3/4, 1 + 1/2, 1/2 + 1/4); max D' = 3/2; d_x = 2.
    expected = torch.tensor([5 / 12, 1 / 2, 1 / 4])
    torch.testing.assert_close(target_distances(inputs, values), expected)


def test_a_target_guided_by_values_beside_the_original_distances_by_hand():
    inputs = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    values = torch.tensor([-10.0, 0.0, 10.0])
    # u = (1/2, 1/4, 0); D' = (2 + 3/4, 4 + 1/2, 2 + 1/4); max D' = 9/2; d_x = 2.
    expected = torch.tensor([11 / 36, 1 / 2, 1 / 4])
    torch.testing.assert_close(target_distances(inputs, values, original=True), expected)
    inputs = torch.arange(12.0).square().view(6, 2)
    scaled = inputs / target_distances(inputs, metric="l1").numel()
    near, far = (target_distances(x, torch.rand(6), original=True) for x in (scaled, 1e6 * scaled))
    assert not torch.allclose(near, target_distances(scaled))
    torch.testing.assert_close(far, target_distances(1e6 * scaled))  # guidance weighs nothing


def test_target_scaled_by_the_previous_error_by_hand():
    inputs, error = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0.1, -0.2, 0.05])
    # D = (1, 3, 2), e = (1/2, 1, 1/4), D' = (3/2, 6, 5/2), max D' = 6.
    target = target_distances(inputs, error=error)
    torch.testing.assert_close(target, torch.tensor([1 / 4, 1.0, 5 / 12]))


def test_a_previous_error_of_zeros_changes_nothing():
    inputs, values = random_batch(4)
    target = target_distances(inputs, values)
    assert torch.equal(target_distances(inputs, values, error=torch.zeros(15)), target)


def test_an_error_without_one_entry_a_pair_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"\(5,\).*6 pairs"):
        target_distances(torch.randn(4, 2), error=torch.zeros(5))


@pairwise(metric=METRICS, guided=[False, True], seed=SEEDS)
def test_target_is_bounded_by_one_over_the_input_width_and_reaches_it(seed, guided, metric):
    inputs, values = random_batch(seed)
    inputs = torch.cat([inputs, inputs.flip(1)], dim=1)  # no cosine distance vanishes
    target = target_distances(inputs, values if guided else None, metric)
    assert metric == "gram" or target.min() >= 0.0
    assert target.abs().max().item() == pytest.approx(1.0 / inputs.shape[1], rel=1e-12)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
def test_constant_values_give_the_unsupervised_target(value):
    inputs, values = random_batch(7)
    constant = torch.full_like(values, value)
    assert torch.equal(target_distances(inputs, constant), target_distances(inputs))


def test_worse_states_get_more_distance():
    equally_far_apart = torch.eye(4)
    best_to_worst = torch.tensor([3.0, 2.0, 1.0, 0.0])
    target = target_distances(equally_far_apart, best_to_worst)
    expected = torch.tensor([7 / 6, 8 / 6, 9 / 6, 9 / 6, 10 / 6, 11 / 6]) / (11 / 6 * 4)
    torch.testing.assert_close(target, expected)


def test_worse_states_get_less_similarity():
    equally_similar, best_to_worst = torch.ones(3, 1), torch.tensor([2.0, 1.0, 0.0])
    equally_similar[2] = -1.0
    # D = (1, -1, -1), u = (0, 1/4, 1/2), D' = (3/4, -3/2, -7/4), max |D'| = 7/4.
    target = target_distances(equally_similar, best_to_worst, "gram")
    torch.testing.assert_close(target, torch.tensor([3 / 7, -6 / 7, -1.0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_target_ignores_unit_and_zero_of_inputs_and_values(seed):
    inputs, values = random_batch(seed)
    torch.testing.assert_close(
        target_distances(7.0 * inputs - 2.0, 0.01 * values + 5.0), target_distances(inputs, values)
    )


@pairwise(metric=METRICS, guided=[False, True], count=[0, 1, 5])
def test_rows_without_any_distance_give_a_target_of_zeros(count, guided, metric):
    values = torch.arange(float(count)) if guided else None
    target = target_distances(torch.full((count, 3), 0.7), values, metric)
    assert target.tolist() == [0.0] * math.comb(count, 2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_input_or_value_cannot_hide_in_the_target(bad, metric):
    inputs, values = random_batch(6)
    bad_inputs, bad_values = inputs.clone(), values.clone()
    bad_inputs[2, 1] = bad_values[2] = bad
    for target in (
        target_distances(bad_inputs, None, metric),
        target_distances(bad_inputs, values, metric),
        target_distances(inputs, bad_values, metric),
    ):
        assert not target.isfinite().all()


def test_target_is_a_constant_for_autograd():
    inputs, values = random_batch(5)
    assert not target_distances(inputs.requires_grad_(), values.requires_grad_()).requires_grad


@pytest.mark.parametrize("shape", [(), (3,), (5,), (4, 1), (1, 4)])
def test_values_without_one_entry_a_row_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"\(4,\)") as refusal:
        target_distances(torch.randn(4, 2), torch.zeros(shape))
    assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
def test_inputs_that_are_no_matrix_are_refused_with_their_shape(shape):
    with pytest.raises(ValueError, match=r"\(N, d\)") as refusal:
        target_distances(torch.zeros(shape), torch.zeros(4))
    assert str(shape) in str(refusal.value)


def test_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'l3'.*l1.*gram"):
        target_distances(torch.zeros(4, 2), metric="l3")
