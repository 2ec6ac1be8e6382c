"""Condensed distances in every metric, and their gradient."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from rllib_lpdm.local_learning import (
    METRICS,
    neighbour_pairs,
    pairwise_distances,
    pairwise_distances_gradient,
)
from tests.local_learning import reference
from tests.pairwise import pairwise

SHAPES = [(2, 1), (3, 2), (5, 1), (9, 17), (24, 64)]
DTYPES = [torch.float32, torch.float64]
SCIPY_NAMES = {
    "l1": "cityblock",
    "l2": "euclidean",
    "squared_l2": "sqeuclidean",
    "cosine": "cosine",
}


def l3(rows):
    """A metric that is not built in."""
    return torch.pdist(rows, p=3.0)


def random_rows(shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pairwise(metric=METRICS, dtype=DTYPES, shape=SHAPES)
def test_distances_equal_scipy_and_the_pairwise_reference(shape, dtype, metric):
    rows = random_rows(shape, dtype)
    distances = pairwise_distances(rows, metric)
    assert distances.dtype == dtype
    single = dtype == torch.float32
    tolerance = {"rtol": 1e-5 if single else 1e-12, "atol": 1e-5 if single else 1e-12}
    if metric in SCIPY_NAMES:
        np.testing.assert_allclose(
            distances, pdist(rows.double(), SCIPY_NAMES[metric]), **tolerance
        )
    np.testing.assert_allclose(distances, reference.pairwise_distances(rows, metric), **tolerance)


def test_gram_is_the_upper_triangle_of_the_product_with_the_transpose():
    rows = random_rows((7, 3)).numpy()
    expected = (rows @ rows.T)[np.triu_indices(7, 1)]
    np.testing.assert_allclose(pairwise_distances(torch.from_numpy(rows), "gram"), expected)


def test_pairs_are_listed_row_by_row():
    rows = torch.tensor([[0.0, 0.0], [1.0, -1.0], [3.0, 0.0], [0.0, 7.0]])
    assert pairwise_distances(rows).tolist() == [2.0, 3.0, 7.0, 3.0, 9.0, 10.0]


@pytest.mark.parametrize("metric", [*METRICS, l3])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_have_no_pairs_and_a_gradient_of_zeros(count, metric):
    rows, nothing = torch.ones(count, 3), torch.zeros(0)
    assert pairwise_distances(rows, metric).shape == (0,)
    gradient = pairwise_distances_gradient(nothing, rows, nothing, metric)
    assert gradient.tolist() == [[0.0, 0.0, 0.0]] * count


@pairwise(metric=[*METRICS, l3], dtype=DTYPES, shape=SHAPES, neighbours=["all", "both"])
def test_hand_gradient_equals_autograd(shape, dtype, metric, neighbours):
    rows = random_rows(shape, dtype).requires_grad_()
    pairs = neighbour_pairs(rows, neighbours)
    distances = pairwise_distances(rows, metric, pairs=pairs)
    upstream = random_rows((distances.numel(), 1), dtype)[:, 0]
    (by_autograd,) = torch.autograd.grad(distances, rows, upstream)
    by_hand = pairwise_distances_gradient(
        upstream, rows.detach(), distances.detach(), metric, pairs=pairs
    )
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(by_hand, by_autograd, rtol=tolerance, atol=tolerance)


def test_gradient_is_the_sign_of_the_difference_and_zero_where_entries_are_equal():
    rows = torch.tensor([[1.0, 5.0], [1.0, 2.0], [4.0, 2.0]])
    upstream = torch.tensor([1.0, 10.0, 100.0])
    gradient = pairwise_distances_gradient(upstream, rows, pairwise_distances(rows))
    assert gradient.tolist() == [[-10.0, 11.0], [-100.0, -1.0], [110.0, -10.0]]


@pytest.mark.parametrize("metric", METRICS)
def test_autograd_gradient_equals_finite_differences(metric):
    rows = random_rows((6, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pairwise_distances(x, metric), rows)


@pytest.mark.parametrize("metric", [*METRICS, l3])
def test_listed_pairs_have_the_distances_and_the_gradient_of_the_full_matrix(metric):
    rows = random_rows((40, 6))
    pairs = neighbour_pairs(rows, "closest", 1 / 4)
    every = pairwise_distances(rows, metric)
    place = {pair: k for k, pair in enumerate(zip(*np.triu_indices(40, 1), strict=True))}
    kept = [place[pair] for pair in zip(pairs.first.numpy(), pairs.second.numpy(), strict=True)]
    assert kept == sorted(kept)
    distances = pairwise_distances(rows, metric, pairs=pairs)
    torch.testing.assert_close(distances, every[kept])
    upstream = torch.zeros_like(every)
    upstream[kept] = random_rows((len(kept), 1))[:, 0]
    torch.testing.assert_close(
        pairwise_distances_gradient(upstream[kept], rows, distances, metric, pairs=pairs),
        pairwise_distances_gradient(upstream, rows, every, metric),
    )


@pytest.mark.parametrize("neighbours", ["all", "closest"])
@pytest.mark.parametrize("metric", ["l1", "l2", "squared_l2", "cosine"])
def test_equal_rows_have_no_distance_and_do_not_move_each_other(metric, neighbours):
    rows = random_rows((1, 5)).repeat(4, 1)
    pairs = neighbour_pairs(rows, neighbours)
    distances = pairwise_distances(rows, metric, pairs=pairs)
    assert not distances.any()
    upstream = torch.ones_like(distances)
    gradient = pairwise_distances_gradient(upstream, rows, distances, metric, pairs=pairs)
    assert not gradient.any()


@pytest.mark.parametrize(
    ("width", "dtype"), [(1, torch.float64), (5, torch.float32), (1000, torch.float32)]
)
def test_rows_that_differ_by_a_positive_factor_have_exactly_no_cosine_distance_and_gradient(
    width, dtype
):
    rows = random_rows((1, width), dtype) * torch.linspace(0.1, 9.0, 20, dtype=dtype)[:, None]
    distances = pairwise_distances(rows, "cosine")
    assert not distances.any()
    upstream = torch.ones_like(distances)
    assert not pairwise_distances_gradient(upstream, rows, distances, "cosine").any()


@pytest.mark.parametrize("neighbours", ["all", "closest"])
def test_a_row_of_zeros_has_cosine_similarity_zero_to_all_and_no_gradient(neighbours):
    rows = random_rows((5, 3))
    rows[0] = rows[3] = 0.0
    rows.requires_grad_()
    pairs = neighbour_pairs(rows, neighbours, 1.0)
    distances = pairwise_distances(rows, "cosine", pairs=pairs)
    assert distances[[0, 1, 2, 3, 5, 7, 9]].tolist() == [1.0] * 7
    upstream = torch.ones_like(distances)
    (by_autograd,) = torch.autograd.grad(distances, rows, upstream)
    gradient = pairwise_distances_gradient(
        upstream, rows.detach(), distances.detach(), "cosine", pairs=pairs
    )
    assert not gradient[[0, 3]].any()
    torch.testing.assert_close(gradient, by_autograd)


def test_the_gradient_of_squared_distances_keeps_its_digits_far_from_zero():
    rows, upstream = random_rows((6, 3)), random_rows((15, 1))[:, 0]
    near, far = (
        pairwise_distances_gradient(upstream, x, pairwise_distances(x, "squared_l2"), "squared_l2")
        for x in (rows, rows + 1e6)
    )
    torch.testing.assert_close(far, near, rtol=1e-8, atol=1e-8)


def test_a_function_serves_as_a_metric_where_autograd_is_switched_off():
    rows = random_rows((6, 4))
    upstream = random_rows((15, 1))[:, 0]
    expected = pairwise_distances_gradient(upstream, rows, pairwise_distances(rows, "l2"), "l2")
    with torch.inference_mode():
        inner = rows.clone()
        distances = pairwise_distances(inner, torch.pdist)
        gradient = pairwise_distances_gradient(upstream.clone(), inner, distances, torch.pdist)
    torch.testing.assert_close(gradient.clone(), expected)
    assert not gradient.requires_grad


def test_a_function_that_returns_the_wrong_shape_is_refused_with_both():
    with pytest.raises(ValueError, match=r"4 rows have 6 pairs.*\(4, 4\)"):
        pairwise_distances(torch.ones(4, 2), lambda x: x @ x.t())


def test_a_function_without_a_derivative_is_refused_where_one_is_needed():
    rows, nothing = torch.ones(3, 2), torch.zeros(3)
    with pytest.raises(ValueError, match="not differentiable"):
        pairwise_distances_gradient(nothing, rows, nothing, lambda x: torch.pdist(x.detach()))


def test_a_gradient_or_distances_of_other_pairs_are_refused_with_both_numbers():
    rows = torch.ones(4, 2)
    with pytest.raises(ValueError, match=r"4 rows have 6 pairs.*\(5,\).*\(6,\)"):
        pairwise_distances_gradient(torch.zeros(5), rows, torch.zeros(6))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_rows_that_are_no_matrix_are_refused_with_their_shape(shape):
    rows = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"\(N, d\)") as refusal:
        pairwise_distances(rows)
    assert str(shape) in str(refusal.value)
    with pytest.raises(ValueError, match=r"\(N, d\)"):
        pairwise_distances_gradient(torch.zeros(1), rows, torch.zeros(1))


def test_unknown_metric_is_refused_with_the_known_ones():
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"'l3'.*l1.*gram"):
        pairwise_distances(rows, "l3")
    with pytest.raises(ValueError, match=r"'l3'.*l1.*gram"):
        pairwise_distances_gradient(torch.zeros(1), rows, torch.zeros(1), "l3")
