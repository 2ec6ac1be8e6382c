"""Draws the clues by which the lost settings were found, from the runs in this folder.

``python published/calibration/clues.py docs/images`` writes ``clue_pusher.svg``, ``clue_ant.svg``
and ``clue_distance.svg``.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from rllib_lpdm.analysis.drawing import SERIES, STYLE
from rllib_lpdm.results.paper import published
from rllib_lpdm.results.published import read_published
from rllib_lpdm.results.scores import smoothed

ALGORITHMS = {"reinforce": "REINFORCE", "reinforce_baseline": "with a baseline", "ppo": "PPO"}
SIMPLE = "CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4"
UNTRAINED = 500.0  # what the paper's curves on Ant begin with, at most
RATES, DISTANCES = (5e-4, 1e-3, 2e-3, 5e-3), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # marks of axes
FLOOR = 0.02  # of a score, the least that a published spread counts as

Runs = dict[tuple[str, str, str], list[np.ndarray[Any, Any]]]


def main(folder: Path) -> None:
    runs: Runs = defaultdict(list)
    for run, columns in read_published(Path(__file__).parent).values():
        key = (run.environment, run.algorithm, run.variant or "")
        runs[key].append(np.asarray(columns["episode_return"], np.float64))
    mpl.rcParams["svg.hashsalt"] = "rllib_lpdm"  # the same bytes each time
    for name, draw in (("pusher", pusher), ("ant", ant), ("distance", distance)):
        with mpl.rc_context(STYLE):
            figure = draw(runs)
            figure.savefig(folder / f"clue_{name}.svg", metadata={"Date": None})


def pusher(runs: Runs) -> Figure:
    """Mean curves of backpropagation on Pusher, by how returns are normalised."""
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    for axes, (algorithm, title) in zip(
        figure.subplots(1, 3, sharey=True), ALGORITHMS.items(), strict=True
    ):
        for color, variant in zip(SERIES, ("across", "within"), strict=False):
            curves = [smoothed(values) for values in runs["Pusher-v4", algorithm, variant]]
            for curve in curves:
                axes.plot(np.arange(50, 50 + len(curve)), curve, color=color, alpha=0.3, lw=0.7)
            mean = np.mean(curves, axis=0)
            label = f"{variant} episode{'s' * (variant == 'across')}"
            axes.plot(np.arange(50, 50 + len(mean)), mean, color=color, label=label)
        paper = published()["Pusher-v4", algorithm, "bp"].max_score
        axes.axhline(paper, color=SERIES[7], ls=(0, (5, 1.5)), label="the paper's highest score")
        axes.set(title=title, xlabel="iteration")
    figure.axes[0].set_ylabel("episode return")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def ant(runs: Runs) -> Figure:
    """Scores of untrained policies on Ant, by network and deviation."""
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = defaultdict(dict)
    for (environment, _, variant), curves in runs.items():
        if environment == "Ant-v4" and "-std" in variant and "lr" not in variant:
            network, deviation = variant.split("-std")
            found[deviation][network] = np.array([curve.mean() for curve in curves])
    figure = Figure(figsize=(4.8, 2.6), layout="constrained")
    axes = figure.subplots()
    networks = list(next(iter(found.values())))
    for offset, (color, deviation) in enumerate(zip(SERIES, sorted(found), strict=False)):
        places = np.arange(len(networks)) + (offset - 1) * 0.12
        scores = [found[deviation][network] for network in networks]
        means = [each.mean() for each in scores]
        for place, each in zip(places, scores, strict=True):
            axes.plot([place] * len(each), each, ".", color=color, alpha=0.4, ms=4)
        axes.plot(places, means, "_", color=color, ms=12, mew=2, label=f"deviation {deviation}")
    axes.axhline(UNTRAINED, color=SERIES[7], ls=(0, (5, 1.5)), label="the paper at first")
    axes.set_xticks(range(len(networks)), [f"({n.replace('x', ', ')})" for n in networks])
    axes.set(xlabel="hidden layers", ylabel="return of an untrained policy")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def distance(runs: Runs) -> Figure:
    """Mean distance to the paper's table over the simple environments, by rate and network."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    for axes, algorithm in zip(
        figure.subplots(1, 2, sharey=True), ("reinforce", "reinforce_baseline"), strict=True
    ):
        found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for (environment, of_run, variant), curves in runs.items():
            network, _, rate = variant.partition("-lr")
            if environment not in SIMPLE or of_run != algorithm or "x" not in network or not rate:
                continue
            best = np.mean([smoothed(curve) for curve in curves], axis=0).max()
            paper = published()[environment, algorithm, "bp"]
            spread = max(paper.relative_spread / 100, FLOOR) * abs(paper.max_score)
            found[network][float(rate)].append(abs(best - paper.max_score) / spread)
        for color, (network, by_rate) in zip(SERIES, found.items(), strict=False):
            rates = sorted(rate for rate in by_rate if len(by_rate[rate]) == len(SIMPLE))
            means = [np.mean(by_rate[rate]) for rate in rates]
            label = f"({network.replace('x', ', ')})"
            axes.plot(rates, means, "o-", color=color, ms=3, label=label)
        axes.set(title=ALGORITHMS[algorithm], xlabel="learning rate", xscale="log", yscale="log")
        axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        axes.set_yticks(DISTANCES, [f"{each:g}" for each in DISTANCES])
        axes.minorticks_off()
    figure.axes[0].set_ylabel("distance to the paper, in its spreads")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
