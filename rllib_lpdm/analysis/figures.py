"""The figures of a report: the paper's, and those that go beyond it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from rllib_lpdm.analysis.aggregates import TAUS, Aggregate
from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.curves import (
    Axis,
    Curve,
    distance_errors,
    episode_lengths,
    learning_curve,
    score_percentiles,
)
from rllib_lpdm.analysis.drawing import MUTED, Draw, Palette, Picture, make_picture
from rllib_lpdm.analysis.groups import Group, Groups, Place
from rllib_lpdm.analysis.statistics import Floats
from rllib_lpdm.results.iterations import LENGTH


def all_series(groups: Groups) -> list[Series]:
    """The series of all places, in order."""
    return list(dict.fromkeys(series for row in groups.values() for series in row))


LAYER_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")


def profiles(aggregates: Sequence[Aggregate], folder: Path) -> Picture:
    """Figure 2: performance profiles of each algorithm."""
    palette = Palette(list(dict.fromkeys(row.series for row in aggregates)))
    panels: dict[str, Draw] = {}
    for algorithm in dict.fromkeys(row.algorithm for row in aggregates):
        rows = [row for row in aggregates if row.algorithm == algorithm]
        panels[algorithm] = partial(_draw_profiles, rows=rows, palette=palette)
    return make_picture(
        folder,
        "performance_profiles",
        "Performance profiles",
        "Figure 2 of the paper. A line shows how many of a method's runs, over all environments, "
        "have a normalised score above the one on the axis: higher is better, and a line that "
        "falls late has few bad runs. A run's score is its highest smoothed return, between the "
        "environment's worst (0) and best run (1).",
        palette,
        {"": panels},
    )


def _draw_profiles(axes: Axes, rows: Sequence[Aggregate], palette: Palette) -> None:
    for row in rows:
        style = palette.line(row.series)
        axes.plot(TAUS, row.profile.value, drawstyle="steps-post", **style)
        _draw_band(axes, TAUS, row.profile.low, row.profile.high, style, step="post")
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_xlabel("normalised score τ")
    axes.set_ylabel("fraction of runs > τ")


def _draw_band(
    axes: Axes, x: Floats, low: Floats, high: Floats, style: Mapping[str, Any], **how: Any
) -> None:
    """An interval along a line: a faint surface, and edges by which bands are told apart."""
    color = style["color"]
    axes.fill_between(
        x,
        low,
        high,
        facecolor=to_rgba(color, 0.1),
        edgecolor=to_rgba(color, 0.65),
        linestyle=style["linestyle"],
        linewidth=0.6,
        **how,
    )


def aggregates_picture(aggregates: Sequence[Aggregate], baseline: str, folder: Path) -> Picture:
    """What goes beyond the paper: four figures of every algorithm's methods, with intervals."""
    palette = Palette(list(dict.fromkeys(row.series for row in aggregates)))
    compare = any(row.compares for row in aggregates)
    figures = {
        "interquartile mean": "interquartile_mean",
        "median": "median",
        "optimality gap (less is better)": "optimality_gap",
        f"probability of improvement over {baseline}": "improvement",
    }
    panels: dict[str, Draw] = {
        title: partial(_draw_intervals, aggregates=aggregates, name=name, palette=palette)
        for title, name in figures.items()
        if any(getattr(row, name) is not None for row in aggregates)
    }
    return make_picture(
        folder,
        "aggregates",
        "Over all environments",
        "Of normalised scores: the mean of the middle half of all runs, the median of the "
        "environments' means, and how far runs stay below the best one. Then the probability that "
        f"a run beats one of {baseline} on the same environment"
        + (": an interval that does not touch 0.5 is a difference" if compare else "")
        + ". Bars are 95 % stratified bootstrap intervals; a dot without a bar has none, because "
        "of a single seed.",
        palette,
        {"": panels},
        columns=2,
        height=1.6,
    )


def _draw_intervals(
    axes: Axes, aggregates: Sequence[Aggregate], name: str, palette: Palette
) -> None:
    rows = [row for row in aggregates if getattr(row, name) is not None]
    algorithms = list(dict.fromkeys(row.algorithm for row in rows))
    for algorithm in algorithms:
        members = [row for row in rows if row.algorithm == algorithm]
        for place, row in enumerate(members):
            estimate = getattr(row, name)
            y = algorithms.index(algorithm) + 0.7 * ((place + 0.5) / len(members) - 0.5)
            color = palette.line(row.series)["color"]
            axes.plot(
                [estimate.low, estimate.high],
                [y, y],
                color=color,
                linewidth=3.5,
                alpha=0.35,
                solid_capstyle="butt",
            )
            axes.plot(estimate.value, y, "o", color=color, markersize=4)
    if name == "improvement":
        axes.axvline(0.5, color=MUTED, linewidth=0.8)
        axes.set_xlim(-0.03, 1.03)
    axes.set_yticks(
        range(len(algorithms)), [algorithm.replace("_", "\n") for algorithm in algorithms]
    )
    axes.set_ylim(len(algorithms) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def learning_curves(groups: Groups, anchor: str, title: str, folder: Path) -> Picture:
    """Figure 3: mean and 95 % interval over seeds, raw and normalised, by iterations and steps."""
    palette = Palette(all_series(groups))
    percentiles = score_percentiles(groups)
    versions: dict[str, dict[str, Draw]] = {}
    axes_names: dict[str, Axis] = {"by iterations": "iterations"}
    if all(_all_have("env_steps", row) for row in groups.values()):
        axes_names["by environment steps"] = "steps"
    for axis_name, axis in axes_names.items():
        for place, row in groups.items():
            curves = {series: learning_curve(group, axis) for series, group in row.items()}
            bounds = percentiles[place.environment]
            for score in ("raw score", "normalised score"):
                shown = curves
                if score != "raw score":
                    shown = {series: curve.scaled(*bounds) for series, curve in curves.items()}
                versions.setdefault(f"{score}, {axis_name}", {})[_title(place)] = partial(
                    _draw_curves, curves=shown, axis=axis, palette=palette
                )
                if (score, axis) == ("raw score", "iterations"):
                    versions.setdefault("every seed", {})[_title(place)] = partial(
                        _draw_runs, curves=curves, palette=palette
                    )
    lengths: dict[str, Draw] = {
        _title(place): partial(
            _draw_runs,
            curves={series: episode_lengths(group) for series, group in row.items()},
            palette=palette,
        )
        for place, row in groups.items()
        if _all_have(LENGTH, row)
    }
    if lengths:
        versions["episode length, every seed"] = lengths
    order = sorted(versions, key=lambda name: not name.startswith("raw"))
    return make_picture(
        folder,
        anchor,
        title,
        "Mean over seeds of the smoothed return and its 95 % bootstrap interval. Dotted where the "
        "first runs have ended and the mean is over the others; by environment steps a curve ends "
        "with its first run. No band with a single seed. "
        "Normalised: 0 and 1 are the 5th and 95th percentile of all smoothed returns on the "
        "environment. Episode length: steps, smoothed alike; where it pays not to fall, a long "
        "stand and a fast walk can have the same return.",
        palette,
        {name: versions[name] for name in order},
        columns=len(dict.fromkeys(place.algorithm for place in groups)),
    )


def _all_have(column: str, row: Mapping[Series, Group]) -> bool:
    """Whether all runs of a place have a column."""
    return all(column in cell.columns for group in row.values() for cell in group.cells)


def _draw_curves(axes: Axes, curves: Mapping[Series, Curve], axis: Axis, palette: Palette) -> None:
    for series, curve in curves.items():
        style = palette.line(series)
        whole, value = curve.whole, curve.estimate.value
        axes.plot(curve.x[:whole], value[:whole], **style)
        # Runs of as many iterations differ in their steps: that some end earlier says nothing.
        rest = slice(max(whole - 1, 0), whole if axis == "steps" else None)
        axes.plot(curve.x[rest], value[rest], color=style["color"], linestyle=":", linewidth=0.9)
        low, high = curve.estimate.low[:whole], curve.estimate.high[:whole]
        if np.isfinite(low).any():
            _draw_band(axes, curve.x[:whole], low, high, style)
    axes.set_xlabel("environment steps" if axis == "steps" else "iterations")
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_runs(axes: Axes, curves: Mapping[Series, Curve], palette: Palette) -> None:
    for series, curve in curves.items():
        style = palette.line(series) | {"label": None, "linewidth": 0.6, "alpha": 0.6}
        axes.plot(curve.x, curve.runs, **style)
    axes.set_xlabel("iterations")
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def errors_picture(groups: Groups, folder: Path) -> Picture | None:
    """Distance error of every hidden layer over training; None where no layer has one."""
    found = {
        place: {
            series: errors for series, group in row.items() if (errors := distance_errors(group))
        }
        for place, row in groups.items()
    }
    found = {place: row for place, row in found.items() if row}
    if not found:
        return None
    series = dict.fromkeys(series for row in found.values() for series in row)
    palette = Palette(list(series), dashed=False)
    layers = max(layer for row in found.values() for errors in row.values() for layer in errors)
    handles = [
        Line2D([], [], color=MUTED, linestyle=_dash(layer), label=f"layer {layer}")
        for layer in range(1, layers + 1)
    ]
    panels: dict[str, Draw] = {
        _title(place): partial(_draw_errors, row=row, palette=palette)
        for place, row in found.items()
    }
    return make_picture(
        folder,
        "distance_errors",
        "Distance errors by layer",
        "How far each hidden layer is from keeping the distances of its target, mean over seeds of "
        "the smoothed error: 0 where all are kept. The first layer is solid, the second dashed, "
        "the third dash-dotted, later ones dotted.",
        palette,
        {"": panels},
        columns=len(dict.fromkeys(place.algorithm for place in found)),
        handles=handles[: len(LAYER_DASHES)],
    )


def _dash(layer: int) -> Any:
    return LAYER_DASHES[min(layer, len(LAYER_DASHES)) - 1]


def _draw_errors(axes: Axes, row: Mapping[Series, Mapping[int, Curve]], palette: Palette) -> None:
    for series, layers in row.items():
        for layer, curve in layers.items():
            color = palette.line(series)["color"]
            axes.plot(curve.x, curve.estimate.value, color=color, linestyle=_dash(layer))
    axes.set_xlabel("iterations")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)


def _title(place: Place) -> str:
    return f"{place.environment}, {place.algorithm}"
