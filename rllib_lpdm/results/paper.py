"""Published scores: the paper's table of results (section 4.2), or another; distances from them."""

import csv
import functools
import importlib.resources
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rllib_lpdm.results.scores import Floats, Measures, measures
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.messages import one_line, shown
from rllib_lpdm.schema.search_section import FLOORS, Column

Table = Mapping[tuple[str, str, str], Measures]  # by environment, algorithm and method
COLUMNS = tuple(FLOORS)  # in the order of Measures
BASELINE = "bp"  # whose max score the iterations of other methods are counted to
NAMES = ("environment", "algorithm", "method")
MOST_BYTES = 2**20  # of a table; the paper's has 3000


@functools.cache
def published() -> Table:
    """Returns the paper's table by environment, algorithm and method, in the paper's order."""
    text = importlib.resources.files(__package__).joinpath("paper_table1.csv").read_text("utf-8")
    return _table(text)


def read_table(file: Path) -> Table:
    """Returns a table with the paper's columns; a report's ``table1.csv`` is one too.

    Args:
        file: CSV with ``environment``, ``algorithm``, ``method`` and ``max_score``;
            ``relative_spread_percent`` and ``iterations`` may be empty or left out.

    Raises:
        ValueError: names the file, the line and the column.
    """
    try:
        return _table(read_file(file, MOST_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{file}: {one_line(reason)}") from None


def _table(text: str) -> Table:
    found: dict[tuple[str, str, str], Measures] = {}
    rows = csv.DictReader(text.splitlines())
    missing = {*NAMES, "max_score"} - set(rows.fieldnames or ())
    if missing:
        raise ValueError(f"there is no column {', '.join(sorted(missing))}")
    for row in rows:
        line = f"line {rows.line_num}"
        if row.get("variant"):
            raise ValueError(f"{line}: a published table has no variants; keep the rows of one")
        key = (row["environment"], row["algorithm"], row["method"])
        if not all(key):
            raise ValueError(f"{line}: environment, algorithm or method is empty")
        if key in found:
            raise ValueError(f"{line}: {' '.join(key)} is there twice")
        score, spread, iterations = (
            _number(line, name, row.get(name) or "")
            for name in ("max_score", "relative_spread_percent", "iterations")
        )
        if not score:
            raise ValueError(f"{line}: max_score: a score of 0 has no relative spread")
        if math.isnan(score):
            raise ValueError(f"{line}: max_score is empty")
        if spread < 0 or iterations < 1:
            raise ValueError(f"{line}: a spread is 0 or more, and an iteration 1 or more")
        found[key] = Measures(score, spread, int(iterations) if iterations >= 1 else iterations)
    if not found:
        raise ValueError("there is no row")
    return found


def _number(line: str, name: str, text: str) -> float:
    """A finite number; nan for an empty field."""
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value) or (math.isnan(value) and text.strip()):
        raise ValueError(f"{line}: {name}: {shown(text)} is not a finite number")
    return value


def distance(
    scores: Floats,
    target: Measures,
    column: Column = "max_score",
    *,
    floors: Mapping[Column, float] = FLOORS,
    level: float = math.inf,
) -> float:
    """Distance of a method's runs from its published numbers, in units of the published spread.

    ``max_score`` is the difference of ours and the published one over the published spread.
    ``rel_spread`` is the same of the relative spreads. An iteration says little where a curve is
    flat. So ``iterations`` is 0 where the published iteration lies among those at which the mean
    curve is within a published spread of its maximum. Beyond them it is counted in shares of the
    published iteration.

    Args:
        scores: (seeds, iterations) smoothed scores.
        target: the published numbers.
        column: which of them.
        floors: percentages, the least that a unit may be.
        level: the baseline's published max score, to which other methods' iterations are counted.

    Returns:
        0 or more; nan where the table has no such number, and of the spread of a single seed.
    """
    ours, floor = measures(scores), floors[column]
    unit = float(np.fmax(target.relative_spread, floors["max_score"])) / 100 * abs(target.max_score)
    if column == "max_score":
        return abs(ours.max_score - target.max_score) / unit
    if column == "rel_spread":
        less = ours.relative_spread - target.relative_spread
        return abs(less) / max(floor, target.relative_spread)
    average, reached = scores.mean(axis=0), min(ours.max_score, level)
    near = np.flatnonzero(average >= reached - unit) + 1
    beyond = np.flatnonzero(average > reached + unit)  # first index: iterations before it
    first, last = int(near[0]), int(beyond[0] if len(beyond) else near[-1])
    outside = max(first - target.iterations, target.iterations - max(first, last), 0.0)
    return float(outside / (floor / 100 * target.iterations))


def budget(environment: str, algorithm: str) -> int | None:
    """Iterations of the paper's runs, read off its table; None where it has none."""
    if (environment, algorithm, "bp") not in published():
        return None
    if environment in ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4"):
        return 1500
    return 3000 if environment == "Pusher-v4" or algorithm == "ppo" else 5000


def in_paper_order(names: Iterable[str]) -> list[str]:
    """Environments, algorithms or methods as the paper orders them; others follow by name."""
    known = list(dict.fromkeys(name for key in published() for name in key))
    return sorted(
        set(names), key=lambda name: (known.index(name) if name in known else len(known), name)
    )
