"""Parts of messages that say how many and how much."""

import math

import pytest

from rllib_lpdm.schema.messages import counted, figure, listed


def test_one_is_singular_and_every_other_count_plural():
    said = [counted(count, "cell") for count in (0, 1, 2, 1000)]
    assert said == ["0 cells", "1 cell", "2 cells", "1,000 cells"]


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (100, 2, "100"),
        (12345.6, 4, "12,350"),
        (1.23e-7, 2, "0.00000012"),
        (0.0, 2, "0"),
        (-1234567, 15, "-1,234,567"),
        (1e22, 2, "10,000,000,000,000,000,000,000"),
        (math.nan, 2, "NaN"),
    ],
)
def test_a_figure_has_no_exponent(value, digits, said):
    assert figure(value, digits) == said


def test_a_figure_can_have_its_sign():
    assert [figure(value, 3, "+") for value in (1234.0, -0.5)] == ["+1,230", "-0.5"]


def test_of_many_names_the_first_are_listed_and_the_others_counted():
    assert listed(["a"], 1) == "a"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert listed([]) == ""
