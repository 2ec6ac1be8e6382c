"""Which configuration is best: scores of seeds in, a ranking and a winner out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # loads its `stats` when asked

from rllib_lpdm.experiment.search.section import LowerBound
from rllib_lpdm.results.scores import Floats

LOW, HIGH = 5, 95  # percentiles that scores of several environments are put between


class Ranked(NamedTuple):
    """The configurations of a study by a criterion.

    Attributes:
        scores: (configurations,), more is better; nan for all where no cell has a score.
        noise: standard error of the difference of two of them, 0 with a single seed.
    """

    scores: Floats
    noise: float


def ranked(
    cells: Floats, criterion: str | LowerBound, published: Sequence[float | None] = ()
) -> Ranked:
    """Scores of configurations from those of their cells.

    A cell that failed has the worst score of all configurations in its environment; by the
    criterion ``paper``, the one furthest from the paper's. Where a study
    is of several environments or methods, their scores are first put between the 5th and the 95th
    percentile of what all configurations had in each, so that each weighs the same.

    Args:
        cells: (configurations, kinds, seeds) scores of the cells, nan where one failed.
        criterion: that of the file.
        published: (kinds,) the paper's scores, for the criterion ``paper``.
    """
    failed = np.isnan(cells)
    if failed.all():
        return Ranked(np.full(len(cells), np.nan), 0.0)
    if criterion == "paper":
        target = np.array(published, dtype=np.float64)
        units, wanted = cells / np.abs(target)[:, None], np.sign(target)
        furthest = np.nan_to_num(np.fmax.reduce(np.abs(units - wanted[:, None]), axis=(0, 2)))
        lost = failed.any(axis=2)
        distances = np.where(lost, furthest, np.abs(units.mean(axis=2) - wanted))
        return Ranked(-distances.mean(axis=1), _noise(units.mean(axis=1), failed))
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
    return Ranked(scores, _noise(runs, failed))


def _noise(runs: Floats, failed: Floats) -> float:
    """From what is left of scores without the effects of configuration and seed, which all share.

    Of the configurations of which no cell failed: a two-way analysis of variance, so that a seed
    that is easy for all is no noise between them.
    """
    whole = runs[~failed.any(axis=(1, 2))]
    count, seeds = whole.shape
    if count < 2 or seeds < 2:
        return 0.0
    rest = whole - whole.mean(axis=1, keepdims=True) - whole.mean(axis=0) + whole.mean()
    variance = float((rest**2).sum()) / ((count - 1) * (seeds - 1))
    return float(np.sqrt(2 * variance / seeds))


def best(scores: Floats, count: int) -> list[int]:
    """The indices of the highest scores, in order; of equal ones those that come first."""
    return sorted(np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:count].tolist())


class Choice(NamedTuple):
    """A winner, as indices into the configurations that were compared.

    Attributes:
        best: of the highest score.
        tied: those that are not worse by more than the noise, the best among them.
        winner: of these the one nearest to the settings as they stand.
        margin: the winner's score less the highest other; None where there is no other.
    """

    best: int
    tied: list[int]
    winner: int
    margin: float | None


def choose(ranking: Ranked, distances: Floats) -> Choice | None:
    """The winner; of a tie within noise the nearest to the settings as they stand.

    Args:
        ranking: of the configurations that are compared.
        distances: (configurations,) from the settings as they stand.

    Returns:
        None where no configuration has a score.
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
