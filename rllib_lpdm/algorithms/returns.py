"""Discounted returns of an iteration's episodes, and their normalisation (section 3.2)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.algorithms.episodes import Episode

Array = NDArray[Any]
Moments = tuple[float, float, float]  # number of values, their mean, sum of squared deviations


@dataclass
class RunningStatistics:
    """Mean and variance of all values so far, merged batch by batch (Chan, Golub, LeVeque 1979).

    Attributes:
        count: number of values.
        mean: their mean.
        squared_deviations: the sum of their squared deviations from the mean.
        episodes: the moments of each episode in the window, if there is one.
    """

    count: float = 0.0
    mean: float = 0.0
    squared_deviations: float = 0.0
    episodes: list[Moments] = field(default_factory=list)

    def update(self, values: Array) -> bool:
        """Takes in a (N,) batch and returns True; a batch that would overflow changes nothing."""
        so_far = (self.count, self.mean, self.squared_deviations)
        return self._become([so_far, _moments(values)], [])

    def update_window(self, episodes: Sequence[Array], window: int) -> bool:
        """Takes in the values of some episodes, as :meth:`update`, and forgets old episodes.

        Args:
            episodes: (N,) values of each.
            window: number of episodes to keep, at least these.
        """
        latest = [*self.episodes, *map(_moments, episodes)][-max(window, len(episodes)) :]
        return self._become([(0.0, 0.0, 0.0), *latest], latest)

    def _become(self, parts: Sequence[Moments], episodes: list[Moments]) -> bool:
        try:
            count, mean, squared_deviations = functools.reduce(_merged, parts)
            # The sum of squares bounds the squared deviations that ordinary values can lead to.
            sum_of_squares = squared_deviations + count * mean**2
        except OverflowError:
            return False
        if not math.isfinite(sum_of_squares):
            return False
        self.count, self.mean, self.squared_deviations = count, mean, squared_deviations
        self.episodes = episodes
        return True

    @property
    def std(self) -> float:
        """Population standard deviation; 0 before the first batch."""
        return float(np.sqrt(self.squared_deviations / self.count)) if self.count else 0.0


def _moments(values: Array) -> Moments:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(len(values)), float(values.mean()), float(values.var()) * len(values)


def _merged(first: Moments, second: Moments) -> Moments:
    count = first[0] + second[0]
    delta = second[1] - first[1]
    mean = first[1] + delta * second[0] / count
    between = delta**2 * first[0] * second[0] / count
    return count, mean, first[2] + (second[2] + between)


def normalised_returns(
    episodes: Sequence[Episode],
    gamma: float,
    statistics: RunningStatistics | None = None,
    final_values: Sequence[float] | None = None,
    window: int | None = None,
) -> Array:
    """Computes the returns of all steps, less their mean and over their deviation.

    Args:
        episodes: of T steps in all.
        gamma: discount.
        statistics: of the returns so far; takes in these. None normalises by these alone.
        final_values: see :func:`discounted_returns`, one an episode.
        window: number of episodes that the statistics remember; None for all.

    Returns:
        (T,) float32. All are NaN where a return, the mean or the variance overflows or is not
        finite. The update is then skipped and counted, and the statistics stay as they were.
    """
    ends = [0.0] * len(episodes) if final_values is None else final_values
    pairs = zip(episodes, ends, strict=True)
    of_episodes = [discounted_returns(e.rewards, gamma, end) for e, end in pairs]
    returns = np.concatenate(of_episodes)
    if statistics is None:
        with np.errstate(invalid="ignore", over="ignore"):
            return normalised(returns, float(returns.mean()), float(returns.std()))
    if window is None:
        taken_in = statistics.update(returns)
    else:
        taken_in = statistics.update_window(of_episodes, window)
    return normalised(returns, statistics.mean if taken_in else math.nan, statistics.std)


def discounted_returns(rewards: Array, gamma: float, final_value: float = 0.0) -> Array:
    """Computes ``G_t = r_t + gamma G_{t+1}`` with ``G_T = final_value`` (section 2.2).

    Args:
        rewards: (T,) rewards.
        gamma: discount.
        final_value: value of the state after the last step; 0 where the episode terminated.

    Returns:
        (T,) float64 returns.
    """
    backwards = accumulate(
        reversed(rewards.tolist()), lambda later, r: r + gamma * later, initial=final_value
    )
    return np.array(list(backwards)[:0:-1], np.float64)


def normalised(values: Array, mean: float, std: float) -> Array:
    """Returns ``(values - mean) / std`` as float32; zeros where the deviation vanishes.

    All are NaN where the mean or the deviation is not finite.
    """
    if not (math.isfinite(mean) and math.isfinite(std)):
        return np.full(len(values), np.nan, np.float32)
    if std <= 1e-8 * abs(mean):
        return np.zeros(len(values), np.float32)
    return ((values - mean) / std).astype(np.float32)
