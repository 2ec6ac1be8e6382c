"""Scores of seeds in, a ranking and a winner out: answers worked out by hand."""

import math

import numpy as np
import pytest

from rllib_lpdm.results.scores import Measures
from rllib_lpdm.schema.search_section import Calibration, LowerBound
from rllib_lpdm.searches.choice import Ranked, best, calibrated, choose, ranked

NAN = float("nan")


def one_kind(rows):
    return np.array(rows, dtype=float)[:, None, :]


def test_the_score_is_the_mean_over_seeds_and_the_noise_that_of_a_difference_of_two():
    ranking = ranked(one_kind([[1, 3], [10, 14], [5, 5]]), "max_score")
    assert ranking.scores.tolist() == [2, 12, 5]
    # without the means of configurations and seeds 0, -1, 1 are left, and 0, 1, -1: 4 for two
    # degrees of freedom; a mean of two seeds has half of that, a difference of two twice as much
    assert ranking.noise == pytest.approx(np.sqrt(2))


def test_a_seed_that_is_easier_for_all_is_no_noise():
    rows = one_kind([[1, 3, 2], [10, 12, 11], [5, 7, 6]])
    assert ranked(rows, "max_score").noise == pytest.approx(0, abs=1e-12)


def test_a_failed_seed_counts_as_the_worst_result_and_says_nothing_of_the_noise():
    ranking = ranked(one_kind([[1, 3], [NAN, 14], [5, 5]]), "max_score")
    assert ranking.scores.tolist() == [2, 7.5, 5]
    assert ranking.noise == pytest.approx(1.0)
    assert np.isnan(ranked(one_kind([[NAN], [NAN]]), "max_score").scores).all()


def test_a_lower_bound_is_students_and_prefers_what_is_sure():
    runs = [[10.0, 14.0], [11.0, 11.2]]
    scores = ranked(one_kind(runs), LowerBound(lower_bound="max_score", confidence=0.9)).scores
    # with one degree of freedom Student's quantile of p is tan(pi (p - 1/2))
    quantile = np.tan(np.pi * 0.4)
    assert scores == pytest.approx([12 - quantile * 2, 11.1 - quantile * 0.1])
    assert scores.argmax() == 1


def by_published(curves, targets, **criterion):
    """The ranking of (configurations, kinds, seeds, iterations) returns; nan of a failed cell."""
    cells = [
        [[None if np.isnan(run).any() else np.array(run) for run in kind] for kind in each]
        for each in curves
    ]
    section = Calibration.model_validate({"published": "table.csv", **criterion})
    return calibrated(cells, section, targets)


def flat(rows, iterations=60):
    """Curves that stay at one return each, of (configurations, kinds, seeds) returns."""
    return np.repeat(np.array(rows, dtype=float)[..., None], iterations, axis=-1)


def test_published_scores_are_met_by_the_mean_that_is_nearest_in_published_spreads():
    targets = [(Measures(450.0, 10.0, 50), math.inf)]  # a spread of 45
    curves = flat([[[400, 482]], [[430, 450]], [[500, 500]]])
    assert by_published(curves, targets).scores == pytest.approx([-9 / 45, -10 / 45, -50 / 45])
    below = [(Measures(-450.0, 10.0, 50), math.inf)]
    assert by_published(-curves, below).scores == pytest.approx([-9 / 45, -10 / 45, -50 / 45])


def test_several_places_and_columns_weigh_the_same_and_some_do_not_count():
    targets = [
        (Measures(100.0, 5.0, 60), math.inf),
        None,
        (Measures(-10.0, 50.0, 60), math.inf),
    ]
    curves = flat([[[90, 90], [0, 0], [-20, -20]], [[100, 110], [9, 9], [-10, -10]]])
    assert by_published(curves, targets).scores == pytest.approx([-(2 + 2) / 2, -(1 + 0) / 2])
    found = by_published(curves[:, :1], targets[:1], columns=["max_score", "rel_spread"])
    spread = 100 * np.sqrt(50) / 105
    assert found.scores == pytest.approx([-(2 + 1) / 2, -(1 + abs(spread - 5) / 5) / 2])
    wide = by_published(curves[:, :1], targets[:1], floors={"max_score": 20.0})
    assert wide.scores == pytest.approx([-0.5, -0.25])


def test_the_noise_of_distances_is_that_of_seeds_that_configurations_do_not_share():
    targets = [(Measures(100.0, 10.0, 60), math.inf)]
    # Above the published score a distance is a mean, and the jackknife's values are its terms.
    rows = [[[110, 130, 120]], [[140, 160, 150]]]
    assert by_published(flat(rows), targets).noise == pytest.approx(0, abs=1e-9)
    ranking = by_published(flat([[[110, 130]], [[200, 240]], [[150, 150]]]), targets)
    # as scores 1, 3; 10, 14; 5, 5 of the test above
    assert ranking.noise == pytest.approx(np.sqrt(2))


def test_several_environments_weigh_the_same_whatever_their_scores():
    small, large = np.linspace(0, 1, 21), np.linspace(0, 1000, 21)[::-1]
    cells = np.stack([small, large], axis=1)[:, :, None]
    scores = ranked(cells, "max_score").scores
    assert scores == pytest.approx(np.full(21, 0.5))  # what the one gains, the other loses


def test_of_a_tie_within_noise_the_nearest_to_the_default_wins_and_the_tie_is_said():
    ranking = Ranked(np.array([5.0, 9.5, 10.0, 9.0]), noise=0.6)
    choice = choose(ranking, np.array([0.0, 0.2, 0.5, 0.1]))
    assert (choice.best, choice.tied, choice.winner) == (2, [1, 2], 1)
    assert choice.margin == pytest.approx(-0.5)
    sure = choose(Ranked(ranking.scores, 0.0), np.zeros(4))
    assert (sure.best, sure.tied, sure.winner, sure.margin) == (2, [2], 2, pytest.approx(0.5))
    assert choose(Ranked(np.full(2, NAN), 0.0), np.zeros(2)) is None


def test_the_best_are_kept_and_of_equal_ones_the_first():
    assert best(np.array([1.0, 3.0, NAN, 3.0, 2.0]), 2) == [1, 3]
    assert best(np.array([1.0, 1.0, 1.0]), 2) == [0, 1]
    assert best(np.array([NAN, NAN, 1.0]), 2) == [0, 2]


def test_by_published_scores_a_failed_cell_is_the_furthest_of_all_though_scores_overshoot():
    curves = flat([[[1000.0, 1000]], [[1500, 1500]], [[np.nan, 814]], [[850, 800]]])
    scores = by_published(curves, [(Measures(814.0, 5.0, 60), math.inf)]).scores
    assert np.argmin(scores) in (1, 2)
    assert scores[2] == scores[1]
    assert np.argmax(scores) == 3
    nothing = by_published(flat([[[np.nan]]] * 2), [(Measures(814.0, 5.0, 60), math.inf)])
    assert np.isnan(nothing.scores).all()
