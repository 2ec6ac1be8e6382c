"""Scores of seeds in, a ranking and a winner out: answers worked out by hand."""

import numpy as np
import pytest

from rllib_lpdm.experiment.search.choice import Ranked, best, choose, ranked
from rllib_lpdm.experiment.search.section import LowerBound

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


def test_the_paper_is_met_by_the_configuration_whose_mean_is_nearest_to_it():
    cells = one_kind([[400, 480], [430, 450], [500, 500]])
    assert ranked(cells, "paper", [450.0]).scores == pytest.approx(
        [-10 / 450, -10 / 450, -50 / 450]
    )
    assert ranked(-cells, "paper", [-450.0]).scores == pytest.approx(
        [-10 / 450, -10 / 450, -50 / 450]
    )


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


def test_by_the_papers_number_a_failed_cell_is_the_furthest_of_all_though_scores_overshoot():
    cells = np.array([[[1000.0, 1000]], [[1500, 1500]], [[np.nan, np.nan]], [[850, 1200]]])
    scores = ranked(cells, "paper", [814.0]).scores
    assert np.argmin(scores) in (1, 2)
    assert scores[2] == scores[1]
    assert np.argmax(scores) == 0
