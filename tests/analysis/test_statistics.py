"""The measures and statistics against worked-out answers and independent implementations."""

import math
from statistics import fmean, stdev

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_lpdm.analysis.statistics import (
    Measures,
    bootstrap,
    end_score,
    interquartile_mean,
    mean,
    measures,
    median,
    optimality_gap,
    probability_of_improvement,
    ratios,
    seed_scores,
    smoothed,
    stratified_mean,
)

NAN = float("nan")
STRATIFIED = [
    stratified_mean,
    interquartile_mean,
    median,
    optimality_gap,
    probability_of_improvement,
]


def convolved(returns, window):
    """Trailing means by convolution."""
    returns = np.asarray(returns, dtype=np.float64)
    sums = np.convolve(returns, np.ones(window))[: len(returns)]
    return sums / np.minimum(np.arange(1, len(returns) + 1), window)


def by_definition(runs, level=math.inf):
    """The paper's three measures in plain Python."""
    length = min(map(len, runs))
    curves = [[fmean(run[max(0, i - 49) : i + 1]) for i in range(length)] for run in runs]
    average = [fmean(scores) for scores in zip(*curves, strict=True)]
    best = max(range(49 if length >= 50 else 0, length), key=average.__getitem__)
    reached = next(i for i, v in enumerate(average, 1) if v >= min(average[best], level))
    spread = 100 * stdev(curve[best] for curve in curves) / abs(average[best])
    return Measures(average[best], spread, reached)


def plainly(statistic, strata):
    """The statistics of strata without numpy's axes."""
    means, runs = [fmean(runs) for runs in strata], sorted(np.concatenate(strata))
    if statistic is stratified_mean:
        return fmean(means)
    if statistic is median:
        return sorted(means)[len(means) // 2] if len(means) % 2 else np.median(means)
    if statistic is interquartile_mean:
        cut = len(runs) // 4
        return fmean(runs[cut : len(runs) - cut])
    if statistic is optimality_gap:
        return fmean(fmean(1 - min(run, 1) for run in runs) for runs in strata)
    half = len(strata) // 2
    return fmean(
        fmean((ours > theirs) + (ours == theirs) / 2 for ours in a for theirs in b)
        for a, b in zip(strata[:half], strata[half:], strict=True)
    )


def scores(seed, sizes=(8, 5, 8, 12)):
    """Random normalised scores in strata, with ties."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0.3 + 0.3 * i, 0.4, size).round(1) for i, size in enumerate(sizes)]


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


def test_measures_by_hand():
    seeds = np.array([[0.0, 10.0, 26.0, 9.0], [2.0, 12.0, 30.0, 5.0], [4.0, 14.0, 34.0, 1.0]])
    # their mean is 2, 12, 30, 5, and at 30 their standard deviation is 4
    assert measures(seeds) == pytest.approx((30.0, 100 * 4 / 30, 3))
    assert measures(-seeds) == pytest.approx((-2.0, 100 * 2 / 2, 1))


@pytest.mark.parametrize(
    ("level", "iteration"), [(-9.0, 1), (2.0, 1), (2.1, 2), (12.0, 2), (13.0, 3), (31.0, 3)]
)
def test_iterations_are_those_to_the_lesser_of_both_max_scores(level, iteration):
    assert measures(np.array([[2.0, 12.0, 30.0, 30.0]]), level).iterations == iteration


def test_one_seed_and_a_max_score_of_zero_have_no_relative_spread():
    assert math.isnan(measures(np.array([[1.0, 2.0]])).relative_spread)
    assert math.isnan(measures(np.array([[1.0], [-1.0]])).relative_spread)
    assert measures(np.array([[2.0], [2.0]])).relative_spread == 0


def test_the_max_score_is_of_the_mean_curve_and_not_the_mean_of_the_maxima():
    early = np.array([10.0, 0.0, 0.0])  # smoothed: 10, 5, 10/3
    late = np.array([0.0, 0.0, 30.0])  # smoothed: 0, 0, 10
    assert measures(seed_scores([early, late])).max_score == pytest.approx((10 / 3 + 10) / 2)


def test_a_lucky_first_episode_is_no_max_score_but_may_reach_a_level():
    runs = np.array([[900.0, *[1.0] * 98, 51.0]])
    found = measures(seed_scores(runs))
    assert (found.max_score, found.iterations) == (pytest.approx(18.98), 1)


def test_measures_are_over_the_iterations_that_all_seeds_have():
    runs = [np.array([1.0, 2.0]), np.array([3.0, 4.0, 1000.0])]
    np.testing.assert_allclose(seed_scores(runs), [[1, 1.5], [3, 3.5]])
    assert measures(seed_scores(runs)).max_score == pytest.approx(2.5)


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_the_definitions_in_plain_python(seed):
    rng = np.random.default_rng(seed)
    runs = [rng.normal(seed - 2, 1, rng.integers(60, 200)).cumsum() for _ in range(2 + seed)]
    best = by_definition(runs).max_score
    for level in (math.inf, best - 0.3 * abs(best), -math.inf):
        expected = by_definition(runs, level)
        assert measures(seed_scores(runs), level) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25, derandomize=True, database=None, deadline=None)
@given(factor=st.floats(0.01, 100), order=st.permutations(range(4)))
def test_the_unit_of_the_returns_and_the_order_of_the_seeds_change_no_spread(factor, order):
    runs = np.random.default_rng(0).normal(-3, 1, (4, 80))
    before, after = measures(seed_scores(runs)), measures(seed_scores(factor * runs[list(order)]))
    assert after == pytest.approx(
        (factor * before.max_score, before.relative_spread, before.iterations)
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        (423.2, 331.5, 1.28),
        (489.5, 499.3, 0.98),
        (-98.1, -154.0, 1.57),  # better, and so above 1
        (-40.8, -40.0, 0.98),
        (-5.0, 5.0, NAN),
        (5.0, -5.0, NAN),
        (0.0, 5.0, NAN),
        (5.0, 0.0, NAN),
        (0.0, 0.0, NAN),
        (NAN, 5.0, NAN),
    ],
)
def test_a_better_max_score_has_a_ratio_above_one_and_none_where_signs_differ(ours, theirs, ratio):
    found = ratios(Measures(ours, 1.0, 1.0), Measures(theirs, 1.0, 1.0)).max_score
    assert round(found, 2) == pytest.approx(ratio, nan_ok=True)


def test_ratios_of_spreads_and_iterations_are_to_the_baselines_where_it_has_any():
    assert ratios(Measures(1, 3.0, 30), Measures(1, 2.0, 40))[1:] == (1.5, 0.75)
    for ours, theirs in ((3.0, 0.0), (3.0, NAN), (NAN, 2.0)):
        spread = ratios(Measures(1, ours, 30), Measures(1, theirs, 40)).relative_spread
        assert math.isnan(spread)


def test_the_end_score_is_the_mean_over_seeds_of_the_last_tenth():
    assert end_score([np.arange(100.0)]) == pytest.approx(94.5)
    assert end_score([np.arange(100.0), np.full(20, 4.0)]) == pytest.approx((94.5 + 4) / 2)
    assert end_score([np.array([1.0, 2.0, 8.0])]) == 8  # at least one iteration
    assert end_score([np.arange(17.0)]) == pytest.approx(15.5)  # two of 17


def test_the_interquartile_mean_is_of_the_middle_half_of_all_strata_together():
    assert interquartile_mean(np.array([100.0, 2, -9]), np.array([3.0, 1, 4, -7, 50])) == 2.5
    assert interquartile_mean(np.array([5.0, 1, 2, 3, -4])) == 2  # a quarter of five is one
    assert interquartile_mean(np.array([1.0, 2, 6])) == 3


def test_the_median_is_over_strata_and_the_gap_below_one_counts():
    assert median(np.array([0.0, 2]), np.array([2.0]), np.array([9.0, 9, 9])) == 2
    assert median(np.array([0.0, 2]), np.array([2.0])) == 1.5
    assert optimality_gap(np.array([0.5, 1.5]), np.array([1.0, 1, 1])) == 0.125


def test_improvement_by_hand():
    low, high = np.array([1.0, 2]), np.array([2.0, 3])
    assert probability_of_improvement(high, low) == (1 + 1 + 1 + 0.5) / 4
    assert probability_of_improvement(low, high) == 0.125
    assert probability_of_improvement(low, low) == 0.5
    assert probability_of_improvement(low, high, high, low) == (0.125 + 0.875) / 2


@pytest.mark.parametrize("seed", range(5))
def test_improvement_in_one_stratum_is_mann_and_whitneys_u(seed):
    ours, theirs = scores(seed, (9, 6))
    u = scipy.stats.mannwhitneyu(ours, theirs).statistic
    assert len(set(ours) & set(theirs)) > 0
    assert probability_of_improvement(ours, theirs) == pytest.approx(u / 54)


@pytest.mark.parametrize("statistic", STRATIFIED)
def test_statistics_equal_the_plain_ones_and_see_no_order_of_runs(statistic):
    many = [scores(seed) for seed in range(6)]
    expected = [plainly(statistic, strata) for strata in many]
    together = [np.stack(stratum) for stratum in zip(*many, strict=True)]  # (6, runs)
    np.testing.assert_allclose(statistic(*together, axis=-1), expected)
    np.testing.assert_allclose(statistic(*(each[:, ::-1] for each in together)), expected)


@pytest.mark.parametrize("statistic", STRATIFIED)
def test_intervals_equal_those_of_a_plain_stratified_bootstrap(statistic):
    strata, rng = scores(1), np.random.default_rng(1)
    drawn = [
        plainly(statistic, [rng.choice(stratum, len(stratum)) for stratum in strata])
        for _ in range(3000)
    ]
    estimate = bootstrap(strata, statistic)
    # The ends of two intervals of 2000 and 3000 resamples differ by a standard error of
    # sqrt(0.025 * 0.975 * (1 / 2000 + 1 / 3000)) / 0.058 = 0.08 standard deviations.
    tolerance = 0.3 * np.std(drawn)
    assert estimate.value == pytest.approx(plainly(statistic, strata))
    assert [estimate.low, estimate.high] == pytest.approx(
        np.percentile(drawn, [2.5, 97.5]), abs=tolerance
    )


def test_the_interval_of_two_runs_ends_at_the_runs():
    # of four equally likely resamples one has the first run only, and one the second
    value, low, high = bootstrap([np.array([[2.0, 4.0], [3.0, -3.0]])], mean)
    np.testing.assert_array_equal([value, low, high], [[3, 0], [2, -3], [4, 3]])


def test_runs_are_resampled_within_their_stratum():
    estimate = bootstrap([np.full(5, 1.0), np.full(5, 3.0)], stratified_mean)
    assert estimate == (2, 2, 2)


def test_a_stratum_of_one_run_leaves_the_figure_without_an_interval():
    value, low, high = bootstrap([np.arange(5.0), np.array([4.0])], stratified_mean)
    assert value == 3
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("statistic", STRATIFIED)
def test_an_interval_is_the_same_every_time(statistic):
    assert bootstrap(scores(2), statistic) == bootstrap(scores(2), statistic)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Percentile intervals from 20 runs cover somewhat less than 95 %.
    runs = np.random.default_rng(0).normal(size=(1000, 20))
    _, low, high = bootstrap([runs], mean, resamples=500)
    assert 0.90 < np.mean((low < 0) & (high > 0)) < 0.96
