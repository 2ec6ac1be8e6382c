"""The paper's scores (section 4.2): returns of a run or of a method's seeds, smoothed."""

from collections.abc import Sequence
from typing import NamedTuple

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


def seed_scores(runs: Sequence[Floats]) -> Floats:
    """The smoothed scores of some runs over the iterations that all of them have.

    Args:
        runs: (iterations,) raw scores of each seed.

    Returns:
        (seeds, shortest run's iterations).
    """
    length = min(len(returns) for returns in runs)
    return np.stack([smoothed(returns[:length]) for returns in runs])


class Measures(NamedTuple):
    """What the paper's table says of a method, or the ratios of that to the baseline's.

    Attributes:
        max_score: maximum over iterations of the smoothed score averaged over seeds, where the
            smoothing window is full (in runs shorter than the window, anywhere).
        relative_spread: sample standard deviation over seeds at that iteration, in percent of the
            max score's absolute value; nan for one seed or a max score of 0. Less is steadier.
        iterations: first iteration, counted from 1, at which that average reaches the lesser of
            its own max score and the baseline's. Less is faster.
    """

    max_score: float
    relative_spread: float
    iterations: float


NOTHING = Measures(float("nan"), float("nan"), float("nan"))


def measures(scores: Floats, level: float = float("inf")) -> Measures:
    """The paper's three measures of a method.

    Args:
        scores: (seeds, iterations) smoothed scores.
        level: the baseline's max score; the method's own where there is none.
    """
    average = scores.mean(axis=0)
    full = first_full(len(average))
    best = full + int(average[full:].argmax())
    score = float(average[best])
    spread = float("nan")
    if len(scores) > 1 and score != 0:
        spread = float(100 * scores[:, best].std(ddof=1) / abs(score))
    return Measures(score, spread, int((average >= min(score, level)).argmax()) + 1)
