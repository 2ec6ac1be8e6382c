"""Published tables, as files that people write, and distances from them, counted by hand."""

import math

import numpy as np
import pytest

from rllib_lpdm.results.paper import distance, published, read_table
from rllib_lpdm.results.scores import Measures

HEAD = "environment,algorithm,method,max_score,relative_spread_percent,iterations\n"


def flat(*levels):
    """(seeds, 200) scores that stay at a level each."""
    return np.array([[level] * 200 for level in levels], dtype=np.float64)


def test_a_distance_is_counted_in_published_spreads():
    # the mean is 80; 10 % of 100 are 10
    assert distance(flat(70, 90), Measures(100.0, 10.0, 50)) == pytest.approx(2)
    assert distance(flat(-130, -110), Measures(-100.0, 10.0, 50)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("spread", "floor", "expected"), [(0.1, 2, 5), (0.1, 4, 2.5), (3, 2, 10 / 3)]
)
def test_a_small_published_spread_counts_as_its_floor(spread, floor, expected):
    target = Measures(100.0, spread, 50)
    found = distance(flat(90, 90), target, floors={"max_score": floor})
    assert found == pytest.approx(expected)


def test_without_a_published_spread_the_floor_is_the_unit():
    assert distance(flat(90), Measures(100.0, math.nan, math.nan)) == pytest.approx(5)


def test_relative_spreads_are_compared_in_units_of_the_published_one():
    scores = flat(90, 110)  # relative spread 100 sqrt(200) / 100 = 14.14 %
    assert distance(scores, Measures(100.0, 4.0, 50), "rel_spread") == pytest.approx(
        10.1421 / 4, 1e-4
    )
    assert math.isnan(distance(flat(90), Measures(100.0, 4.0, 50), "rel_spread"))


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [(100, 0.0), (61, 0.0), (150, 0.0), (200, 2.5), (50, 2.2), (40, 5.25)],
)
def test_an_iteration_within_a_spread_of_the_maximum_has_no_distance(iteration, expected):
    # within 5 of the maximum of 100 from iteration 61 to 150
    scores = np.array([[0.0] * 60 + [96.0] * 40 + [100.0] + [96.0] * 49 + [20.0] * 50])
    found = distance(scores, Measures(100.0, 5.0, iteration), "iterations")
    assert found == pytest.approx(expected)  # in tenths of the published iteration


def test_iterations_of_other_methods_count_to_the_baselines_score():
    scores = np.arange(1.0, 201.0)[None]  # rises by 1 an iteration: 50 at the fiftieth
    target = Measures(200.0, 2.0, 50)  # within 4 of 50 from iteration 46 to 54
    assert distance(scores, target, "iterations", level=50.0) == 0
    late = Measures(200.0, 2.0, 60)
    assert distance(scores, late, "iterations", level=50.0) == pytest.approx(1)
    assert distance(scores, late, "iterations") == pytest.approx((196 - 60) / 6)


def test_a_table_of_ones_own_is_read_like_the_papers(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text(HEAD + "Hopper-v4,ppo,bp,814.0,20.5,2794\nHopper-v5,ppo,bp,-3,,\n", "utf-8-sig")
    table = read_table(file)
    assert table["Hopper-v4", "ppo", "bp"] == (814.0, 20.5, 2794)
    assert table["Hopper-v5", "ppo", "bp"].max_score == -3
    assert math.isnan(table["Hopper-v5", "ppo", "bp"].iterations)
    assert len(published()) == 72


FAULTS = {
    "a,b\n1,2\n": "no column algorithm, environment, max_score, method",
    HEAD: "there is no row",
    "": "no column",
    HEAD + "E,ppo,bp,many,1,2\n": "line 2: max_score: 'many' is not a finite number",
    HEAD + "E,ppo,bp,1,nan,2\n": "line 2: relative_spread_percent: 'nan' is not",
    HEAD + "E,ppo,bp,1,1,inf\n": "line 2: iterations: 'inf' is not",
    HEAD + "E,ppo,bp,,1,2\n": "line 2: max_score is empty",
    HEAD + "E,ppo,bp,0,1,2\n": "line 2: max_score: a score of 0",
    HEAD + "E,ppo,bp,1,-1,2\n": "line 2: a spread is 0 or more",
    HEAD + "E,ppo,bp,1,1,0\n": "line 2: a spread is 0 or more, and an iteration 1 or more",
    HEAD + "E,ppo,bp,1,1,2\nE,ppo,bp,1,1,2\n": "line 3: E ppo bp is there twice",
    HEAD + "E,ppo\n": "line 2: environment, algorithm or method is empty",
    HEAD.strip() + ",variant\nE,ppo,bp,1,1,2,wide\n": "line 2: a published table has no variants",
    HEAD + "E\x00,ppo,bp,1,1,2\n\x00": "",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_table_that_cannot_be_used_is_refused_in_one_line_that_names_the_place(text, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^\S+table\.csv: ") as refused:
        read_table(file)
    assert FAULTS[text] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "make",
    [lambda file: file.mkdir(), lambda file: None, lambda file: file.write_bytes(b"\xff\xfe")],
)
def test_what_is_no_text_file_is_no_table(make, tmp_path):
    make(tmp_path / "table.csv")
    with pytest.raises(ValueError, match=r"table\.csv: "):
        read_table(tmp_path / "table.csv")
