"""The results that the paper printed (its table of results, section 4.2)."""

import csv
import functools
import importlib.resources
from collections.abc import Iterable

from rllib_lpdm.analysis.statistics import Measures


@functools.cache
def published() -> dict[tuple[str, str, str], Measures]:
    """The paper's table by environment, algorithm and method, in the paper's order."""
    text = importlib.resources.files(__package__).joinpath("paper_table1.csv").read_text("utf-8")
    return {
        (row["environment"], row["algorithm"], row["method"]): Measures(
            float(row["max_score"]), float(row["relative_spread_percent"]), int(row["iterations"])
        )
        for row in csv.DictReader(text.splitlines())
    }


def in_paper_order(names: Iterable[str]) -> list[str]:
    """Environments, algorithms or methods as the paper orders them; others follow by name."""
    known = list(dict.fromkeys(name for key in published() for name in key))
    return sorted(
        set(names), key=lambda name: (known.index(name) if name in known else len(known), name)
    )
