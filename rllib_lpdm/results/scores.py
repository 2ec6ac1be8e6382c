"""The paper's score of a run (section 4.2): its returns, smoothed over iterations."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMOOTHING = 50  # iterations
END = 0.1  # share of the iterations that the end score is the mean of


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


def first_full(iterations: int) -> int:
    """Index of the first smoothed score over a whole window; 0 where a run is shorter than that.

    A highest score is looked for from there on: before, it may be a single lucky episode's.
    """
    return SMOOTHING - 1 if iterations >= SMOOTHING else 0


def max_score(returns: Floats) -> float:
    """Highest smoothed return of a run, where the window is full.

    Args:
        returns: (iterations,), at least one.
    """
    return float(smoothed(returns)[first_full(len(returns)) :].max())


def end_score(returns: Floats) -> float:
    """Mean return of a run over its last tenth of iterations, at least one.

    Args:
        returns: (iterations,), at least one.
    """
    return float(returns[-max(1, round(END * len(returns))) :].mean())


def mean_score(returns: Floats) -> float:
    """Mean return of a run over all its iterations: the area under its curve.

    Args:
        returns: (iterations,), at least one.
    """
    return float(returns.mean())


def finite(returns: Floats) -> Floats:
    """Returns in which each that is not a finite number is taken as the one before it.

    At the beginning there is none before it, and the first that is finite is taken.

    Args:
        returns: (iterations,).

    Returns:
        (iterations,); as they are where none of them is finite.
    """
    known = np.flatnonzero(np.isfinite(returns))
    if len(known) in (0, len(returns)):
        return returns
    before = np.searchsorted(known, np.arange(len(returns)), side="right") - 1
    return returns[known[np.maximum(before, 0)]]
