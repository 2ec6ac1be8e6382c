"""Parameters in pairs instead of products."""

import itertools

import pytest


def pairwise(**choices):
    """``pytest.mark.parametrize`` with rows in which every two values of two parameters meet.

    A fault that takes three values at once is rare; where one is to be feared, ask for the product.
    """
    rows = list(itertools.product(*(range(len(values)) for values in choices.values())))
    left = set().union(*map(_pairs, rows))
    chosen = []
    while left:
        best = max(rows, key=lambda row: len(_pairs(row) & left))
        chosen.append(best)
        left -= _pairs(best)
    values = [list(entries) for entries in choices.values()]
    cases = [tuple(entries[k] for entries, k in zip(values, row, strict=True)) for row in chosen]
    return pytest.mark.parametrize(tuple(choices), cases)


def _pairs(row):
    return set(itertools.combinations(enumerate(row), 2))
