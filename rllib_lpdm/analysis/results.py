"""Reads the cells of a results folder."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CellResult:
    """One cell's ``run.json`` and ``iterations.csv``.

    Attributes:
        run: the content of ``run.json``.
        columns: each column of ``iterations.csv``, (iterations,).
    """

    run: dict[str, Any]
    columns: dict[str, Floats]

    @property
    def returns(self) -> Floats:
        """(iterations,) mean episode return of each iteration, the paper's score."""
        return self.columns["episode_return"]


def read_cells(folder: Path) -> list[CellResult]:
    """All cells of an experiment's folder that have finished at least one iteration.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    cells = []
    for run_file in sorted(folder.glob("*/run.json")):
        columns = _read_columns(run_file.with_name("iterations.csv"))
        if columns:
            cells.append(CellResult(json.loads(run_file.read_text(encoding="utf-8")), columns))
    return cells


def _read_columns(path: Path) -> dict[str, Floats]:
    """The columns of a CSV file of numbers; empty where it is missing or has no rows.

    A last line that was cut off while it was written is left out.
    """
    if not path.is_file():
        return {}
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    header, *rows = list(csv.reader(whole.splitlines())) or [[]]
    if not rows:
        return {}
    table = np.array(rows, dtype=np.float64)
    return {name: table[:, index] for index, name in enumerate(header)}
