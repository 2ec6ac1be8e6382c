"""Learning curves (figure 3) and distance errors over training, ready to be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rllib_lpdm.analysis.cells import CellResult
from rllib_lpdm.analysis.groups import Group, Groups
from rllib_lpdm.analysis.statistics import Estimate, Floats, bootstrap, mean, smoothed
from rllib_lpdm.results.iterations import LENGTH
from rllib_lpdm.schema.columns import of_layers

POINTS = 200  # of a curve, at most
PERCENTILES = 5, 95  # of an environment's smoothed scores: 0 and 1 of its normalised scores

Axis = Literal["iterations", "steps"]


@dataclass(frozen=True)
class Curve:
    """Mean over seeds of something over training.

    Attributes:
        x: (points,) iterations or environment steps.
        estimate: (points,) mean over the seeds that are still there; of a learning curve with its
            95 % interval where all are.
        whole: number of points that all seeds have; beyond, some have ended.
        runs: (points, seeds) what the mean is of; nan where a run has ended.
    """

    x: Floats
    estimate: Estimate
    whole: int
    runs: Floats

    def scaled(self, low: float, high: float) -> "Curve":
        """The curve with ``low`` at 0 and ``high`` at 1; as it is where the two are equal."""
        if high <= low:
            return self
        estimate = Estimate(*((line - low) / (high - low) for line in self.estimate))
        return replace(self, estimate=estimate, runs=(self.runs - low) / (high - low))


def learning_curve(group: Group, axis: Axis) -> Curve:
    """The smoothed score of a group's runs, unfinished ones too, over training.

    Raises:
        KeyError: a run has no column for the axis.
    """
    curve = _curve(group.cells, [smoothed(cell.returns) for cell in group.cells], axis)
    low, high = np.full((2, len(curve.x)), np.nan)
    everyone = np.isfinite(curve.runs).all(axis=1)
    if everyone.any():
        _, low[everyone], high[everyone] = bootstrap([curve.runs[everyone]], mean)
    return replace(curve, estimate=Estimate(curve.estimate.value, low, high))


def episode_lengths(group: Group) -> Curve:
    """The smoothed steps of the episodes of a group's runs over iterations.

    Raises:
        KeyError: a run has none recorded.
    """
    values = [smoothed(cell.columns[LENGTH]) for cell in group.cells]
    return _curve(group.cells, values, "iterations")


def distance_errors(group: Group) -> dict[int, Curve]:
    """The smoothed distance error of every hidden layer over iterations, by the layer's number.

    0 where a layer keeps all distances; layers that are not trained by distances have none.
    """
    names = dict.fromkeys(name for cell in group.cells for name in cell.columns)
    curves: dict[int, Curve] = {}
    for layer, name in sorted(of_layers("distance_error", names).items()):
        cells = [cell for cell in group.cells if name in cell.columns]
        values = [smoothed(cell.columns[name]) for cell in cells]
        curves[layer] = _curve(cells, values, "iterations")
    return curves


def score_percentiles(groups: Groups) -> dict[str, tuple[float, float]]:
    """By environment, what learning curves are normalised by (section 4.2).

    Two percentiles of all smoothed scores of all runs, algorithms, methods and variants.
    """
    scores: dict[str, list[Floats]] = {}
    for place, row in groups.items():
        for group in row.values():
            scores.setdefault(place.environment, []).extend(
                smoothed(cell.returns) for cell in group.cells
            )
    bounds = {}
    for environment, curves in scores.items():
        low, high = np.percentile(np.concatenate(curves), PERCENTILES)
        bounds[environment] = float(low), float(high)
    return bounds


def _curve(cells: Sequence[CellResult], values: Sequence[Floats], axis: Axis) -> Curve:
    places = [_places(cell, axis) for cell in cells]
    ends = sorted(place[-1] for place in places)
    start = min(max(place[0] for place in places), ends[0])
    x = np.linspace(start, ends[-1], POINTS)
    x = np.unique(np.concatenate([x, ends]))  # a run's last point is never lost
    if axis == "iterations":
        x = np.unique(x.round())
    lines = np.stack(
        [
            np.interp(x, place, value, right=np.nan)
            for place, value in zip(places, values, strict=True)
        ],
        axis=1,
    )  # (points, seeds)
    there = np.isfinite(lines)
    some, everyone = there.any(axis=1), there.all(axis=1)
    value, low, high = np.full((3, len(x)), np.nan)
    value[some] = np.nanmean(lines[some], axis=1)
    return Curve(x, Estimate(value, low, high), int(everyone.sum()), lines)


def _places(cell: CellResult, axis: Axis) -> Floats:
    """(iterations,) where on the axis each iteration ended."""
    if axis == "steps":
        return cell.columns["env_steps"]
    return np.arange(1.0, len(cell.returns) + 1)
