"""Condensed L1 distances and their gradient."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from rllib_lpdm.local_learning import pairwise_distances, pairwise_distances_gradient
from tests.local_learning import reference

SHAPES = [(2, 1), (3, 2), (5, 1), (9, 17), (24, 64)]
DTYPES = [torch.float32, torch.float64]


def random_rows(shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_distances_equal_scipy_and_the_pairwise_reference(shape, dtype):
    rows = random_rows(shape, dtype)
    distances = pairwise_distances(rows)
    assert distances.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(distances, pdist(rows.double(), "cityblock"), rtol=tolerance)
    np.testing.assert_allclose(distances, reference.pairwise_distances(rows), rtol=tolerance)


def test_pairs_are_listed_row_by_row():
    rows = torch.tensor([[0.0, 0.0], [1.0, -1.0], [3.0, 0.0], [0.0, 7.0]])
    assert pairwise_distances(rows).tolist() == [2.0, 3.0, 7.0, 3.0, 9.0, 10.0]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_have_no_pairs(count):
    assert pairwise_distances(torch.zeros(count, 3)).shape == (0,)


def test_a_single_row_has_a_gradient_of_zeros():
    row, nothing = torch.ones(1, 3), torch.zeros(0)
    assert pairwise_distances_gradient(nothing, row, nothing).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_hand_gradient_equals_autograd(shape, dtype):
    rows = random_rows(shape, dtype).requires_grad_()
    distances = pairwise_distances(rows)
    upstream = random_rows((distances.numel(), 1), dtype)[:, 0]
    (by_autograd,) = torch.autograd.grad(distances, rows, upstream)
    by_hand = pairwise_distances_gradient(upstream, rows.detach(), distances.detach())
    torch.testing.assert_close(by_hand, by_autograd)


def test_gradient_is_the_sign_of_the_difference_and_zero_where_entries_are_equal():
    rows = torch.tensor([[1.0, 5.0], [1.0, 2.0], [4.0, 2.0]])
    upstream = torch.tensor([1.0, 10.0, 100.0])
    gradient = pairwise_distances_gradient(upstream, rows, pairwise_distances(rows))
    assert gradient.tolist() == [[-10.0, 11.0], [-100.0, -1.0], [110.0, -10.0]]


def test_autograd_gradient_equals_finite_differences():
    assert torch.autograd.gradcheck(pairwise_distances, random_rows((6, 4)).requires_grad_())


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
    with pytest.raises(ValueError, match=r"'cosine'.*l1"):
        pairwise_distances(rows, "cosine")
    with pytest.raises(ValueError, match=r"'cosine'.*l1"):
        pairwise_distances_gradient(torch.zeros(1), rows, torch.zeros(1), "cosine")
