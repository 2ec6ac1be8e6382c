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
    filling = np.cumsum(returns[: window - 1]) / np.arange(1, len(returns[: window - 1]) + 1)
    if len(returns) < window:
        return filling
    full = np.lib.stride_tricks.sliding_window_view(returns, window).mean(axis=1)
    return np.concatenate([filling, full])


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
