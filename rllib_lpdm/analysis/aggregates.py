"""Methods compared over all environments: performance profiles and what today's practice adds.

After Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice*.
A stratum is an environment, or an environment with an algorithm where algorithms are pooled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.groups import Groups, Place, baseline_of
from rllib_lpdm.analysis.statistics import (
    ENOUGH,
    Estimate,
    Floats,
    bootstrap,
    interquartile_mean,
    median,
    optimality_gap,
    probability_of_improvement,
    stratified_mean,
)
from rllib_lpdm.schema.messages import listed

ALL = "all algorithms"
TAUS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Aggregate:
    """A method over the environments on which all methods of an algorithm have runs.

    Attributes:
        algorithm: its name, or ``ALL`` for all together.
        series: the method.
        runs: number of runs of each stratum.
        environments: how many they are.
        compares: whether all strata have seeds enough, the baseline's too, to call the one better
            than the other.
        profile: fraction of runs whose normalised score is above each of ``TAUS`` (figure 2).
        interquartile_mean: mean normalised score of the middle half of the runs.
        end_score: the same of their end scores, between the same bounds: below 0 a run ends worse
            than the worst one's best.
        median: median over strata of their mean normalised score.
        optimality_gap: how far runs stay below a normalised score of 1, on average.
        improvement: probability that a run is better than one of the baseline; None for the
            baseline itself and where there is none.
        finished: whether the method's runs are.
    """

    algorithm: str
    series: Series
    runs: Sequence[int]
    environments: int
    compares: bool
    profile: Estimate
    interquartile_mean: Estimate
    end_score: Estimate
    median: Estimate
    optimality_gap: Estimate
    improvement: Estimate | None
    finished: bool = True


Scores = dict[Place, dict[Series, Floats]]


def normalised_scores(groups: Groups) -> tuple[Scores, Scores]:
    """Each run's highest smoothed score, between the environment's worst (0) and best run (1).

    Worst and best are over all algorithms, methods and variants (section 4.2). Where all runs of an
    environment are equal they have 1, and 0 what is less.

    Returns:
        those, and the runs' end scores between the same bounds.
    """
    bounds: dict[str, tuple[float, float]] = {}
    for environment in {place.environment for place in groups}:
        scores = np.concatenate(
            [
                group.run_scores
                for place, row in groups.items()
                if place.environment == environment
                for group in row.values()
            ]
        )
        bounds[environment] = scores.min(), scores.max()
    highest, last = (
        {
            place: {
                series: _between(getattr(group, scores), *bounds[place.environment])
                for series, group in row.items()
            }
            for place, row in groups.items()
        }
        for scores in ("run_scores", "run_ends")
    )
    return highest, last


def _between(scores: Floats, low: float, high: float) -> Floats:
    if high > low:
        return (scores - low) / (high - low)
    return (scores >= high).astype(np.float64)


def aggregate_rows(groups: Groups, baseline: str = "bp") -> tuple[list[Aggregate], list[str]]:
    """Every algorithm's methods over its environments, and all algorithms together.

    Returns:
        the rows, and a sentence for every environment that had to be left out of them.
    """
    scores, ends = normalised_scores(groups)
    algorithms = list(dict.fromkeys(place.algorithm for place in groups))
    rows, notes = [], []
    for algorithm in algorithms if len(algorithms) == 1 else [*algorithms, ALL]:
        places = [place for place in groups if algorithm in (place.algorithm, ALL)]
        series = list(dict.fromkeys(each for place in places for each in groups[place]))
        common = [place for place in places if len(groups[place]) == len(series)]
        notes += [
            f"{place.environment} {place.algorithm} is left out of the aggregates of {algorithm}: "
            f"it has no runs of {listed([e.label for e in series if e not in groups[place]])}"
            for place in places
            if len(groups[place]) < len(series)
        ]
        if not common:
            continue
        for each in series:
            strata = [scores[place][each] for place in common]
            reference = baseline_of(groups[common[0]][each], groups[common[0]], baseline)
            improvement, fewest = None, min(map(len, strata))
            if reference is not None and reference.series != each:
                theirs = [scores[place][reference.series] for place in common]
                improvement = bootstrap([*strata, *theirs], probability_of_improvement)
                fewest = min(fewest, *map(len, theirs))
            above = [stratum > TAUS[:, None] for stratum in strata]
            rows.append(
                Aggregate(
                    algorithm,
                    each,
                    [len(stratum) for stratum in strata],
                    len({place.environment for place in common}),
                    fewest >= ENOUGH,
                    bootstrap(above, stratified_mean),
                    bootstrap(strata, interquartile_mean),
                    bootstrap([ends[place][each] for place in common], interquartile_mean),
                    bootstrap(strata, median),
                    bootstrap(strata, optimality_gap),
                    improvement,
                    all(groups[place][each].finished for place in common),
                )
            )
    return rows, notes
