"""Ranks configurations by the scores of their seeds, and chooses the winner."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # loads its `stats` when asked

from rllib_lpdm.results.paper import distance
from rllib_lpdm.results.scores import Floats, Measures, seed_scores
from rllib_lpdm.schema.search_section import Calibration, LowerBound

LOW, HIGH = 5, 95  # percentiles that become 0 and 1 where there are several environments


class Ranked(NamedTuple):
    """Scores of configurations.

    Attributes:
        scores: (configurations,), more is better; nan for all where no cell has a score.
        noise: standard error of the difference of two scores, 0 with a single seed.
    """

    scores: Floats
    noise: float


def calibrated(
    curves: Sequence[Sequence[Sequence[Floats | None]]],
    criterion: Calibration,
    targets: Sequence[tuple[Measures, float] | None],
) -> Ranked:
    """Scores configurations by their mean distance from published numbers, with a minus sign.

    The mean is over kinds and columns. A failed cell gives its configuration, in its kind, the
    largest distance of all. The noise comes from the jackknife over the seeds that all share.

    Args:
        curves: the returns of each seed, by configuration and kind; None for a failed cell.
        criterion: the file's criterion.
        targets: (kinds,) published numbers, with the baseline's max score; None for a kind that
            does not count.
    """
    counted = [(index, *target) for index, target in enumerate(targets) if target]
    seeds = len(curves[0][0])
    # the last axis: all seeds, then without each
    distances = np.full((len(curves), len(counted), 1 + seeds), np.nan)
    for row, kinds in enumerate(curves):
        for column, (index, target, level) in enumerate(counted):
            returns = [each for each in kinds[index] if each is not None]
            if len(returns) < seeds:
                continue
            scores = seed_scores(returns)
            for left in range(seeds + 1 if seeds > 1 else 1):
                some = np.delete(scores, left - 1, axis=0) if left else scores
                distances[row, column, left] = np.mean(
                    [
                        distance(some, target, each, floors=criterion.floors, level=level)
                        for each in criterion.columns
                    ]
                )
    means = distances.mean(axis=1)
    own = distances[:, :, 0]
    if np.isnan(own).all():
        return Ranked(np.full(len(curves), np.nan), 0.0)
    furthest = np.nan_to_num(np.fmax.reduce(own, axis=0))
    pseudo = seeds * means[:, :1] - (seeds - 1) * means[:, 1:]
    return Ranked(
        -np.where(np.isnan(own), furthest, own).mean(axis=1),
        _noise(pseudo[~np.isnan(pseudo).any(axis=1)]),
    )


def ranked(cells: Floats, criterion: str | LowerBound) -> Ranked:
    """Scores configurations by the scores of their cells.

    A failed cell gets the worst score of its kind. Where a study has several kinds, the 5th and the
    95th percentile of each kind's scores become 0 and 1. So each kind weighs the same.

    Args:
        cells: (configurations, kinds, seeds) scores of the cells, nan where one failed.
        criterion: the file's criterion.
    """
    failed = np.isnan(cells)
    if failed.all():
        return Ranked(np.full(len(cells), np.nan), 0.0)
    with np.errstate(all="ignore"):
        worst = np.fmin.reduce(cells, axis=(0, 2), keepdims=True)
    worst = np.where(np.isnan(worst), 0.0, worst)  # all of a kind failed
    cells = np.where(failed, worst, cells)
    if cells.shape[1] > 1:
        low, high = np.percentile(cells, [LOW, HIGH], axis=(0, 2), keepdims=True)
        cells = (cells - low) / np.where(high > low, high - low, 1.0)
    runs = cells.mean(axis=1)
    scores = runs.mean(axis=1)
    if isinstance(criterion, LowerBound):
        seeds = runs.shape[1]
        error = runs.std(axis=1, ddof=1) / np.sqrt(seeds)
        scores = scores - float(scipy.stats.t.ppf(criterion.confidence, seeds - 1)) * error
    return Ranked(scores, _noise(runs[~failed.any(axis=(1, 2))]))


def _noise(whole: Floats) -> float:
    """Returns the standard error of a difference, by a two-way analysis of variance.

    A seed that is easy for all configurations is no noise between them.

    Args:
        whole: (configurations, seeds) scores of the configurations without a failed cell.
    """
    count, seeds = whole.shape
    if count < 2 or seeds < 2:
        return 0.0
    rest = whole - whole.mean(axis=1, keepdims=True) - whole.mean(axis=0) + whole.mean()
    variance = float((rest**2).sum()) / ((count - 1) * (seeds - 1))
    return float(np.sqrt(2 * variance / seeds))


def best(scores: Floats, count: int) -> list[int]:
    """Returns the indices of the highest scores, ascending; the first of equal scores count."""
    return sorted(np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:count].tolist())


class Choice(NamedTuple):
    """A winner, as indices into the configurations that were compared.

    Attributes:
        best: the index of the highest score.
        tied: the indices of all scores within the noise of the highest.
        winner: the tied index that is nearest to the default settings.
        margin: the winner's score less the highest other; None where there is no other.
    """

    best: int
    tied: list[int]
    winner: int
    margin: float | None


def choose(ranking: Ranked, distances: Floats) -> Choice | None:
    """Chooses the winner; None where no configuration has a score.

    Args:
        ranking: the ranking of the configurations.
        distances: (configurations,) from the default settings.
    """
    scores, noise = ranking
    if np.isnan(scores).all():
        return None
    highest = int(scores.argmax())
    tied = [index for index, score in enumerate(scores) if score >= scores[highest] - noise]
    winner = min(tied, key=lambda index: (distances[index], -scores[index], index))
    others = np.delete(scores, winner)
    margin = float(scores[winner] - others.max()) if len(others) else None
    return Choice(highest, tied, winner, margin)
