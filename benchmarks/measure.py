"""Paired measurements: the two sides take turns, so that a drifting machine moves both.

Where one process computes alone its CPU time is measured, which other programs disturb less.
"""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass

# Cores that the benchmark may use; it reads them before it keeps itself to one.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@dataclass(frozen=True)
class Row:
    """One line of the benchmark's table.

    Attributes:
        benchmark: the name given on the command line.
        case: what was measured.
        figure: the measured figure (median), in ``unit``.
        reference: the figure it is compared with (median), in ``unit``.
        compared_with: what the reference is.
        unit: of both figures.
        ratio: median over rounds of figure / reference.
        target: what the ratio ought to be, as text; empty where nothing is asked.
        met: whether it is; None without a target.
    """

    benchmark: str
    case: str
    figure: float
    reference: float
    compared_with: str
    unit: str
    ratio: float
    target: str = ""
    met: bool | None = None


def paired(
    figure: Callable[[], float], reference: Callable[[], float], rounds: int = 7
) -> tuple[float, float, float]:
    """Medians of both sides and of their ratio, from rounds in which each side runs once.

    A first round, not counted, warms both sides up.
    """
    pairs = [(figure(), reference()) for _ in range(rounds + 1)][1:]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def compare(
    benchmark: str,
    case: str,
    figure: Callable[[], float],
    reference: Callable[[], float],
    *,
    compared_with: str,
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
    rounds: int = 7,
) -> Row:
    """A row from two measurements that take turns, with its target if there is one."""
    ours, theirs, ratio = paired(figure, reference, rounds)
    target, met = "", None
    if at_least is not None:
        target, met = f">= {at_least:g}", ratio >= at_least
    elif at_most is not None:
        target, met = f"<= {at_most:g}", ratio <= at_most
    return Row(benchmark, case, ours, theirs, compared_with, unit, ratio, target, met)


def against_limit(
    benchmark: str, case: str, figure: float, limit: float, *, compared_with: str, unit: str
) -> Row:
    """A row of one measurement that must not exceed a fixed figure."""
    return Row(
        benchmark=benchmark,
        case=case,
        figure=figure,
        reference=limit,
        compared_with=compared_with,
        unit=unit,
        ratio=figure / limit,
        target="<= 1",
        met=figure <= limit,
    )
