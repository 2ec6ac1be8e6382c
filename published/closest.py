"""How far each reading of the paper is from all its columns, for the table that is fitted.

``python published/closest.py published/grid published/grid-unscaled``: for each algorithm and
method the distance of the max score of the mean over seeds to the paper's, in units of the paper's
spread over seeds; the mean over the environments of which every folder has five seeds, and in
brackets the median.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from rllib_lpdm.analysis.paper import published
from rllib_lpdm.analysis.results import read_results
from rllib_lpdm.analysis.scores import grouped
from rllib_lpdm.analysis.statistics import measures

SEEDS = 5


def main(folders: list[Path]) -> None:
    found = [_distances(folder) for folder in folders]
    places = sorted(set.intersection(*map(set, found)))
    if not places:
        sys.exit(f"no environment, algorithm and method has {SEEDS} seeds in each of the folders")
    columns = list(dict.fromkeys((algorithm, method) for _, algorithm, method in places))
    print(f"| algorithm | method | environments | {' | '.join(f.name for f in folders)} |")
    print("|---|---|---|" + "---:|" * len(folders))
    for column in columns:
        of_it = [place for place in places if place[1:] == column]
        _row([*column, str(len(of_it))], [[each[place] for place in of_it] for each in found])
    _row(["all", "", str(len(places))], [[each[place] for place in places] for each in found])


def _distances(folder: Path) -> dict[tuple[str, str, str], float]:
    """By environment, algorithm and method, where the paper has a number."""
    distances = {}
    for place, row in grouped(read_results(folder).cells).items():
        for series, group in row.items():
            theirs = published().get((*place, series.method))
            if theirs is None or len(group.counted) < SEEDS:
                continue
            best = measures(group.scores).max_score
            spread = theirs.relative_spread / 100 * abs(theirs.max_score)
            distances[(*place, series.method)] = abs(best - theirs.max_score) / spread
    return distances


def _row(entries: list[str], distances: list[list[float]]) -> None:
    means = [f"{np.mean(each):.1f} ({np.median(each):.1f})" for each in distances]
    print(f"| {' | '.join(entries + means)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    main(parser.parse_args().folders)
