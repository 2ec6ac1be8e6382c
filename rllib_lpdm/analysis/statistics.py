"""The paper's measures (section 4.2 and its table) and statistics over seeds.

The unit of replication is the seed: intervals come from resampling whole runs. They are 95 %
percentile bootstrap intervals from ``RESAMPLES`` resamples drawn by a fixed seed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # loads its `stats` when asked, for half a second that most commands need not wait
from numpy.typing import NDArray

from rllib_lpdm.results.scores import END as END
from rllib_lpdm.results.scores import NOTHING as NOTHING
from rllib_lpdm.results.scores import SMOOTHING as SMOOTHING
from rllib_lpdm.results.scores import Floats as Floats
from rllib_lpdm.results.scores import Measures as Measures
from rllib_lpdm.results.scores import end_score as end_score_of_run
from rllib_lpdm.results.scores import first_full as first_full
from rllib_lpdm.results.scores import measures as measures
from rllib_lpdm.results.scores import seed_scores as seed_scores
from rllib_lpdm.results.scores import smoothed as smoothed

ENOUGH = 5  # seeds, below which nothing is said to differ
RESAMPLES = 2000
CONFIDENCE = 0.95


def ratios(method: Measures, baseline: Measures) -> Measures:
    """A method's measures over those of the baseline; nan where a ratio says nothing.

    Above 1 a max score is better, for negative scores too: of two negative ones the ratio is turned
    round, as in the paper. There is none where the signs differ or one is 0.
    """
    ours, theirs = method.max_score, baseline.max_score
    score = float("nan")
    if ours * theirs > 0:
        score = ours / theirs if ours > 0 else theirs / ours
    spread = float("nan")
    if baseline.relative_spread > 0:
        spread = method.relative_spread / baseline.relative_spread
    return Measures(score, spread, method.iterations / baseline.iterations)


def end_score(runs: Sequence[Floats]) -> float:
    """Mean over seeds of each run's end score.

    Args:
        runs: (iterations,) raw scores of each seed.
    """
    return float(np.mean([end_score_of_run(returns) for returns in runs]))


class Estimate(NamedTuple):
    """A figure with its 95 % interval; the interval is nan where there is none."""

    value: Floats
    low: Floats
    high: Floats


def bootstrap(
    strata: Sequence[NDArray[Any]],
    statistic: Callable[..., Floats],
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic of runs in strata, with its stratified percentile bootstrap interval.

    Args:
        strata: (..., runs) of each stratum, say an environment; runs are resampled within theirs.
        statistic: takes the strata and ``axis``, the runs' axis, and is vectorised over the others.
        resamples: number of resamples.

    Returns:
        The statistic of the runs themselves, with an interval where every stratum has two runs.
    """
    value = np.asarray(statistic(*strata, axis=-1))
    if any(stratum.shape[-1] < 2 for stratum in strata):
        return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    interval = scipy.stats.bootstrap(
        strata,
        statistic,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        axis=-1,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, interval.low, interval.high)


def mean(runs: Floats, axis: int = -1) -> Floats:
    """Mean over the runs of a single stratum."""
    return np.asarray(runs.mean(axis=axis))


def stratified_mean(*strata: Floats, axis: int = -1) -> Floats:
    """Mean over strata of their means, so that every environment weighs the same.

    Of (taus, runs) indicators of runs above each tau, this is the performance profile (figure 2).
    """
    return np.asarray(np.mean([stratum.mean(axis=axis) for stratum in strata], axis=0))


def interquartile_mean(*strata: Floats, axis: int = -1) -> Floats:
    """Mean of the middle half of all runs of all strata together (Agarwal et al. 2021)."""
    return np.asarray(scipy.stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis))


def median(*strata: Floats, axis: int = -1) -> Floats:
    """Median over strata of their means (Agarwal et al. 2021)."""
    return np.asarray(np.median([stratum.mean(axis=axis) for stratum in strata], axis=0))


def optimality_gap(*strata: Floats, axis: int = -1) -> Floats:
    """Mean over strata of how far runs stay below a normalised score of 1; less is better."""
    return stratified_mean(*(np.maximum(1 - stratum, 0) for stratum in strata), axis=axis)


def probability_of_improvement(*strata: Floats, axis: int = -1) -> Floats:
    """Mean over strata of the probability that a run of one method beats a run of another.

    Args:
        strata: the one method's strata, then the other's, in the same order; ties count half. Of
            one stratum this is Mann and Whitney's U over the number of pairs of runs.
        axis: the runs' axis.
    """
    half = len(strata) // 2
    wins = []
    for ours, theirs in zip(strata[:half], strata[half:], strict=True):
        ours, theirs = np.moveaxis(ours, axis, -1), np.moveaxis(theirs, axis, -1)
        signs = np.sign(ours[..., :, None] - theirs[..., None, :])
        wins.append((1 + signs.mean(axis=(-2, -1))) / 2)
    return np.asarray(np.mean(wins, axis=0))
