import numpy as np
import pytest

from rllib_lpdm.algorithms.returns import RunningStatistics, discounted_returns, normalised
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream


def test_discounted_returns_worked_out_by_hand():
    np.testing.assert_allclose(
        discounted_returns(np.array([1.0, 2.0, 4.0]), gamma=0.5), [3.0, 4.0, 4.0]
    )


def test_the_value_of_a_cut_off_state_continues_the_return():
    np.testing.assert_allclose(
        discounted_returns(np.array([1.0, 2.0]), gamma=0.5, final_value=8.0), [4.0, 6.0]
    )


def test_without_discount_the_first_return_is_the_sum_of_rewards():
    rewards = np.random.default_rng(0).normal(size=500)
    assert discounted_returns(rewards, gamma=1.0)[0] == pytest.approx(rewards.sum())


def test_running_statistics_equal_those_of_all_values_at_once():
    rng = np.random.default_rng(1)
    batches = [rng.normal(1e3, 5.0, size=size) for size in (1, 7, 300, 2)]
    statistics = RunningStatistics()
    for batch in batches:
        statistics.update(batch)
    everything = np.concatenate(batches)
    assert statistics.mean == pytest.approx(everything.mean())
    assert statistics.std == pytest.approx(everything.std())


def test_normalised_values_have_mean_zero_and_deviation_one():
    values = np.random.default_rng(2).normal(7.0, 3.0, size=100)
    result = normalised(values, values.mean(), values.std())
    assert result.mean() == pytest.approx(0.0, abs=1e-6)
    assert result.std() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("values", [[5.0], [3.0, 3.0, 3.0]])
def test_returns_without_variance_weigh_nothing(values):
    values = np.array(values)
    np.testing.assert_array_equal(normalised(values, values.mean(), values.std()), 0.0)


def test_streams_differ_by_every_part_of_their_address_and_are_repeatable():
    addresses = [
        (seed, purpose, iteration, index)
        for seed in (0, 1)
        for purpose in Purpose
        for iteration in (0, 1, 256)
        for index in (0, 1, 256)
    ]
    first = [tuple(stream(*address).integers(2**63, size=4)) for address in addresses]
    again = [tuple(stream(*address).integers(2**63, size=4)) for address in addresses]
    assert first == again
    assert len(set(first)) == len(addresses)


def test_neighbouring_streams_are_not_correlated():
    draws = np.array([stream(0, Purpose.EPISODE, i, 0).normal(size=2000) for i in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.1


def test_integer_seeds_suit_every_library():
    seeds = [integer_seed(stream(0, Purpose.EPISODE, i)) for i in range(1000)]
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds)
