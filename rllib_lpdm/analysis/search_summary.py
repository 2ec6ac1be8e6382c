"""What a search says of its methods: how good a few tries are, and how much each needs tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import scipy  # loads its parts when asked

from rllib_lpdm.analysis.cells import CellResult, Results, Series
from rllib_lpdm.analysis.groups import Group, Groups, Place
from rllib_lpdm.analysis.statistics import Estimate, Floats, bootstrap, mean
from rllib_lpdm.results.search_record import Configuration, SearchRecord, StudyRecord

REFERENCE, TUNED = "reference", "tuned"  # variants of tuned.yaml
NEAR = 0.1  # of the best score's size
LOW, HIGH = 5, 95  # percentiles that scores of an environment are put between
ENOUGH_OF_BEST = 0.95  # share of the best that the effective number of settings reaches
MOST_SETTINGS = 12  # whose subsets are looked through


# -- best of k ------------------------------------------------------------------------------------


class BestOf(NamedTuple):
    """The best of k configurations, k from 1 to as many as there are; (configurations,) each.

    Attributes:
        expected: score of the best of k.
        low, high: between which it is with a probability of 95 %.
    """

    expected: Floats
    low: Floats
    high: Floats


def best_of(scores: Floats) -> BestOf:
    """The best of k configurations drawn at random, with replacement, from those tried.

    The expected maximum of Dodge et al. 2019 (*Show Your Work*, equation 2), and the 2.5th and
    97.5th percentile of the maximum by the same distribution.

    Args:
        scores: (configurations,).
    """
    ordered, count = np.sort(scores), len(scores)
    tries = np.arange(1, count + 1)[:, None]
    below = (np.arange(count + 1) / count)[None] ** tries  # that the best of k is the i-th or less
    expected = (np.diff(below, axis=1) * ordered).sum(axis=1)
    low, high = (
        ordered[np.argmax(below[:, 1:] >= probability - 1e-12, axis=1)]
        for probability in (0.025, 0.975)
    )
    return BestOf(expected, low, high)


# -- sensitivity ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sensitivity:
    """How much a method gains by settings of each environment's own (Adkins et al. 2024).

    Scores of an environment are put between the 5th and the 95th percentile of those of all
    methods' configurations there.

    Attributes:
        environments: those that the figures are over.
        tuned: mean over environments of the best configuration's score in each.
        shared: score of the configuration that is best on average.
        settings: how many were searched.
        effective: how many of them have to be each environment's own, the others being shared, for
            95 % of ``tuned``; None where that cannot be said.
    """

    algorithm: str
    method: str
    environments: Sequence[str]
    tuned: float
    shared: float
    settings: int
    effective: int | None

    @property
    def phi(self) -> float:
        """The sensitivity, which is the gain of settings of each environment's own."""
        return self.tuned - self.shared


def sensitivity(scores: Floats) -> tuple[float, float]:
    """The scores of each environment's own best settings and of the best shared ones.

    Args:
        scores: (environments, configurations), normalised.
    """
    return float(scores.max(axis=1).mean()), float(scores.mean(axis=0).max())


def effective_settings(scores: Floats, settings: Sequence[Floats]) -> int | None:
    """How many settings have to be each environment's own for 95 % of the best score.

    Adkins et al. 2024, section 4, look this up in a full grid: the least number of settings that
    are tuned in each environment while the others keep their best shared values. A search has no
    grid, so what it did not try is interpolated between what it did. Where it tried a full grid the
    answer is exact; else peaks are blunted, and it errs towards more settings.

    Args:
        scores: (environments, configurations), normalised.
        settings: for each setting its (configurations, places) coordinates: one between 0 and 1,
            or several of a choice.

    Returns:
        None where the best score is not positive or there are too many settings to look through.
    """
    tuned, _ = sensitivity(scores)
    if tuned <= 0 or len(settings) > MOST_SETTINGS:
        return None
    shared = int(scores.mean(axis=0).argmax())
    points, first, place = np.unique(
        np.concatenate(settings, axis=1), axis=0, return_index=True, return_inverse=True
    )
    averages = np.stack(
        [scores[:, place.ravel() == index].mean(axis=1) for index in range(len(first))]
    )
    surface = scipy.interpolate.RBFInterpolator(points, averages, kernel="linear", degree=0)
    for size in range(len(settings)):
        for own in combinations(range(len(settings)), size):
            mixed = [
                values if index in own else np.broadcast_to(values[shared], values.shape)
                for index, values in enumerate(settings)
            ]
            reached = surface(np.concatenate(mixed, axis=1)).max(axis=0).mean()
            if reached >= ENOUGH_OF_BEST * tuned:
                return size
    return len(settings)


def sensitivities(record: SearchRecord) -> list[Sensitivity]:
    """Of every algorithm and method that was searched with the same draws on two environments."""
    tables = _tables(record)
    bounds = {
        environment: np.percentile(
            np.concatenate([t[0] for key, t in tables.items() if key[0] == environment]),
            [LOW, HIGH],
        )
        for environment in {key[0] for key in tables}
    }
    found = []
    for algorithm, method in dict.fromkeys(key[1:] for key in tables):
        mine = {key[0]: table for key, table in tables.items() if key[1:] == (algorithm, method)}
        names = [e for e in mine if bounds[e][1] > bounds[e][0]]
        if len(names) < 2 or any(mine[e][1] != mine[names[0]][1] for e in names):
            continue  # shared settings are those that all environments have tried
        scores = np.stack(
            [(mine[e][0] - bounds[e][0]) / (bounds[e][1] - bounds[e][0]) for e in names]
        )
        tuned, shared = sensitivity(scores)
        settings = _coordinates(mine[names[0]][1])
        effective = effective_settings(scores, settings)
        found.append(Sensitivity(algorithm, method, names, tuned, shared, len(settings), effective))
    return found


Draws = list[tuple[dict[str, Any], dict[str, float]]]  # values and places of each configuration


def _tables(record: SearchRecord) -> dict[tuple[str, str, str], tuple[Floats, Draws]]:
    """Of every environment, algorithm and method the scores of the drawn configurations.

    Means over seeds; those that a rung left, and those with a failed cell, are not comparable.
    """
    scores: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    values: dict[tuple[str, str, str], Draws] = {}
    last = len(record.rungs) - 1
    for study in record.studies:
        for each in study.configurations[1:]:
            if each.rung < last or any(cell.score is None for cell in each.cells):
                continue
            for cell in each.cells:
                key = (cell.environment, cell.algorithm, cell.method)
                scores.setdefault(key, {}).setdefault(each.number, []).append(cell.score or 0.0)
            for key in {(c.environment, c.algorithm, c.method) for c in each.cells}:
                values.setdefault(key, []).append((each.values, each.places))
    return {
        key: (np.array([np.mean(runs) for runs in of_key.values()]), values[key])
        for key, of_key in scores.items()
    }


def _coordinates(draws: Draws) -> list[Floats]:
    """Of each setting its (configurations, places) coordinates; two of a choice are 1 apart."""
    found = []
    for name in draws[0][0]:
        if all(name in places for _, places in draws):
            found.append(np.array([[places[name]] for _, places in draws]))
            continue
        choices = list(dict.fromkeys(repr(values[name]) for values, _ in draws))
        index = [choices.index(repr(values[name])) for values, _ in draws]
        found.append(np.eye(len(choices))[index] / np.sqrt(2))
    return found


# -- studies --------------------------------------------------------------------------------------


def drawn_scores(record: SearchRecord, study: StudyRecord) -> Floats:
    """(configurations,) scores of those that were drawn at random and ran whole."""
    if record.proposer == "optuna" or len(record.rungs) > 1:
        return np.zeros(0)
    scores = [each.score for each in study.configurations[1:] if each.score is not None]
    return np.array(scores, dtype=np.float64)


def share_near_the_best(study: StudyRecord) -> float:
    """Share of the configurations of the last rung that are within 10 % of the best's score."""
    last = max(each.rung for each in study.configurations)
    scores = np.array(
        [
            np.nan if each.score is None else each.score
            for each in study.configurations
            if each.rung == last
        ]
    )
    if np.isnan(scores).all():
        return float("nan")
    best = float(np.nanmax(scores))
    return float((scores >= best - NEAR * abs(best)).mean())


def winner_of(study: StudyRecord) -> Configuration:
    return study.configurations[study.winner]


# -- tuned beside the default ---------------------------------------------------------------------


@dataclass(frozen=True)
class Gain:
    """What tuned settings gain on the seeds that are reported.

    Attributes:
        seeds: that both have.
        reference: mean max score of the settings as they stood.
        tuned: of those that were chosen.
        difference: of the two on the same seeds, with its interval over seeds.
    """

    place: Place
    method: str
    seeds: int
    reference: float
    tuned: float
    difference: Estimate


def gains(groups: Groups) -> list[Gain]:
    """The tuned settings beside those as they stood, where both have been run."""
    found = []
    for place, row in groups.items():
        for series, group in row.items():
            if series.variant != TUNED or Series(series.method, REFERENCE) not in row:
                continue
            ours = _by_seed(group)
            theirs = _by_seed(row[Series(series.method, REFERENCE)])
            seeds = sorted(ours.keys() & theirs.keys())
            if not seeds:
                continue
            tuned = np.array([ours[seed] for seed in seeds])
            reference = np.array([theirs[seed] for seed in seeds])
            difference = bootstrap([tuned - reference], mean)
            means = float(reference.mean()), float(tuned.mean())
            found.append(Gain(place, series.method, len(seeds), *means, difference))
    return found


def _by_seed(group: Group) -> Mapping[int, float]:
    runs = zip(group.counted, group.run_scores.tolist(), strict=True)
    return {cell.run.seed: score for cell, score in runs}


def default_and_winners(results: Results, record: SearchRecord) -> Results:
    """A search's cells, but of the settings as they stood and of the winners alone."""
    names: dict[str, str] = {}
    for study in record.studies:
        names |= {cell.cell: REFERENCE for cell in study.configurations[0].cells}
        if study.winner:
            names |= {cell.cell: TUNED for cell in winner_of(study).cells}
    return replace(
        results, cells=[_as(cell, names) for cell in results.cells if cell.run.cell in names]
    )


def _as(cell: CellResult, names: Mapping[str, str]) -> CellResult:
    return replace(cell, run=cell.run.updated(variant=names[cell.run.cell]))
