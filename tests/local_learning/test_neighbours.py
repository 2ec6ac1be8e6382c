"""Appendix A: only the pairs of close or far neighbours are matched."""

import itertools

import numpy as np
import pytest
import torch

from rllib_lpdm.local_learning import (
    METRICS,
    Pairs,
    distance_matching_gradient,
    distance_matching_loss,
    neighbour_pairs,
    pairwise_distances,
    target_distances,
)
from tests.local_learning import reference
from tests.pairwise import pairwise

WHICH, FRACTIONS = ("closest", "furthest", "both"), (0.125, 0.5, 1.0)
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def random_case(seed=0, count=17):
    """Inputs, outputs and values without ties."""
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs, values = (
        torch.randn(count, width, generator=generator, dtype=torch.float64) for width in (4, 7, 1)
    )
    return inputs, outputs.tanh(), values[:, 0]


def matrix_of(pairs, count):
    """(N, N) weights of the pairs."""
    weights = torch.zeros(count, count)
    weights[pairs.first, pairs.second] = pairs.weight.float()
    return weights


def kept_by(pairs, count, inputs, which):
    """How many pairs each row keeps, where a pair of weight 1 is kept by one of its rows."""
    distances = torch.cdist(inputs, inputs, p=1.0)
    totals = torch.zeros(count)
    for i, j, weight in zip(*(entry.tolist() for entry in pairs[:3]), strict=True):
        if weight == 2:
            totals[[i, j]] += 1
        else:  # the one for which the other ranks closer, or further
            ranks = [(distances[a] < distances[a, b]).sum().item() for a, b in ((i, j), (j, i))]
            first_keeps = ranks[0] < ranks[1] if which == "closest" else ranks[0] > ranks[1]
            totals[i if first_keeps else j] += 1
    return totals


@pairwise(metric=METRICS, which=WHICH, fraction=FRACTIONS)
def test_the_kept_pairs_and_their_weights_are_those_of_a_sort_row_by_row(which, fraction, metric):
    inputs, _, _ = random_case()
    pairs = neighbour_pairs(inputs, which, fraction, metric)
    weights = reference.neighbours(inputs.numpy(), which, fraction, metric)
    expected = torch.from_numpy(reference.squareform(weights, 17)).triu().float()
    torch.testing.assert_close(matrix_of(pairs, 17), expected)


def test_pairs_of_four_points_on_a_line_by_hand():
    points = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    closest = neighbour_pairs(points, "closest", 1 / 3)
    assert [entry.tolist() for entry in closest] == [
        [0, 1, 2],
        [1, 2, 3],
        [2.0, 1.0, 1.0],
        [0, 3, 5],
    ]
    furthest = neighbour_pairs(points, "furthest", 1 / 3)
    assert [entry.tolist() for entry in furthest] == [
        [0, 1, 2],
        [3, 3, 3],
        [2.0, 1.0, 1.0],
        [2, 4, 5],
    ]
    both = neighbour_pairs(points, "both", 2 / 3)
    assert torch.equal(matrix_of(both, 4), matrix_of(closest, 4) + matrix_of(furthest, 4))


@pytest.mark.parametrize("which", ["closest", "furthest"])
@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 0.9])
def test_every_row_keeps_exactly_k_neighbours(which, fraction):
    inputs, _, _ = random_case(count=20)
    pairs = neighbour_pairs(inputs, which, fraction)
    k = max(1, round(fraction * 19))
    assert kept_by(pairs, 20, inputs, which).tolist() == [k] * 20


@pairwise(
    inputs=[torch.ones(9, 2), torch.eye(9), torch.arange(9.0)[:, None]],
    which=WHICH,
    fraction=FRACTIONS,
)
def test_every_row_keeps_exactly_k_neighbours_among_equally_distant_ones(inputs, which, fraction):
    pairs = neighbour_pairs(inputs, which, fraction)
    assert (pairs.first < pairs.second).all()
    assert pairs.weight.sum().item() == 9 * max(1, round(fraction * 8))


def test_equal_distances_are_ranked_by_index():
    pairs = neighbour_pairs(torch.eye(4), "closest", 1 / 3)
    assert matrix_of(pairs, 4)[0].tolist() == [0.0, 2.0, 1.0, 1.0]
    assert len(pairs.first) == 3


def test_of_equal_distances_the_furthest_are_others_than_the_closest():
    pairs = neighbour_pairs(torch.eye(5), "both", 3 / 4)  # each row's first two, and the third
    kept = [[0, 1, 1, 1, 0], [1, 0, 1, 1, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    expected = torch.tensor(kept).float()
    torch.testing.assert_close(matrix_of(pairs, 5), (expected + expected.t()).triu(1))


@pytest.mark.parametrize("which", ["closest", "furthest", "both"])
def test_a_share_of_all_keeps_every_pair_twice(which):
    pairs = neighbour_pairs(torch.randn(9, 3), which, 1.0)
    first, second = np.triu_indices(9, 1)
    assert pairs.first.tolist() == first.tolist()
    assert pairs.second.tolist() == second.tolist()
    assert pairs.weight.tolist() == [2.0] * 36
    assert pairs.place.tolist() == list(range(36))


def test_all_neighbours_need_no_list_of_pairs():
    assert neighbour_pairs(torch.randn(9, 3), "all") is None


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_have_no_neighbours(count):
    pairs = neighbour_pairs(torch.ones(count, 3), "both")
    assert [entry.tolist() for entry in pairs] == [[], [], [], []]
    assert target_distances(torch.ones(count, 3), pairs=pairs).shape == (0,)


@pairwise(metric=METRICS, guided=[False, True], which=WHICH, fraction=FRACTIONS)
def test_loss_and_gradient_equal_those_of_the_masked_full_matrix(which, fraction, guided, metric):
    inputs, outputs, values = random_case(3)
    guide = values if guided else None
    pairs = neighbour_pairs(inputs, which, fraction, metric)
    weights = reference.neighbours(inputs.numpy(), which, fraction, metric)
    expected_target = reference.target_distances(inputs, guide, metric, weights)
    target = target_distances(inputs, guide, metric, pairs=pairs)
    np.testing.assert_allclose(target, expected_target[weights > 0], **EXACT)
    leaf = outputs.clone().requires_grad_()
    expected = reference.autograd_loss(leaf, expected_target, metric, weights)
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    loss, gradient = distance_matching_gradient(outputs, target, metric, pairs=pairs)
    expected_loss = reference.loss(outputs, expected_target, metric, weights)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, **EXACT)
    leaf = outputs.clone().requires_grad_()
    by_autograd = distance_matching_loss(leaf, target, metric, pairs=pairs)
    torch.testing.assert_close(by_autograd.detach(), loss, **EXACT)
    torch.testing.assert_close(torch.autograd.grad(by_autograd, leaf)[0], gradient, **EXACT)


@pytest.mark.parametrize(
    ("metric", "which"),
    zip(METRICS, itertools.cycle(WHICH), strict=False),
)
def test_the_gradient_of_kept_pairs_equals_central_differences(which, metric):
    inputs, outputs, _ = random_case(5, count=7)
    pairs = neighbour_pairs(inputs, which, 0.5, metric)
    weights = reference.neighbours(inputs.numpy(), which, 0.5, metric)
    full = reference.target_distances(inputs, None, metric, weights)
    target = target_distances(inputs, metric=metric, pairs=pairs)
    _, gradient = distance_matching_gradient(outputs, target, metric, pairs=pairs)
    numerical = reference.numerical_gradient(outputs, full, metric, weights)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("metric", "which"), zip(METRICS, itertools.cycle(WHICH), strict=False))
def test_keeping_all_equals_the_full_matrix(which, metric):
    inputs, outputs, values = random_case(7)
    pairs = neighbour_pairs(inputs, which, 1.0, metric)
    dense, sparse = (
        distance_matching_gradient(
            outputs, target_distances(inputs, values, metric, pairs=p), metric, pairs=p
        )
        for p in (None, pairs)
    )
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-14)


@pairwise(metric=METRICS, which=WHICH, fraction=FRACTIONS)
def test_permuting_the_rows_permutes_the_gradient(which, fraction, metric):
    inputs, outputs, values = random_case(9)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(2))

    def result(x, y, v):
        pairs = neighbour_pairs(x, which, fraction, metric)
        target = target_distances(x, v, metric, pairs=pairs)
        return distance_matching_gradient(y, target, metric, pairs=pairs)

    loss, gradient = result(inputs, outputs, values)
    permuted = result(inputs[order], outputs[order], values[order])
    torch.testing.assert_close(permuted, (loss, gradient[order]), **EXACT)


def test_a_row_that_no_pair_reaches_has_no_gradient():
    inputs, outputs, _ = random_case()
    first, second, place = torch.tensor([[0, 1, 0], [1, 2, 2], [0, 16, 1]])
    pairs = Pairs(first, second, torch.ones(3).double(), place)
    target = target_distances(inputs, pairs=pairs)
    _, gradient = distance_matching_gradient(outputs, target, pairs=pairs)
    assert gradient[:3].any(dim=1).all()
    assert not gradient[3:].any()


def test_a_function_as_a_metric_serves_the_kept_pairs_too():
    inputs, outputs, _ = random_case()
    pairs = neighbour_pairs(inputs, "both", 0.25)

    def l1(rows):
        return torch.pdist(rows, p=1.0)

    torch.testing.assert_close(
        pairwise_distances(outputs, l1, pairs=pairs), pairwise_distances(outputs, pairs=pairs)
    )
    target = target_distances(inputs, pairs=pairs)
    torch.testing.assert_close(
        distance_matching_gradient(outputs, target, l1, pairs=pairs),
        distance_matching_gradient(outputs, target, pairs=pairs),
    )


@pairwise(
    bad=[float("nan"), float("inf"), -float("inf")],
    metric=METRICS,
    which=WHICH,
    fraction=FRACTIONS,
)
def test_a_non_finite_row_keeps_neighbours_too_and_shows_in_the_target(
    which, fraction, metric, bad
):
    inputs, _, _ = random_case()
    inputs[4, 1] = bad
    pairs = neighbour_pairs(inputs, which, fraction, metric)
    assert (pairs.first < pairs.second).all()
    assert not target_distances(inputs, metric=metric, pairs=pairs).isfinite().all()


def test_one_kept_pair_has_a_loss_and_exactly_no_gradient():
    pairs = Pairs(torch.tensor([1]), torch.tensor([2]), torch.tensor([2.0]), torch.tensor([4]))
    outputs = torch.randn(5, 3)
    loss, gradient = distance_matching_gradient(outputs, torch.tensor([0.5]), pairs=pairs)
    assert loss.item() == pytest.approx(2**0.5 * (1 / 2 - 1 / 3))
    assert not gradient.any()


def test_a_target_that_does_not_belong_to_the_pairs_is_refused_with_both_numbers():
    pairs = neighbour_pairs(torch.eye(4), "closest", 1 / 3)
    with pytest.raises(ValueError, match=r"\(6,\).*3 pairs"):
        distance_matching_gradient(torch.eye(4), torch.zeros(6), pairs=pairs)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(fraction):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        neighbour_pairs(torch.eye(4), "closest", fraction)


def test_unknown_neighbours_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'nearest'.*all, closest, furthest, both"):
        neighbour_pairs(torch.eye(4), "nearest")
