"""The paper's measures (section 4.2 and table 1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMOOTHING = 50  # iterations


def smoothed(returns: Floats, window: int = SMOOTHING) -> Floats:
    """Trailing mean: over as many iterations as there are, until the window is full.

    Args:
        returns: (iterations,) scores.
        window: iterations averaged.

    Returns:
        (iterations,) smoothed scores.
    """
    sums = np.concatenate([[0.0], np.cumsum(returns)])
    ends = np.arange(1, len(returns) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def max_score(curves: Sequence[Floats]) -> float:
    """Maximum over iterations of the smoothed curve averaged over seeds.

    Args:
        curves: (iterations,) raw scores of each seed; the iterations that all have are used.
    """
    length = min(len(curve) for curve in curves)
    return float(np.mean([smoothed(curve[:length]) for curve in curves], axis=0).max())


def final_score(curves: Sequence[Floats]) -> float:
    """Mean over seeds of the smoothed score at the last iteration."""
    return float(np.mean([smoothed(curve)[-1] for curve in curves]))
