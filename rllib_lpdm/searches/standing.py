"""How the cells of a search stand, from their folders alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rllib_lpdm.results.iterations import RETURN, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.scores import Floats, end_score, finite, max_score, mean_score
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.experiment import Cell

SCORES: Mapping[str, Callable[[Floats], float]] = {
    "max_score": max_score,
    "end_score": end_score,
    "mean_score": mean_score,
}


@dataclass(frozen=True)
class Standing:
    """A cell as far as some iterations.

    Attributes:
        score: over those iterations; None where it did not come so far.
        iterations: that it has trained for, these at most.
        env_steps: in them.
        seconds: of training in them.
        returns: (iterations,) of each iteration; None where there is no score.
    """

    score: float | None = None
    iterations: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    returns: Floats | None = None


def standing(folder: Path, cell: Cell, run: RunRecord | None, score: str) -> Standing:
    """How a cell stands after as many iterations as its settings ask for.

    Args:
        folder: the experiment's.
        cell: with those iterations.
        run: its record, None where it has not begun.
        score: a name of ``SCORES``.

    Raises:
        OSError: its file cannot be read.
        ValueError: likewise.
    """
    wanted = cell.settings.iterations or 0
    path = folder / cell.name / ITERATIONS_FILE
    if run is None or not path.is_file():
        return Standing()
    needed = ("env_steps", "seconds")
    columns = read_columns(read_file(path), lambda name: name in needed)
    if not columns:
        return Standing()
    returns = finite(columns[RETURN][:wanted])
    steps, seconds = (columns.get(name, np.zeros(len(returns)))[:wanted] for name in needed)
    whole = run.iteration >= wanted and len(returns) == wanted and np.isfinite(returns).all()
    return Standing(
        SCORES[score](returns) if whole else None,
        len(returns),
        int(np.nan_to_num(steps[-1])),
        float(np.nansum(seconds)),
        returns if whole else None,
    )
