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
