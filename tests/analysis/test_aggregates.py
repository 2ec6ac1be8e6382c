"""Methods over all environments, in a grid worked out by hand and under changes of no meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_lpdm.analysis.aggregates import ALL, TAUS, aggregate_rows, normalised_scores
from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.groups import Place, grouped
from tests.analysis.cells import cell, seeds


def runs(scores, **run):
    """Cells of one iteration, so that a run's score is its only return."""
    return seeds([[score] for score in scores], **run)


BY_HAND = [
    *runs([0, 10], environment="CartPole-v1"),  # 0, 1 when normalised
    *runs([5, 10], environment="CartPole-v1", method="lpdm"),  # 0.5, 1
    *runs([-4, 0], environment="Ant-v4"),  # 0, 1
    *runs([-2, -2], environment="Ant-v4", method="lpdm"),  # 0.5, 0.5
]


def aggregates(cells, baseline="bp"):
    rows, _ = aggregate_rows(grouped(cells), baseline)
    return {(row.algorithm, row.series.label): row for row in rows}


def values(row):
    estimates = row.profile, row.interquartile_mean, row.median, row.optimality_gap, row.improvement
    return [np.asarray(e.value).tolist() for e in estimates if e]


def grid(seed, algorithms=("reinforce", "ppo")):
    """Random runs of three methods on two environments."""
    rng = np.random.default_rng(seed)
    return [
        made
        for environment in ("CartPole-v1", "Ant-v4")
        for algorithm in algorithms
        for method in ("bp", "lpdm", "frozen")
        for made in seeds(
            rng.normal(size=(4, 60)), environment=environment, algorithm=algorithm, method=method
        )
    ]


def test_aggregates_by_hand():
    found = aggregates(BY_HAND)
    assert list(found) == [("ppo", "bp"), ("ppo", "lpdm")]
    bp, lpdm = found.values()
    assert (bp.interquartile_mean.value, lpdm.interquartile_mean.value) == (0.5, 0.5)
    assert (bp.median.value, lpdm.median.value) == (0.5, (0.75 + 0.5) / 2)
    assert (bp.optimality_gap.value, lpdm.optimality_gap.value) == (0.5, (0.25 + 0.5) / 2)
    assert bp.improvement is None
    assert lpdm.improvement.value == (2.5 / 4 + 0.5) / 2
    assert (bp.runs, lpdm.runs) == ([2, 2], [2, 2])


def test_the_profile_is_the_share_of_runs_above_each_score():
    bp, lpdm = aggregates(BY_HAND).values()
    np.testing.assert_array_equal(bp.profile.value, np.where(TAUS < 1, 0.5, 0))
    np.testing.assert_array_equal(
        lpdm.profile.value, np.where(TAUS < 0.5, 1, np.where(TAUS < 1, 0.25, 0))
    )
    # of two runs that differ, the interval ends at each of them
    assert (bp.profile.low[0], bp.profile.high[0]) == (0, 1)
    assert (lpdm.profile.low[0], lpdm.profile.high[0]) == (1, 1)


def test_scores_are_normalised_over_all_algorithms_methods_and_variants_of_an_environment():
    cells = [
        *runs([3]),
        *runs([5], algorithm="reinforce"),
        *runs([1], method="lpdm"),
        *runs([2], method="lpdm", variant="fast"),
        *runs([100], environment="Ant-v4"),
    ]
    scores, ends = normalised_scores(grouped(cells))
    assert repr(scores) == repr(ends)  # of a single iteration
    assert {place: {s.label: list(v) for s, v in row.items()} for place, row in scores.items()} == {
        Place("CartPole-v1", "ppo"): {"bp": [0.5], "lpdm": [0], "lpdm (fast)": [0.25]},
        Place("CartPole-v1", "reinforce"): {"bp": [1]},
        Place("Ant-v4", "ppo"): {"bp": [1]},  # all runs are equal
    }


def test_a_run_counts_by_its_own_best_smoothed_score():
    cells = [cell([0, 0, 0]), cell([2, 4, 0], seed=1), cell([12], seed=2)]
    scores, ends = (found["CartPole-v1", "ppo"] for found in normalised_scores(grouped(cells)))
    np.testing.assert_allclose(scores[Series("bp")], [0, 3 / 12, 1])
    np.testing.assert_allclose(ends[Series("bp")], [0, 0, 1])


def test_what_a_method_lost_again_shows_in_its_end_score():
    kept, lost = [[5, 5], [9, 9]], [[8, 0], [8, -1]]  # smoothed, the lost ones reach 8
    bp, lpdm = aggregates([*seeds(kept), *seeds(lost, method="lpdm")]).values()
    assert (bp.interquartile_mean.value, bp.end_score.value) == (0.5, 0.5)
    assert (lpdm.interquartile_mean.value, lpdm.end_score.value) == (0.75, (0 - 5 - 1 - 5) / 2 / 4)


@pytest.mark.parametrize(
    ("ours", "theirs", "compares"), [(5, 5, True), (4, 9, False), (9, 4, False)]
)
def test_methods_compare_where_both_have_seeds_enough(ours, theirs, compares):
    cells = [*runs(range(theirs)), *runs(range(ours), method="lpdm")]
    bp, lpdm = aggregates(cells).values()
    assert (bp.compares, lpdm.compares) == (theirs >= 5, compares)
    assert (bp.environments, aggregates(BY_HAND)["ppo", "bp"].environments) == (1, 2)


@settings(max_examples=6, derandomize=True, database=None, deadline=None)
@given(factor=st.floats(0.01, 100), shift=st.floats(-1000, 1000))
def test_an_environments_own_unit_of_reward_changes_nothing(factor, shift):
    before = grid(0)
    after = [
        cell(factor * c.returns + shift, **dict(c.run)) if c.run.environment == "Ant-v4" else c
        for c in before
    ]
    for old, new in zip(*(normalised_scores(grouped(c)) for c in (before, after)), strict=True):
        for place, row in old.items():
            for series, scores in row.items():
                np.testing.assert_allclose(new[place][series], scores, atol=1e-7)


def test_other_numbers_for_the_seeds_and_other_names_change_no_figure():
    names = {"Ant-v4": "X", "CartPole-v1": "Y", "ppo": "p", "reinforce": "r", "frozen": "f"}
    cells = grid(0)
    renamed = [
        cell(
            c.returns,
            environment=names[c.run.environment],
            algorithm=names[c.run.algorithm],
            method=names.get(c.run.method, c.run.method),
            seed=9 - c.run.seed,
        )
        for c in cells[::-1]
    ]
    before, after = aggregates(cells), aggregates(renamed)
    for (algorithm, label), row in before.items():
        other = after[names.get(algorithm, algorithm), names.get(label, label)]
        np.testing.assert_allclose(np.hstack(values(other)), np.hstack(values(row)), atol=1e-9)


def test_a_report_of_the_same_runs_has_the_same_figures_to_the_last_bit():
    assert repr(aggregate_rows(grouped(grid(0)))) == repr(aggregate_rows(grouped(grid(0))))


def test_algorithms_are_pooled_where_there_are_several():
    found = aggregates(grid(0))
    methods = ("bp", "lpdm", "frozen")
    assert list(found) == [(a, m) for a in ("reinforce", "ppo", ALL) for m in methods]
    assert found[ALL, "bp"].runs == [4, 4, 4, 4]
    for method in methods:
        parts = [found[algorithm, method].profile.value for algorithm in ("reinforce", "ppo")]
        np.testing.assert_allclose(found[ALL, method].profile.value, np.mean(parts, axis=0))


def test_an_environment_that_lacks_a_method_is_left_out_and_named():
    lacking = [c for c in BY_HAND if (c.run.environment, c.run.method) != ("Ant-v4", "lpdm")]
    rows, notes = aggregate_rows(grouped(lacking))
    assert [row.runs for row in rows] == [[2], [2]]
    (note,) = notes
    assert note.startswith("Ant-v4 ppo is left out of the aggregates of ppo")
    assert note.endswith("no runs of lpdm")


def test_where_no_environment_has_all_methods_there_are_no_aggregates():
    rows, notes = aggregate_rows(
        grouped([*runs([1]), *runs([1], environment="Ant-v4", method="lpdm")])
    )
    assert rows == []
    assert [note.split()[0] for note in notes] == ["CartPole-v1", "Ant-v4"]


def test_the_note_on_a_place_that_lacks_many_methods_names_a_few_of_them():
    cells = [cell([1], environment=f"e{n}", method=f"m{n}") for n in range(12)]
    _, notes = aggregate_rows(grouped(cells))
    assert len(notes) == 12
    assert notes[0].endswith("no runs of m1, m2, m3, m4, m5, m6 and 5 more")


def test_without_the_baseline_nothing_is_an_improvement():
    assert [row.improvement for row in aggregates(BY_HAND, "frozen").values()] == [None, None]
    row = aggregates(BY_HAND, "lpdm")["ppo", "bp"]
    assert row.improvement.value == 1 - (2.5 / 4 + 0.5) / 2


def test_unequal_numbers_of_seeds_are_taken_as_they_are():
    cells = [*runs([0, 1, 2, 3]), *runs([3], method="lpdm")]
    bp, lpdm = aggregates(cells).values()
    assert (bp.runs, lpdm.runs) == ([4], [1])
    assert bp.interquartile_mean.value == pytest.approx(0.5)
    assert np.isfinite([bp.median.low, bp.median.high]).all()
    assert np.isnan([lpdm.median.low, lpdm.median.high]).all()
    assert lpdm.improvement.value == 3.5 / 4
