"""Columns have one table: of names, of layers, of what W&B calls them, of what the docs say."""

import subprocess
import sys
from pathlib import Path

import pytest

from rllib_lpdm.schema.columns import (
    COLUMNS,
    column,
    columns_table,
    metric_name,
    metric_of,
    of_layers,
)

DOCUMENTED = Path(__file__).parents[2] / "docs" / "columns.md"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("env_steps", "progress/env_steps"),
        ("episodes", "progress/episodes"),
        ("episode_return", "episode/return"),
        ("seconds", "speed/seconds_per_iteration"),
        ("distance_loss_12", "distance_loss/hidden_12"),
        ("distance_error_1", "distance_error/hidden_1"),
        ("grad_norm", "grad_norm/network"),
        ("grad_norm_hidden_1", "grad_norm/hidden_1"),
        ("grad_norm_policy_head", "grad_norm/policy_head"),
        ("policy_loss", "loss/policy"),
        ("kl", "update/kl"),
        ("skipped_steps", "update/skipped_steps"),
        # of an algorithm that the table does not know
        ("entropy_loss", "loss/entropy"),
        ("rank_3", "rank/hidden_3"),
        ("grad_norm_embedding", "grad_norm/embedding"),
        ("temperature", "update/temperature"),
    ],
)
def test_a_column_has_a_name_in_a_section(name, shown):
    assert metric_name(name) == shown


def test_every_column_of_the_table_has_the_name_that_stands_there():
    for entry in COLUMNS:
        assert metric_name(entry.name.format(layer=7)) == entry.shown.format(layer=7)
    assert len({entry.shown for entry in COLUMNS}) == len({entry.name for entry in COLUMNS})


def test_a_column_of_a_layer_is_made_and_taken_apart_again():
    for metric in ("distance_loss", "distance_error", "grad_norm_hidden"):
        for layer in (1, 12):
            assert metric_of(column(metric, layer)) == (metric, layer)
    with pytest.raises(KeyError, match="'episode_return' is no metric of a layer"):
        column("episode_return", 1)


@pytest.mark.parametrize("name", ["episode_return", "kl", "grad_norm_hidden", "x_", "x_-1", "_1"])
def test_what_ends_in_no_number_is_of_no_layer(name):
    assert metric_of(name) == (name, None)


def test_columns_of_layers_are_found_by_the_number_of_the_layer():
    names = ["distance_error_10", "distance_loss_1", "distance_error_2", "distance_error", "kl"]
    found = of_layers("distance_error", [*names, f"distance_error_{'9' * 5000}"])
    assert list(found.items()) == [(2, "distance_error_2"), (10, "distance_error_10")]


def test_the_table_in_the_documentation_is_current():
    assert DOCUMENTED.read_text(encoding="utf-8") == columns_table(), (
        "python -m rllib_lpdm.schema.columns > docs/columns.md"
    )
    printed = subprocess.run(
        [sys.executable, "-m", "rllib_lpdm.schema.columns"], capture_output=True, check=True
    )
    assert printed.stdout.decode() == columns_table()
