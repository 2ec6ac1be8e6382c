"""Compiled policies against numpy's, and what reaches them."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_lpdm.algorithms import acting
from rllib_lpdm.algorithms.acting import KernelPolicy, NumpyPolicy, acts_by_kernel
from rllib_lpdm.algorithms.module import black_box_function


def network(sizes, spread=1.0, seed=0):
    """Weights and biases of fully connected layers."""
    rng = np.random.default_rng([seed, *sizes])
    return [
        (
            (spread * rng.standard_normal((d_y, d_x)) / np.sqrt(d_x)).astype(np.float32),
            rng.standard_normal(d_y).astype(np.float32),
        )
        for d_x, d_y in itertools.pairwise(sizes)
    ]


def in_double_precision(layers, row):
    x = row.astype(float)
    for weight, bias in layers[:-1]:
        x = np.tanh(weight.astype(float) @ x + bias)
    weight, bias = layers[-1]
    return weight.astype(float) @ x + bias


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 65, 128, 300]), min_size=2, max_size=5
    ),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
    seed=st.integers(0, 2**20),
)
def test_a_compiled_policy_of_any_shape_is_that_of_double_precision(sizes, spread, seed):
    layers = network(sizes, min(spread, 2.0), seed)
    row = np.random.default_rng(seed).standard_normal(sizes[0]).astype(np.float32)
    row *= np.float32(max(spread, 1.0))
    expected = in_double_precision(layers, row)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(KernelPolicy(layers)(row), expected, rtol=0.0, atol=1e-5 * scale)


def test_its_tanh_is_within_2e_7_odd_and_saturates():
    identity = [(np.ones((1, 1), np.float32), np.zeros(1, np.float32))] * 2
    policy = KernelPolicy(identity)
    grid = np.concatenate([np.linspace(0, 12, 5000), np.geomspace(1e-30, 3e38, 500)])
    grid = grid.astype(np.float32)
    plus, minus = (np.array([policy(np.array([sign * z])) for z in grid]) for sign in (1, -1))
    np.testing.assert_array_equal(minus, -plus)
    np.testing.assert_allclose(plus[:, 0], np.tanh(grid.astype(float)), rtol=3e-7, atol=2e-7)
    np.testing.assert_allclose(plus[5000:5100, 0], grid[5000:5100], rtol=3e-7)  # the smallest


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_comes_out_as_from_numpy(bad):
    layers = network((5, 33, 16, 3))
    row = np.array([1.0, bad, 0.5, -2.0, 0.0], np.float32)
    with np.errstate(invalid="ignore"):
        expected = NumpyPolicy(layers)(row)
    np.testing.assert_allclose(KernelPolicy(layers)(row), expected, rtol=0.0, atol=1e-5)


def test_it_is_a_copy_of_the_weights_and_returns_new_arrays():
    layers = network((4, 20, 2))
    policy, row = KernelPolicy(layers), np.ones(4, np.float32)
    first = policy(row)
    kept = first.copy()
    first += 1.0
    layers[0][0][:] = 0.0
    np.testing.assert_array_equal(policy(row), kept)


@pytest.mark.parametrize(
    ("kind", "widths", "options"),
    [
        (KernelPolicy, (4, 20, 2), ()),
        (NumpyPolicy, (4, 20, 16, 2), ("silu", black_box_function("quantise"))),
    ],
)
def test_a_policy_that_was_sent_to_another_process_acts_the_same(kind, widths, options):
    policy = kind(network(widths), *options)
    arrays, row = [], np.ones(4, np.float32)
    sent = pickle.dumps(policy, protocol=5, buffer_callback=arrays.append)
    received = pickle.loads(sent, buffers=[bytes(array) for array in arrays])  # read-only, as Ray's
    np.testing.assert_array_equal(received(row), policy(row))


def test_an_observation_of_another_size_is_refused():
    policy = KernelPolicy(network((4, 20, 2)))
    for size in (3, 5):
        with pytest.raises(ValueError, match="as many entries as the policy has inputs"):
            policy(np.ones(size, np.float32))


def test_other_activations_black_boxes_and_interpreted_python_are_left_to_numpy(monkeypatch):
    assert acts_by_kernel("tanh")
    assert not acts_by_kernel("relu")
    assert not acts_by_kernel("tanh", np.sign)
    monkeypatch.setattr(acting.numba.config, "DISABLE_JIT", True)
    assert not acts_by_kernel("tanh")
