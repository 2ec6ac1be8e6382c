"""Functions without a derivative between layers that learn by themselves."""

import copy
import pickle

import pytest
import torch

from rllib_lpdm.local_learning import BLACK_BOXES, quantise, sign
from tests.local_learning.networks import assert_identical, batch, network

WIDTHS = (4, 16, 12, 8)


def test_quantise_rounds_to_quarters_and_leaves_its_input_alone():
    x = torch.tensor([-1.0, -0.3, -0.1, 0.0, 0.13, 0.37, 0.38, 0.99])
    before = x.clone()
    assert quantise(x).tolist() == [-1.0, -0.25, 0.0, 0.0, 0.25, 0.25, 0.5, 1.0]
    assert torch.equal(x, before)


def test_sign_gives_minus_one_zero_or_one():
    assert sign(torch.tensor([-0.3, 0.0, 2.0])).tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_layers_before_and_after_a_black_box_learn(name):
    mlp, optimizers = network(*WIDTHS, black_box=BLACK_BOXES[name])
    x, _ = batch(4, count=30)
    losses = [[step.loss for step in mlp.learn(x, optimizers)[1]] for _ in range(150)]
    # Later layers' inputs jump when an earlier layer moves, so that their losses fall on average.
    for first, last in zip(losses[0], zip(*losses[-20:], strict=True), strict=True):
        assert sum(last) / 20 < 0.9 * first


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_a_layer_matches_its_output_from_before_the_black_box(name):
    plain, plain_optimizers = network(*WIDTHS)
    mlp, optimizers = network(*WIDTHS, black_box=BLACK_BOXES[name])
    x, _ = batch(4)
    _, plain_steps = plain.learn(x, plain_optimizers)
    _, steps = mlp.learn(x, optimizers)
    assert steps[0] == plain_steps[0]
    assert_identical(mlp.layers[0].state_dict(), plain.layers[0].state_dict())
    assert steps[1] != plain_steps[1]


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_the_forward_pass_has_the_black_box_behind_all_layers_but_the_last(name):
    function = BLACK_BOXES[name]
    mlp, optimizers = network(*WIDTHS, black_box=function)
    x, _ = batch(4)
    h = function(torch.tanh(mlp.layers[0](x)))
    h = function(torch.tanh(mlp.layers[1](h)))
    expected = torch.tanh(mlp.layers[2](h)).detach()
    assert_identical(mlp(x).detach(), expected)
    assert_identical(mlp.learn(x, optimizers)[0], expected)


def test_a_network_with_a_black_box_can_be_copied_and_pickled():
    mlp, _ = network(*WIDTHS, black_box=quantise)
    x, _ = batch(4)
    for other in (copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))):
        assert_identical(other(x).detach(), mlp(x).detach())
