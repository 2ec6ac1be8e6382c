"""Curves over training, worked out by hand."""

import numpy as np
import pytest

from rllib_lpdm.analysis.curves import (
    POINTS,
    Curve,
    distance_errors,
    learning_curve,
    score_percentiles,
)
from rllib_lpdm.analysis.groups import grouped
from rllib_lpdm.analysis.statistics import Estimate, smoothed
from tests.analysis.cells import cell, seeds

UNEQUAL = [
    cell([2, 4], {"env_steps": [10, 20]}),  # smoothed: 2, 3
    cell([4, 8, 12], {"env_steps": [20, 40, 60]}, seed=1),  # smoothed: 4, 6, 8
]


def group(cells):
    (row,) = grouped(cells).values()
    (found,) = row.values()
    return found


def test_a_curve_is_the_mean_over_the_seeds_that_are_still_there():
    curve = learning_curve(group(UNEQUAL), "iterations")
    np.testing.assert_array_equal(curve.x, [1, 2, 3])
    np.testing.assert_array_equal(curve.estimate.value, [3, 4.5, 8])
    assert curve.whole == 2


def test_its_interval_is_drawn_where_all_seeds_are():
    curve = learning_curve(group(UNEQUAL), "iterations")
    # that of two runs ends at each of them
    np.testing.assert_array_equal(curve.estimate.low, [2, 3, np.nan])
    np.testing.assert_array_equal(curve.estimate.high, [4, 6, np.nan])


def test_over_environment_steps_every_run_has_its_own_pace():
    curve = learning_curve(group(UNEQUAL), "steps")
    assert (curve.x[0], curve.x[-1], curve.whole) == (20, 60, 1)
    assert curve.estimate.value[0] == (3 + 4) / 2
    np.testing.assert_allclose(curve.estimate.value[1:], 4 + (curve.x[1:] - 20) / 10)


def test_a_single_seed_has_a_curve_without_an_interval():
    curve = learning_curve(group([cell([5, 7])]), "iterations")
    np.testing.assert_array_equal(curve.estimate.value, [5, 6])
    assert np.isnan(curve.estimate.low).all()
    assert np.isnan(curve.estimate.high).all()


def test_a_run_of_one_iteration_is_a_point():
    curve = learning_curve(group([cell([5])]), "iterations")
    assert (list(curve.x), list(curve.estimate.value)) == ([1], [5])


def test_a_long_curve_has_few_points_and_never_loses_the_end_of_a_run():
    runs = [np.random.default_rng(length).normal(size=length) for length in (3000, 4567, 9999)]
    curve = learning_curve(group(seeds(runs)), "iterations")
    assert len(curve.x) <= POINTS + len(runs)
    assert {3000, 4567, 9999} < set(curve.x)
    ours = [smoothed(run)[curve.x[: curve.whole].astype(int) - 1] for run in runs]
    np.testing.assert_allclose(curve.estimate.value[: curve.whole], np.mean(ours, axis=0))
    assert curve.x[curve.whole - 1] == 3000


def test_runs_that_have_not_finished_are_drawn_too():
    cells = [cell([1]), cell([3], seed=1, status="running")]
    assert learning_curve(group(cells), "iterations").estimate.value == [2]


def test_without_its_column_there_is_no_axis_of_steps():
    with pytest.raises(KeyError, match="env_steps"):
        learning_curve(group([cell([5])]), "steps")


def test_every_trained_layer_has_its_distance_error():
    cells = [
        cell([0, 0], {"distance_error_1": [0.2, 0.4], "distance_error_2": [1, 0]}, method="lpdm"),
        cell([0, 0], {"distance_error_1": [0.4, 0.4]}, method="lpdm", seed=1),
    ]
    curves = distance_errors(group(cells))
    assert list(curves) == [1, 2]
    np.testing.assert_allclose(curves[1].estimate.value, [0.3, 0.35])
    np.testing.assert_allclose(curves[2].estimate.value, [1, 0.5])
    assert distance_errors(group([cell([1])])) == {}


def test_a_stretch_without_a_distance_error_is_a_gap_and_costs_nothing_after_it():
    errors = np.ones(300)
    errors[100] = np.nan  # and with it the windows up to the 150th
    cells = [
        cell(errors, {"distance_error_1": values}, seed=seed)
        for seed, values in enumerate((errors, errors, np.full(300, 3.0)))
    ]
    curve = distance_errors(group(cells[:2]))[1]
    lost = (curve.x > 100) & (curve.x < 151)
    assert np.isnan(curve.estimate.value[lost]).all()
    np.testing.assert_allclose(curve.estimate.value[~lost], 1)
    curve = distance_errors(group(cells))[1]
    np.testing.assert_allclose(curve.estimate.value, np.where(lost, 3, 5 / 3))


def test_curves_are_normalised_by_percentiles_over_all_that_an_environment_has():
    place = {"algorithm": "ppo"}, {"algorithm": "reinforce"}, {"method": "lpdm"}
    cells = [cell([5 * i], seed=i, **place[i % 3]) for i in range(21)]
    cells += seeds([[-3, -5]], environment="Ant-v4")  # smoothed: -3, -4
    bounds = score_percentiles(grouped(cells))
    assert bounds["CartPole-v1"] == pytest.approx((5, 95))
    assert bounds["Ant-v4"] == pytest.approx((-3.95, -3.05))


def test_a_scaled_curve_has_the_bounds_at_zero_and_one():
    x, low, high = np.arange(3.0), np.full(3, 2.0), np.full(3, np.nan)
    curve = Curve(x, Estimate(np.array([2.0, 4.0, 6.0]), low, high), 3, np.full((3, 2), 2.0))
    scaled = curve.scaled(2, 6)
    np.testing.assert_array_equal(scaled.estimate.value, [0, 0.5, 1])
    np.testing.assert_array_equal(scaled.estimate.low, [0, 0, 0])
    assert np.isnan(scaled.estimate.high).all()
    assert curve.scaled(4, 4) is curve
