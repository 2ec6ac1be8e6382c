"""Whole episodes."""

from dataclasses import dataclass
from typing import Any

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
