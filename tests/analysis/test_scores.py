"""Scores beside the baseline's, in a known grid and as the paper printed them."""

import itertools
import math

import pytest

from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.groups import Place, grouped, score_rows, speed_rows
from rllib_lpdm.analysis.statistics import NOTHING, Measures, ratios
from rllib_lpdm.results.paper import in_paper_order, published
from tests.analysis.cells import cell, seeds

# The ratios to bp that the paper prints for lpdm and lpdm_guided: of max score, spread, iterations.
PRINTED = {
    ("CartPole-v1", "reinforce"): ((0.98, 7.65, 0.69), (0.99, 3.96, 0.69)),
    ("Acrobot-v1", "reinforce"): ((1.57, 0.06, 0.54), (1.56, 0.05, 0.32)),
    ("InvertedPendulum-v4", "reinforce"): ((0.98, 2.42, 0.6), (0.99, 1.78, 0.65)),
    ("Pusher-v4", "reinforce"): ((1.08, 0.5, 0.27), (1.06, 0.54, 0.39)),
    ("CartPole-v1", "reinforce_baseline"): ((1.0, 1.05, 1.0), (1.0, 0.83, 1.06)),
    ("Acrobot-v1", "reinforce_baseline"): ((1.43, 0.97, 0.43), (1.66, 0.7, 0.48)),
    ("InvertedPendulum-v4", "reinforce_baseline"): ((1.0, 1.29, 1.0), (1.0, 0.9, 0.93)),
    ("Pusher-v4", "reinforce_baseline"): ((1.01, 0.95, 1.09), (1.0, 1.0, 1.19)),
    ("CartPole-v1", "ppo"): ((1.0, 0.61, 0.89), (1.02, 0.54, 0.88)),
    ("Acrobot-v1", "ppo"): ((1.0, 1.01, 0.99), (1.28, 0.02, 0.33)),
    ("InvertedPendulum-v4", "ppo"): ((1.0, 0.91, 0.9), (1.01, 0.85, 0.69)),
    ("Pusher-v4", "ppo"): ((0.98, 2.75, 0.99), (0.98, 2.36, 1.0)),
    ("Hopper-v4", "reinforce"): ((1.28, 0.64, 1.62), (1.43, 0.97, 0.84)),
    ("Walker2d-v4", "reinforce"): ((1.45, 0.44, 0.62), (1.42, 0.44, 0.55)),
    ("HalfCheetah-v4", "reinforce"): ((1.28, 0.49, 0.44), (1.26, 0.63, 0.46)),
    ("Ant-v4", "reinforce"): ((1.32, 0.57, 0.1), (1.36, 0.8, 0.14)),
    ("Hopper-v4", "reinforce_baseline"): ((1.62, 2.16, 0.52), (1.85, 1.01, 0.39)),
    ("Walker2d-v4", "reinforce_baseline"): ((1.41, 0.52, 0.83), (1.56, 0.83, 1.14)),
    ("HalfCheetah-v4", "reinforce_baseline"): ((0.96, 0.79, 1.09), (0.99, 0.61, 0.95)),
    ("Ant-v4", "reinforce_baseline"): ((1.58, 0.17, 0.01), (1.57, 0.17, 0.0)),
    ("Hopper-v4", "ppo"): ((1.2, 1.21, 0.64), (1.03, 1.59, 0.85)),
    ("Walker2d-v4", "ppo"): ((1.43, 1.41, 0.67), (1.3, 1.1, 0.68)),
    ("HalfCheetah-v4", "ppo"): ((0.92, 0.87, 1.0), (0.99, 0.68, 1.0)),
    ("Ant-v4", "ppo"): ((1.11, 0.79, 0.47), (1.09, 0.67, 0.48)),
}
HALF_A_DIGIT = Measures(0.05, 0.005, 0)  # what the paper's own rounding may have taken away


def near(measures, sign):
    return Measures(*(m + sign * half for m, half in zip(measures, HALF_A_DIGIT, strict=True)))


def rows(cells, baseline="bp"):
    return {row.series.label: row for row in score_rows(grouped(cells), baseline)}


@pytest.mark.parametrize("place", PRINTED)
def test_the_ratios_that_the_paper_prints_come_out(place):
    baseline = published()[(*place, "bp")]
    for method, printed in zip(("lpdm", "lpdm_guided"), PRINTED[place], strict=True):
        possible = [
            ratios(near(published()[(*place, method)], ours), near(baseline, theirs))
            for ours, theirs in itertools.product((-1, 1), repeat=2)
        ]
        for ratio, candidates in zip(printed, zip(*possible, strict=True), strict=True):
            assert min(candidates) - 0.005001 <= ratio <= max(candidates) + 0.005001


def test_the_paper_has_three_methods_everywhere_and_gives_the_order():
    environments, algorithms, methods = (
        list(dict.fromkeys(names)) for names in zip(*published(), strict=True)
    )
    assert set(published()) == set(itertools.product(environments, algorithms, methods))
    assert (len(environments), len(published())) == (8, 72)
    assert in_paper_order([*environments[::-1], "B", "A"]) == [*environments, "A", "B"]
    assert algorithms == ["reinforce", "reinforce_baseline", "ppo"]
    assert methods == ["bp", "lpdm", "lpdm_guided"]


def test_a_table_by_hand():
    table = rows(
        [
            *seeds([[2, 4, 6], [4, 6, 8]]),  # smoothed: 2, 3, 4 and 4, 5, 6
            *seeds([[4, 8, 15], [4, 8, 3]], method="lpdm"),  # 4, 6, 9 and 4, 6, 5
        ]
    )
    assert table["bp"].measures == pytest.approx((5, 100 * math.sqrt(2) / 5, 3))
    assert table["bp"].ratios == pytest.approx(NOTHING, nan_ok=True)
    assert table["bp"].end_score == 7
    # its second iteration is the first above the 5 of bp
    assert table["lpdm"].measures == pytest.approx((7, 100 * math.sqrt(8) / 7, 2))
    assert table["lpdm"].ratios == pytest.approx((7 / 5, 10 / 7, 2 / 3))
    assert table["lpdm"].end_score == 9
    assert table["lpdm"].place == Place("CartPole-v1", "ppo")
    assert table["lpdm"].seeds == 2


def test_only_finished_runs_count_where_there_are_any():
    finished = cell([4, 4, 4], seed=0)
    others = [cell([100], seed=i, status=s) for i, s in enumerate(("running", "failed"), 1)]
    (row,) = rows([finished, *others]).values()
    assert (row.seeds, row.finished, row.measures.max_score) == (1, True, 4)
    (row,) = rows(others).values()
    assert (row.seeds, row.finished, row.measures.max_score) == (2, False, 100)


def test_without_runs_of_the_baseline_there_are_no_ratios_and_no_other_place_helps():
    table = rows([cell([1, 3], method="lpdm"), cell([1, 9], environment="Ant-v4")])
    assert table["lpdm"].measures[::2] == (2, 2)
    assert table["lpdm"].ratios == pytest.approx(NOTHING, nan_ok=True)


def test_another_baseline_may_be_named():
    table = rows([cell([4]), cell([2], method="lpdm"), cell([1], method="frozen")], "lpdm")
    assert {label: row.ratios.max_score for label, row in table.items()} == pytest.approx(
        {"bp": 2, "lpdm": math.nan, "frozen": 0.5}, nan_ok=True
    )
    assert table["bp"].paper_ratios.max_score == pytest.approx(474.5 / 474.9)
    assert table["lpdm"].paper_ratios == pytest.approx(NOTHING, nan_ok=True)


def test_a_variant_is_compared_with_its_own_baseline_or_else_with_the_reference():
    table = rows(
        [
            cell([1], variant="reference"),
            cell([2], variant="fast"),
            cell([8], method="lpdm", variant="reference"),
            cell([8], method="lpdm", variant="fast"),
            cell([8], method="lpdm", variant="slow"),
        ]
    )
    assert {label: row.ratios.max_score for label, row in table.items()} == pytest.approx(
        {
            "bp (reference)": math.nan,
            "bp (fast)": math.nan,
            "lpdm (reference)": 8,
            "lpdm (fast)": 4,
            "lpdm (slow)": 8,
        },
        nan_ok=True,
    )
    assert math.isfinite(table["lpdm (reference)"].paper.max_score)
    assert table["lpdm (fast)"].paper == pytest.approx(NOTHING, nan_ok=True)


def test_the_papers_numbers_stand_beside_ours():
    row = rows([cell([1], algorithm="reinforce", method="lpdm")])["lpdm"]
    assert row.paper == (489.5, 1.84, 1028)
    assert tuple(round(ratio, 2) for ratio in row.paper_ratios) == pytest.approx((0.98, 7.67, 0.69))
    row = rows([cell([1], environment="Zaxxon")])["bp"]
    assert row.paper == pytest.approx(NOTHING, nan_ok=True)


def timed(seconds, env_steps, **run):
    return cell([0] * len(seconds), {"seconds": seconds, "env_steps": env_steps}, **run)


def test_speed_by_hand():
    cells = [
        timed([1800, 1800], [3600, 36000]),
        timed([3600, 3600], [100, 144000], method="lpdm"),
        timed([3600], [36000], method="lpdm", seed=1),
        timed([3600], [3600], method="lpdm", seed=2),
        timed([3600], [1], method="lpdm", seed=3, status="running"),
        cell([1], method="frozen"),
    ]
    found = {row.series.label: row for row in speed_rows(grouped(cells))}
    assert list(found) == ["bp", "lpdm"]
    assert (found["bp"].hours, found["bp"].steps_per_second) == (1, 10)
    assert (found["lpdm"].hours, found["lpdm"].steps_per_second) == (1, 10)
    assert found["lpdm"].ratio == 1


@pytest.mark.parametrize("baseline", [timed([0], [9]), timed([9], [0]), cell([1])])
def test_a_baseline_without_speed_leaves_the_others_without_a_ratio(baseline):
    cells = [baseline, timed([1], [5], method="lpdm")]
    row = speed_rows(grouped(cells))[-1]
    assert (row.series, row.steps_per_second) == (Series("lpdm"), 5)
    assert math.isnan(row.ratio)
