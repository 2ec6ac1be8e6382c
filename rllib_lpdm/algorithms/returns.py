"""What an iteration's rewards say of its actions: discounted returns, normalised (section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.algorithms.episodes import Episode

Array = NDArray[Any]


@dataclass
class RunningStatistics:
    """Mean and variance of all values so far, merged batch by batch (Chan, Golub, LeVeque 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squared_deviations: float = 0.0

    def update(self, values: Array) -> None:
        """Takes in a (N,) batch."""
        count = self.count + len(values)
        delta = float(values.mean()) - self.mean
        self.squared_deviations += float(values.var()) * len(values) + (
            delta**2 * self.count * len(values) / count
        )
        self.mean += delta * len(values) / count
        self.count = count

    @property
    def std(self) -> float:
        """Population standard deviation; 0 before the first batch."""
        return float(np.sqrt(self.squared_deviations / self.count)) if self.count else 0.0


def normalised_returns(
    episodes: Sequence[Episode],
    gamma: float,
    statistics: RunningStatistics | None = None,
    final_values: Sequence[float] | None = None,
) -> Array:
    """Returns of all steps, less their mean and over their deviation.

    Args:
        episodes: of T steps in all.
        gamma: discount.
        statistics: of the returns so far, which take in these; None to normalise by these alone.
        final_values: see :func:`discounted_returns`, one an episode.

    Returns:
        (T,) float32.
    """
    ends = [0.0] * len(episodes) if final_values is None else final_values
    pairs = zip(episodes, ends, strict=True)
    returns = np.concatenate([discounted_returns(e.rewards, gamma, end) for e, end in pairs])
    with np.errstate(invalid="ignore"):  # what is not finite is skipped, and counted, later
        if statistics is None:
            return normalised(returns, float(returns.mean()), float(returns.std()))
        if np.isfinite(returns).all():
            statistics.update(returns)
        return normalised(returns, statistics.mean, statistics.std)


def discounted_returns(rewards: Array, gamma: float, final_value: float = 0.0) -> Array:
    """``G_t = r_t + gamma G_{t+1}`` with ``G_T = final_value`` (section 2.2).

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
    """``(values - mean) / std`` as float32; zeros where the deviation vanishes.

    Non-finite statistics give NaN, so that the update is skipped and counted.
    """
    if std <= 1e-8 * abs(mean):
        return np.zeros(len(values), np.float32)
    return ((values - mean) / std).astype(np.float32)
