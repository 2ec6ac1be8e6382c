"""The paper's measures against worked-out answers and an independent implementation."""

import numpy as np
import pytest

from rllib_lpdm.analysis.statistics import final_score, max_score, smoothed


def convolved(returns, window):
    """Trailing means by convolution."""
    returns = np.asarray(returns, dtype=np.float64)
    sums = np.convolve(returns, np.ones(window))[: len(returns)]
    return sums / np.minimum(np.arange(1, len(returns) + 1), window)


def test_smoothing_by_hand():
    returns = np.array([2.0, 4.0, 6.0, 20.0, 10.0])
    np.testing.assert_allclose(smoothed(returns, 3), [2, 3, 4, 10, 12])
    np.testing.assert_allclose(smoothed(returns, 1), returns)
    np.testing.assert_allclose(smoothed(returns, 50), [2, 3, 4, 8, 8.4])


def test_the_window_is_fifty_iterations():
    impulse = np.zeros(120)
    impulse[10] = 50.0
    curve = smoothed(impulse)
    np.testing.assert_allclose(curve[[9, 10, 49, 59, 60]], [0, 50 / 11, 1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 49, 50, 51, 5000])
@pytest.mark.parametrize("window", [1, 7, 50])
def test_smoothing_equals_a_convolution(length, window):
    returns = np.random.default_rng(length).normal(-100.0, 1000.0, length)
    np.testing.assert_allclose(
        smoothed(returns, window), convolved(returns, window), rtol=1e-9, atol=1e-9
    )


def test_smoothing_leaves_its_input_alone_and_takes_an_empty_one():
    returns = np.array([1, 2, 4])
    np.testing.assert_allclose(smoothed(returns, 2), [1, 1.5, 3])
    np.testing.assert_array_equal(returns, [1, 2, 4])
    assert smoothed(np.array([])).shape == (0,)


@pytest.mark.parametrize("fault", [np.nan, np.inf, 1e17])
def test_a_wild_score_spoils_only_the_windows_that_hold_it(fault):
    returns = np.ones(10)
    returns[2] = fault
    curve = smoothed(returns, 3)
    np.testing.assert_allclose(curve[[0, 1, 5, 6, 7, 8, 9]], 1.0)


def test_max_score_is_of_the_mean_curve_and_not_the_mean_of_the_maxima():
    early = np.array([10.0, 0.0, 0.0])  # smoothed: 10, 5, 10/3
    late = np.array([0.0, 0.0, 30.0])  # smoothed: 0, 0, 10
    assert max_score([early, late]) == pytest.approx((10 / 3 + 10) / 2)
    assert max_score([early]) == 10.0


def test_max_score_smooths_over_fifty_iterations():
    spike = np.zeros(200)
    spike[100] = 500.0
    assert max_score([spike]) == pytest.approx(10.0)
    assert max_score([spike, np.zeros(200)]) == pytest.approx(5.0)


def test_max_score_uses_the_iterations_that_all_seeds_have():
    assert max_score([np.array([1.0, 2.0]), np.array([3.0, 4.0, 1000.0])]) == pytest.approx(2.5)


def test_max_score_of_negative_returns_is_negative():
    assert max_score([np.array([-500.0, -100.0])]) == pytest.approx(-300.0)


def test_final_score_is_the_mean_over_seeds_of_the_last_fifty_iterations():
    seeds = [np.arange(100.0), np.full(80, 4.0)]
    assert final_score(seeds) == pytest.approx((74.5 + 4.0) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_scores_do_not_depend_on_the_order_of_the_seeds(seed):
    rng = np.random.default_rng(seed)
    curves = [rng.normal(size=rng.integers(60, 90)) for _ in range(4)]
    for score in (max_score, final_score):
        assert score(curves[::-1]) == pytest.approx(score(curves), rel=1e-12)
    assert max_score(curves) >= np.mean([convolved(c, 50)[59] for c in curves]) - 1e-12
