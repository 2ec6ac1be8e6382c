import copy

import numpy as np
import pytest

from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.returns import (
    RunningStatistics,
    discounted_returns,
    normalised,
    normalised_returns,
)
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


def test_a_window_has_the_statistics_of_its_last_episodes():
    rng = np.random.default_rng(1)
    episodes = [rng.normal(1e3 * k, 5.0, size=size) for k, size in enumerate((1, 7, 300, 2, 40))]
    statistics = RunningStatistics()
    for last in range(len(episodes)):
        assert statistics.update_window([episodes[last]], 3)
        kept = np.concatenate(episodes[max(0, last - 2) : last + 1])
        assert statistics.count == len(kept)
        assert statistics.mean == pytest.approx(kept.mean())
        assert statistics.std == pytest.approx(kept.std())


def test_a_window_holds_at_least_the_episodes_of_an_iteration():
    statistics = RunningStatistics()
    statistics.update_window([np.full(4, 100.0)], 2)
    statistics.update_window([np.array([1.0]), np.array([2.0, 3.0]), np.array([6.0])], 2)
    assert (statistics.count, statistics.mean) == (4.0, 3.0)


def test_a_window_of_one_episode_normalises_within_it():
    rng, statistics = np.random.default_rng(0), RunningStatistics()
    for _ in range(3):
        (episode,) = episodes_of([rng.normal(size=30)])
        running = normalised_returns([episode], 0.9, statistics, window=1)
        np.testing.assert_allclose(running, normalised_returns([episode], 0.9), rtol=1e-5)


def episodes_of(rewards):
    none = np.zeros((0, 1), np.float32)
    return [Episode(none, none, np.asarray(each, float), True) for each in rewards]


OVERFLOWING = [
    [1.0, 1e160],
    [1e160, 1e160, 1e160],  # without variance, as are single steps
    [-1e160],
    [1e300, 1.0],
    [1.5e308, 1.5e308],
    [1.5e308, -1.5e308],
    [np.inf, 0.0],
    [-np.inf, np.inf],
    [0.0, np.nan],
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rewards", OVERFLOWING, ids=str)
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("first", [False, True])
def test_a_batch_that_overflows_is_nowhere_in_later_normalised_returns(first, window, rewards):
    rng = np.random.default_rng(0)
    ordinary = [episodes_of(rng.normal(50.0, 9.0, size=(2, 10))) for _ in range(4)]
    seen, spared = RunningStatistics(), RunningStatistics()
    for place, batch in enumerate(ordinary):
        if place == (0 if first else 2):
            before = copy.deepcopy(seen)
            together = episodes_of([[3.0, 4.0], rewards])
            assert np.isnan(normalised_returns(together, 1.0, seen, window=window)).all()
            assert seen == before
        np.testing.assert_array_equal(
            normalised_returns(batch, 1.0, seen, window=window),
            normalised_returns(batch, 1.0, spared, window=window),
        )
    assert seen == spared


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rewards", OVERFLOWING, ids=str)
def test_a_batch_that_overflows_alone_has_no_normalised_returns(rewards):
    together = episodes_of([[3.0, 4.0], rewards])
    assert np.isnan(normalised_returns(together, 1.0)).all()


@pytest.mark.parametrize("scale", [1e140, 1e150, 1e153, 1e154])
def test_ordinary_returns_are_taken_in_after_the_largest_that_are(scale):
    statistics = RunningStatistics()
    for values in (np.full(1000, scale), np.array([scale, -scale]), np.full(100, -scale)):
        statistics.update(values)
    for count in (1, 10, 10_000):
        assert statistics.update(np.arange(float(count)))


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
