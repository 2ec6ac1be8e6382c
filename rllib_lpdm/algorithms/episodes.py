"""Whole episodes, their returns, and the statistics that normalise returns."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Episode:
    """One whole episode of T steps.

    Attributes:
        observations: (T + 1, d) float32, flattened; the last row is where the episode ended.
        actions: (T,) int64 or (T, actions) float32, as drawn: not clipped.
        rewards: (T,) float64.
        terminated: whether the environment ended it, rather than a time limit.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: bool

    def __len__(self) -> int:
        return len(self.rewards)

    def env_steps(self) -> int:
        return len(self)

    def agent_steps(self) -> int:
        return len(self)

    def total_reward(self) -> float:
        """The undiscounted return, the paper's score of an episode."""
        return float(self.rewards.sum())


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


def normalised(values: Array, mean: float, std: float) -> Array:
    """``(values - mean) / std`` as float32; zeros where the deviation vanishes.

    Non-finite statistics give NaN, so that the update is skipped and counted.
    """
    if std <= 1e-8 * abs(mean):
        return np.zeros(len(values), np.float32)
    return ((values - mean) / std).astype(np.float32)
