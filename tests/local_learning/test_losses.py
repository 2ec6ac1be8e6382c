"""The local loss and its gradient: by hand, by autograd, and by the formulas in numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from rllib_lpdm.local_learning import (
    METRICS,
    distance_error,
    distance_matching_gradient,
    distance_matching_loss,
    pairwise_distances,
    target_distances,
)
from tests.local_learning import reference
from tests.pairwise import pairwise

SEEDS = [0, 1, 4, 7, 10, 15]
EXACT = {"rtol": 1e-9, "atol": 1e-9}
DTYPES = [torch.float32, torch.float64]
NUMPY_TOLERANCE = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-4},
    torch.float64: {"rtol": 1e-9, "atol": 1e-9},
}


def random_case(seed, dtype=torch.float64):
    """Outputs of a tanh layer and a target, guided for every other seed."""
    generator = torch.Generator().manual_seed(seed)
    count, input_width, output_width = 3 + seed, 1 + 7 * seed % 11, 1 + 5 * seed % 17
    inputs = torch.randn(count, input_width, generator=generator, dtype=dtype)
    outputs = torch.randn(count, output_width, generator=generator, dtype=dtype).tanh()
    values = torch.randn(count, generator=generator, dtype=dtype) if seed % 2 else None
    return outputs, target_distances(inputs, values)


def metric_case(seed, metric, guided):
    """Outputs and a target in this metric, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = (
        torch.randn(4 + 3 * seed, width, generator=generator, dtype=torch.float64)
        for width in (2 + seed, 3 + 2 * seed)
    )
    values = torch.randn(len(inputs), generator=generator, dtype=torch.float64)
    return outputs.tanh(), target_distances(inputs, values if guided else None, metric)


def autograd(outputs, target, metric="l1"):
    outputs = outputs.detach().requires_grad_()
    loss = distance_matching_loss(outputs, target, metric)
    (gradient,) = torch.autograd.grad(loss, outputs)
    return loss.detach(), gradient


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_and_hand_gradient_equal_autograd(seed, dtype):
    outputs, target = random_case(seed, dtype)
    by_hand, by_autograd = distance_matching_gradient(outputs, target), autograd(outputs, target)
    assert by_hand[0].dtype == by_hand[1].dtype == dtype
    torch.testing.assert_close(by_hand, by_autograd, **NUMPY_TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_and_hand_gradient_equal_the_formulas(seed, dtype):
    outputs, target = random_case(seed, dtype)
    loss, gradient = distance_matching_gradient(outputs, target)
    y, a = outputs.double().numpy(), target.double().numpy()
    np.testing.assert_allclose(loss, reference.loss(y, a), **NUMPY_TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, reference.gradient(y, a), **NUMPY_TOLERANCE[dtype])


@pytest.mark.parametrize("seed", SEEDS)
def test_hand_gradient_equals_central_differences(seed):
    outputs, target = random_case(seed)
    _, gradient = distance_matching_gradient(outputs, target)
    numerical = reference.numerical_gradient(outputs, target.numpy())
    np.testing.assert_allclose(gradient, numerical, rtol=1e-5, atol=1e-7)


@pairwise(metric=METRICS, guided=[False, True], seed=[0, 2, 5])
def test_every_metric_has_the_loss_and_the_gradient_of_its_reference(seed, guided, metric):
    outputs, target = metric_case(seed, metric, guided)
    leaf = outputs.clone().requires_grad_()
    expected = reference.autograd_loss(leaf, target, metric)
    loss, gradient = distance_matching_gradient(outputs, target, metric)
    np.testing.assert_allclose(loss, reference.loss(outputs, target.numpy(), metric), rtol=1e-10)
    torch.testing.assert_close(loss, expected.detach(), **EXACT)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, leaf)[0], **EXACT)
    torch.testing.assert_close((loss, gradient), autograd(outputs, target, metric), **EXACT)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_the_gradient_of_finite_differences(metric):
    outputs, target = metric_case(1, metric, guided=True)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: distance_matching_loss(y, target, metric), outputs)


@pytest.mark.parametrize("metric", METRICS)
def test_a_function_in_place_of_a_name_gives_the_same_loss_and_gradient(metric):
    outputs, target = metric_case(3, metric, guided=False)
    by_function = distance_matching_gradient(
        outputs, target, lambda rows: pairwise_distances(rows, metric)
    )
    by_name = distance_matching_gradient(outputs, target, metric)
    torch.testing.assert_close(by_function, by_name, **EXACT)


def test_gram_loss_and_gradient_by_hand_where_the_largest_entry_is_negative():
    outputs, target = torch.tensor([[1.0], [-2.0], [0.5]]), torch.tensor([-0.5, 0.5, -1.0])
    # D = (-2, 1/2, -1), m = 2, M = (-1, 1/4, -1/2), E = (-1/2, -1/4, 1/2), L = sqrt(9/8),
    # G0 = 2 E / L, sum(G0 M) = (2 / L)(3/16), G = (2 / L)(-1/4 + 3/32, -1/8, 1/4).
    loss, gradient = distance_matching_gradient(outputs, target, "gram")
    torch.testing.assert_close(loss, torch.tensor(math.sqrt(9 / 8)))
    a, b, c = -5 / 32, -4 / 32, 8 / 32
    expected = torch.tensor([[-2 * a + b / 2], [a + c / 2], [b - 2 * c]]) * 2 / math.sqrt(9 / 8)
    torch.testing.assert_close(gradient, expected)


def test_loss_and_gradient_by_hand_on_three_points():
    outputs, target = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0.5, 1.0, 0.5])
    # M = (1/3, 1, 2/3), E = (-1/6, 0, 1/6), L = 1/3, G0 = (-1, 0, 1), s = 1/3, m = 3,
    # G = (-1/3, -1/9, 1/3): the farthest pair (0, 2) carries -s/m.
    loss, gradient = distance_matching_gradient(outputs, target)
    torch.testing.assert_close(loss, torch.tensor(1 / 3))
    torch.testing.assert_close(gradient, torch.tensor([[4 / 9], [-6 / 9], [2 / 9]]))


@pytest.mark.parametrize("seed", SEEDS)
def test_moving_or_scaling_all_outputs_changes_nothing_and_so_the_gradient_avoids_it(seed):
    outputs, target = random_case(seed)
    loss, gradient = distance_matching_gradient(outputs, target)
    torch.testing.assert_close(distance_matching_loss(3.0 * outputs + 1.0, target), loss)
    torch.testing.assert_close(gradient.sum(0), torch.zeros_like(gradient[0]), atol=1e-9, rtol=0)
    assert (gradient * outputs).sum().item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_permuting_the_rows_permutes_the_gradient(seed):
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    order = torch.randperm(9, generator=generator)
    loss, gradient = distance_matching_gradient(outputs, target_distances(inputs))
    permuted = distance_matching_gradient(outputs[order], target_distances(inputs[order]))
    torch.testing.assert_close(permuted, (loss, gradient[order]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows_do_not_move_each_other(dtype):
    outputs, target = random_case(5, dtype)
    outputs[0], outputs[-1] = 1.0, -1.0
    outputs[2] = outputs[1]
    loss, gradient = distance_matching_gradient(outputs, target)
    y, a = outputs.double().numpy(), target.double().numpy()
    torch.testing.assert_close((loss, gradient), autograd(outputs, target))
    np.testing.assert_allclose(gradient, reference.gradient(y, a), **NUMPY_TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, reference.numerical_gradient(y, a), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_outputs_that_share_the_largest_distance_are_treated_as_by_autograd(dtype):
    outputs, target = random_case(9, dtype)
    saturated = outputs.sign()
    by_hand = distance_matching_gradient(saturated, target)
    torch.testing.assert_close(by_hand, autograd(saturated, target))
    y, a = saturated.double().numpy(), target.double().numpy()
    np.testing.assert_allclose(by_hand[1], reference.gradient(y, a), **NUMPY_TOLERANCE[dtype])


@pytest.mark.parametrize("metric", ["l1", "l2", "squared_l2", "cosine"])
@pytest.mark.parametrize(
    ("outputs", "target"),
    [
        pytest.param(torch.zeros(0, 3), torch.zeros(0), id="no rows"),
        pytest.param(torch.ones(1, 3), torch.zeros(0), id="one row"),
        pytest.param(torch.full((4, 3), 0.3), torch.full((6,), 0.5), id="equal outputs"),
        pytest.param(torch.arange(12.0).view(4, 3), torch.zeros(6), id="target of zeros"),
    ],
)
def test_loss_and_gradient_are_exactly_zero_where_nothing_can_be_matched(outputs, target, metric):
    for loss, gradient in (
        distance_matching_gradient(outputs, target, metric),
        autograd(outputs, target, metric),
    ):
        assert loss.item() == 0.0
        assert torch.equal(gradient, torch.zeros_like(outputs))


@pytest.mark.parametrize(
    ("outputs", "target", "metric"),
    [
        ([[0.0], [1.0], [4.0]], [0.25, 1.0, 0.75], "l1"),
        ([[0.0], [1.0], [4.0]], [0.25, 1.0, 0.75], "l2"),
        ([[0.0], [1.0], [4.0]], [1 / 16, 1.0, 9 / 16], "squared_l2"),
        ([[0.0], [1.0], [-4.0]], [0.5, 0.5, 1.0], "cosine"),
        ([[-0.5], [1.0], [4.0]], [-0.125, -0.5, 1.0], "gram"),
        ([[0.0], [0.0], [0.0]], [-0.5, 0.5, 1.0], "gram"),
        ([[0.0], [1.0], [4.0]], [0.0, 0.0, 0.0], "gram"),
    ],
)
def test_matched_outputs_have_exactly_no_loss_and_no_gradient(outputs, target, metric):
    outputs, target = torch.tensor(outputs), torch.tensor(target)
    loss, gradient = distance_matching_gradient(outputs, target, metric)
    assert loss.item() == distance_matching_loss(outputs, target, metric).item() == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_rows_have_a_loss_and_exactly_no_gradient(dtype, metric):
    # Many draws, because rounding leaves a trace of a gradient in some of them.
    for seed in range(50):
        generator, width = torch.Generator().manual_seed(seed), 3 + seed % 16
        outputs = torch.randn(2, width, generator=generator, dtype=dtype)
        loss, gradient = distance_matching_gradient(
            outputs, torch.tensor([0.5], dtype=dtype), metric
        )
        sign = -1 if metric == "gram" and outputs[0] @ outputs[1] < 0 else 1
        assert loss.item() == pytest.approx(math.sqrt(2.0) * (1 / 2 - sign / width), rel=1e-5)
        assert torch.equal(gradient, torch.zeros_like(outputs))


@pairwise(bad=[math.nan, math.inf, -math.inf], place=["outputs", "target"], metric=METRICS)
def test_a_non_finite_entry_makes_the_gradient_non_finite(place, bad, metric):
    outputs, target = random_case(8, torch.float32)
    (outputs if place == "outputs" else target).view(-1)[3] = bad
    loss, gradient = distance_matching_gradient(outputs, target, metric)
    assert not loss.isfinite()
    assert not gradient.isfinite().all()


@pytest.mark.parametrize("function", [distance_matching_loss, distance_matching_gradient])
def test_shapes_that_do_not_belong_together_and_unknown_metrics_are_refused(function):
    with pytest.raises(ValueError, match=r"\(5,\).*6 pairs"):
        function(torch.zeros(4, 2), torch.zeros(5))
    with pytest.raises(ValueError, match=r"\(4, 4\).*6 pairs"):
        function(torch.zeros(4, 2), torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"\(N, d\).*\(4,\)"):
        function(torch.zeros(4), torch.zeros(6))
    with pytest.raises(ValueError, match=r"'l3'.*l1.*gram"):
        function(torch.zeros(4, 2), torch.zeros(6), "l3")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("seed", [3, 12])
def test_loss_and_gradient_on_the_gpu_equal_those_on_the_cpu(seed):
    outputs, target = random_case(seed, torch.float32)
    loss, gradient = distance_matching_gradient(outputs.cuda(), target.cuda())
    torch.testing.assert_close(
        (loss.cpu(), gradient.cpu()),
        distance_matching_gradient(outputs, target),
        **NUMPY_TOLERANCE[torch.float32],
    )


def test_the_distance_error_is_zero_for_a_scaled_copy_in_any_number_of_dimensions():
    x = torch.randn(20, 5, dtype=torch.float64)
    copy = torch.cat([3 * x, torch.zeros(20, 11, dtype=torch.float64)], dim=1)
    assert distance_error(pairwise_distances(copy), target_distances(x)) < 1e-12
    assert distance_matching_loss(copy, target_distances(x)) > 1e-2  # unlike the loss


def test_the_distance_error_is_the_root_mean_square_of_what_scipy_finds():
    x, y = torch.randn(15, 4, dtype=torch.float64), torch.randn(15, 9, dtype=torch.float64)
    kept, wanted = (pdist(rows.numpy(), "cityblock") for rows in (y, x))
    expected = np.sqrt(np.mean((kept / kept.max() - wanted / wanted.max()) ** 2))
    assert distance_error(pairwise_distances(y), target_distances(x)) == pytest.approx(expected)


def test_the_distance_error_of_signed_entries_by_hand():
    kept, wanted = torch.tensor([-2.0, 1.0, 0.0]), torch.tensor([0.25, -0.25, 0.125])
    expected = math.sqrt((2.0**2 + 1.5**2 + 0.5**2) / 3)
    assert distance_error(kept, wanted, "gram") == pytest.approx(expected)
