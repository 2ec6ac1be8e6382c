"""Degenerate batches: nothing is learned from them, and what is not finite is reported."""

import math

import pytest
import torch

from rllib_lpdm.local_learning import METRICS, LocalLoss
from tests.local_learning.networks import assert_identical, batch, layer_contents, network
from tests.pairwise import pairwise

BAD = [math.nan, math.inf, -math.inf]


def euclidean(rows):
    """A metric of the user's own."""
    return torch.pdist(rows)


def names(options):
    """An option and its value, a function by its name."""
    return ", ".join(f"{key}={getattr(v, '__name__', v)}" for key, v in options.items())


OPTIONS = [
    *({"metric": metric} for metric in METRICS),
    {"metric": euclidean},
    *({"neighbours": which} for which in ("closest", "furthest", "both")),
    {"neighbours": "both", "metric": "gram"},
    {"propagate_error": True},
    {"scaling": "absolute"},
]


@pytest.fixture
def learner():
    """A network whose optimizers have momentum: a step from a gradient of zeros would show."""
    mlp, optimizers = network(4, 6, 5, dtype=torch.float32)
    mlp.learn(batch(4, dtype=torch.float32)[0], optimizers)
    return mlp, optimizers


def contents(learner):
    mlp, optimizers = learner
    return [layer_contents(*pair) for pair in zip(mlp.layers, optimizers, strict=True)]


def learn(learner, x, values=None, rows=None, **options):
    mlp, optimizers = learner
    loss = LocalLoss(**options)
    return mlp.learn(x, optimizers, loss, values=values, rows=rows, max_gradient_norm=0.5)


@pairwise(options=OPTIONS[:-1], guided=[False, True], count=[0, 1, 2])
def test_up_to_two_rows_teach_nothing_and_still_get_features(learner, count, guided, options):
    x, values = batch(4, count, dtype=torch.float32)
    before, expected = contents(learner), learner[0](x).detach()
    features, steps = learn(learner, x, values if guided else None, **options)
    assert [step[1:3] for step in steps] == [(0.0, False), (0.0, False)]
    assert_identical(features, expected)
    assert_identical(contents(learner), before)


@pytest.mark.parametrize("rows", [[], [3], [3, 7]])
def test_up_to_two_chosen_rows_teach_nothing_and_all_rows_get_features(learner, rows):
    x, values = batch(4, dtype=torch.float32)
    before, expected = contents(learner), learner[0](x).detach()
    features, steps = learn(learner, x, values, torch.tensor(rows, dtype=torch.long))
    assert [step[1:3] for step in steps] == [(0.0, False), (0.0, False)]
    assert_identical(features, expected)
    assert_identical(contents(learner), before)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("options", OPTIONS[::2], ids=names)
def test_equal_rows_teach_nothing(learner, guided, options):
    x, values = batch(4, dtype=torch.float32)
    before = contents(learner)
    _, steps = learn(learner, x[:1].repeat(12, 1), values if guided else None, **options)
    assert [step[:3] for step in steps] == [(0.0, 0.0, False), (0.0, 0.0, False)]
    assert_identical(contents(learner), before)


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_a_batch_of_zeros_teaches_nothing(learner, options):
    before = contents(learner)
    _, steps = learn(learner, torch.zeros(12, 4), **options)
    assert [step.skipped for step in steps] == [False, False]
    assert_identical(contents(learner), before)


def test_a_layer_of_constant_outputs_learns_nothing_and_the_layer_before_it_does(learner):
    learner[0].layers[1].weight.data.zero_()
    before = contents(learner)
    _, steps = learn(learner, batch(4, dtype=torch.float32)[0])
    assert steps[0].gradient_norm > 0.0
    assert steps[1][:3] == (0.0, 0.0, False)
    assert not torch.equal(contents(learner)[0][0], before[0][0])
    assert_identical(contents(learner)[1], before[1])


@pairwise(options=OPTIONS, bad=BAD, column=[0, 3], count=[3, 12])
def test_a_non_finite_input_is_reported_by_every_layer_and_changes_none(
    learner, count, column, bad, options
):
    x, _ = batch(4, count, dtype=torch.float32)
    x[1, column] = bad
    before = contents(learner)
    _, steps = learn(learner, x, **options)
    assert all(step.skipped and not math.isfinite(step.gradient_norm) for step in steps)
    assert_identical(contents(learner), before)


@pairwise(options=OPTIONS, bad=BAD, count=[3, 12])
def test_a_non_finite_value_is_reported_by_every_layer_and_changes_none(
    learner, count, bad, options
):
    x, values = batch(4, count, dtype=torch.float32)
    values[1] = bad
    before = contents(learner)
    _, steps = learn(learner, x, values, **options)
    assert all(step.skipped and not math.isfinite(step.gradient_norm) for step in steps)
    assert_identical(contents(learner), before)


def test_non_finite_outputs_are_reported_from_their_layer_on_and_earlier_layers_learn(learner):
    learner[0].layers[1].weight.data[2, 3] = math.nan
    before = contents(learner)
    _, steps = learn(learner, batch(4, dtype=torch.float32)[0])
    assert [step.skipped for step in steps] == [False, True]
    assert not torch.equal(contents(learner)[0][0], before[0][0])
    assert_identical(contents(learner)[1], before[1])


def test_a_non_finite_row_that_is_not_chosen_does_not_stop_the_others(learner):
    x, values = batch(4, dtype=torch.float32)
    x[5] = values[5] = math.nan
    before = contents(learner)
    features, steps = learn(learner, x, values, torch.tensor([0, 2, 4, 6, 8]))
    assert not any(step.skipped for step in steps)
    assert features.isfinite().all(dim=1).tolist() == [row != 5 for row in range(12)]
    for now, then in zip(contents(learner), before, strict=True):
        assert not torch.equal(now[0], then[0])
