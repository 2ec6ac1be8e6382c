"""How far the runs of some folders are from published scores: a table for the terminal."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rllib_lpdm.analysis.cells import Results, Series
from rllib_lpdm.analysis.groups import Place, grouped
from rllib_lpdm.analysis.statistics import measures
from rllib_lpdm.results.paper import Table, distance, in_paper_order, published
from rllib_lpdm.schema.messages import one_line
from rllib_lpdm.schema.search_section import FLOORS


class Runs(NamedTuple):
    """A method of a folder, or one of the folder's variants of it."""

    folder: str
    series: Series


class Distance(NamedTuple):
    """One line of the table.

    Attributes:
        score: the maximum of the finished runs' mean smoothed curve.
        published: the published max score.
        distance: between the two, in units of the published spread.
        seeds: how many finished runs there are.
    """

    score: float
    published: float
    distance: float
    seeds: int


Distances = dict[Runs, dict[Place, Distance | None]]  # None of a place that has no finished run


def distances(
    folders: Mapping[str, Results],
    table: Table | None = None,
    floor: float = FLOORS["max_score"],
) -> Distances:
    """Returns the distance of each method's max score in each place that the table has.

    Only finished runs count. Beside the paper's table stand only environments as they are
    registered. A method has all places of the table; a variant has those that its folder plans.

    Args:
        folders: what was read of each, by the name that it is shown under.
        table: published scores; the paper's by default.
        floor: percent of the published score that its spread counts as at least.
    """
    found: Distances = {}
    floors, targets = {**FLOORS, "max_score": floor}, table or published()
    for folder, results in folders.items():
        groups = grouped(results.cells)
        for series in dict.fromkeys(series for row in groups.values() for series in row):
            here = found.setdefault(Runs(folder, series), {})
            for (*names, method), target in targets.items():
                place = Place(*names)
                group = groups.get(place, {}).get(series)
                if method != series.method:
                    continue
                if group and group.finished and (table or group.as_registered):
                    here[place] = Distance(
                        measures(group.scores).max_score,
                        target.max_score,
                        distance(group.scores, target, floors=floors),
                        len(group.counted),
                    )
                elif group or not series.variant or _is_planned(place, series, results):
                    here[place] = None
    return {runs: places for runs, places in found.items() if places}


def _is_planned(place: Place, series: Series, results: Results) -> bool:
    environment = re.sub(r"[^A-Za-z0-9.-]+", "-", place.environment)  # as cells are named
    start = "_".join([environment, place.algorithm, *series, "s"])
    return any(name.startswith(start) for name in results.missing)


def distances_text(found: Distances) -> str:
    """Returns two tables in Markdown: every place, then a line for each method and variant.

    The lines of a method are sorted by their mean distance; those that lack places come last. Where
    they have different places, the columns after ``common`` are over the places that all have.
    """
    heads = ["folder", "method", "variant"]
    rows = [[*heads, "environment", "algorithm", "score", "published", "distance", "seeds"]]
    summary = [[*heads, "places", "seeds", "mean", "median", "common", "mean", "median", "missing"]]
    several = len({runs.folder for runs in found}) > 1
    for method in in_paper_order(runs.series.method for runs in found):
        lines = {
            runs: {place: d for place, d in places.items() if d}
            for runs, places in found.items()
            if runs.series.method == method
        }
        common = set.intersection(*map(set, lines.values()))
        differ = any(places.keys() != common for places in lines.values())
        made = []
        for runs, places in lines.items():
            names = [one_line(name) for name in (runs.folder if several else "", *runs.series)]
            rows += [
                [
                    *names,
                    *place,
                    *(f"{value:.{n}f}" for n, value in zip((1, 1, 2, 0), d, strict=True)),
                ]
                for place, d in places.items()
            ]
            missing = [place for place, d in found[runs].items() if d is None]
            line = _summary(places, common if differ else set(), missing)
            values = [d.distance for d in places.values()]
            made.append((len(missing), np.mean(values or [np.inf]), [*names, *line]))
        summary += [line for *_, line in sorted(made)]
    return f"{_markdown(rows)}\n\n{_markdown(summary)}"


def _summary(
    places: Mapping[Place, Distance], common: set[Place], missing: Sequence[Place]
) -> list[str]:
    """A line of the summary, without the names of the runs."""
    seeds = sorted({d.seeds for d in places.values()})
    shared = [places[place].distance for place in places if place in common]
    begun = {place.environment for place in places}
    lacking: dict[str, list[str]] = defaultdict(list)
    for environment, algorithm in missing:
        lacking[environment].append(algorithm)
    return [
        f"{len(places)} of {len(places) + len(missing)}",
        " to ".join(map(str, [seeds[0], seeds[-1]][: len(seeds)])) if seeds else "0",
        *_mean_and_median([d.distance for d in places.values()]),
        *([str(len(shared)), *_mean_and_median(shared)] if shared else [""] * 3),
        "; ".join(
            f"{name} {', '.join(algorithms)}" if name in begun else name
            for name, algorithms in lacking.items()
        ),
    ]


def _mean_and_median(values: Sequence[float]) -> list[str]:
    return [f"{np.mean(values):.2f}", f"{np.median(values):.2f}"] if values else ["-", "-"]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows below their heads, padded for a terminal; columns that are empty throughout left out."""
    kept = [index for index in range(len(rows[0])) if any(row[index] for row in rows[1:])]
    widths = {index: max(len(row[index]) for row in rows) for index in kept}
    lines = ["| " + " | ".join(row[i].ljust(widths[i]) for i in kept) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (widths[i] + 2) for i in kept) + "|")
    return "\n".join(lines)
