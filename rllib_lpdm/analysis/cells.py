"""Reads the cells of a results folder."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rllib_lpdm.results.iterations import RETURN, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE, RUN_FILE
from rllib_lpdm.results.paper import in_paper_order
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.published import is_published, read_published
from rllib_lpdm.results.record import RecordError, RunRecord
from rllib_lpdm.results.scores import Floats, finite
from rllib_lpdm.results.storage import given_folder, read_file
from rllib_lpdm.schema.messages import UserError, figure, one_line

OF_RUN = ("environment", "algorithm", "method", "variant", "seed")
MOST_CROSSED = 20  # combinations for every cell that is there, where no plan is


class Series(NamedTuple):
    """What is compared: a method, or one of its variants where the experiment has variants."""

    method: str
    variant: str = ""

    @property
    def label(self) -> str:
        return f"{self.method} ({self.variant})" if self.variant else self.method


@dataclass(frozen=True)
class CellResult:
    """One cell's ``run.json`` and ``iterations.csv``.

    Attributes:
        run: the content of ``run.json``.
        columns: columns of ``iterations.csv``, (iterations,) each.
    """

    run: RunRecord
    columns: dict[str, Floats]

    @property
    def returns(self) -> Floats:
        """(iterations,) mean episode return of each iteration, the paper's score."""
        return self.columns[RETURN]

    @property
    def series(self) -> Series:
        return Series(self.run.method, self.run.variant or "")

    @property
    def finished(self) -> bool:
        return self.run.status == "finished"


@dataclass(frozen=True)
class Results:
    """An experiment's folder.

    Attributes:
        name: the folder's name, which is the experiment's.
        cells: those that can be reported, in the paper's order.
        missing: names of planned cells that have no iteration yet, or were left out.
        notes: a sentence for everything that was left out or looks wrong.
    """

    name: str
    cells: list[CellResult]
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_results(folder: Path, wanted: Callable[[str], bool] = lambda column: True) -> Results:
    """All cells of an experiment's folder that have finished at least one iteration.

    Whatever is damaged is left out and named in the notes. Safe while the experiment runs.

    Args:
        folder: an experiment's folder; behind a URL too, as a UPath.
        wanted: which columns of ``iterations.csv`` are read besides ``episode_return``.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    if is_published(folder):
        return _published(folder)
    notes: list[str] = []
    cells: dict[tuple[Any, ...], tuple[str, CellResult]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        cell, said = _read_cell(path, wanted)
        notes += [f"{path.name}: {sentence}" for sentence in said]
        if cell is None:
            continue
        run = cell.run
        key = (run.environment, run.algorithm, cell.series, run.seed)
        if key in cells:  # of a cell and its copy, the one whose folder has the cell's own name
            kept, copy = sorted(
                [cells[key], (path.name, cell)], key=lambda item: item[0] != item[1].run.cell
            )
            cells[key] = kept
            notes.append(
                f"{copy[0]}: is the cell {run.cell} a second time; {kept[0]} is reported. Delete "
                "one of the two."
            )
        else:
            cells[key] = (path.name, cell)
    found = _in_order(_with_same(folder, [cell for _, cell in cells.values()]))
    missing, note = _missing(folder, found)
    return Results(folder.name, found, missing, notes + note)


def load_iterations(folder: str | Path) -> pd.DataFrame:
    """Returns the iterations of all cells of an experiment's folder, a row for each.

    Args:
        folder: an experiment's folder or a published one; may be a URL.

    Returns:
        ``environment``, ``algorithm``, ``method``, ``variant`` (empty without variants), ``seed``
        and ``iteration`` (from 1), then the columns of ``iterations.csv``; NaN where a cell has
        no such column.

    Raises:
        FileNotFoundError: there is no such folder.
        UserError: no cell in it has finished an iteration.
    """
    results = read_results(given_folder(str(folder)))
    if not results.cells:
        raise UserError(f"{folder} holds no cell that has finished an iteration")
    tables = []
    for cell in results.cells:
        run, table = cell.run, pd.DataFrame(cell.columns)
        names = (run.environment, run.algorithm, run.method, run.variant or "", run.seed)
        for place, (name, value) in enumerate(zip(OF_RUN, names, strict=True)):
            table.insert(place, name, value)
        table["iteration"] = range(1, len(table) + 1)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _published(folder: Path) -> Results:
    try:
        cells = read_published(folder)
    except (OSError, ValueError) as error:
        return Results(folder.name, [], notes=[one_line(error, 300)])
    found, notes = [], []
    for name, (run, columns) in cells.items():
        try:
            kept, said = _finite(columns)
        except ValueError as error:
            said = [f"{error}; left out"]
        else:
            found.append(CellResult(run, kept))
        notes += [f"{name}: {sentence}" for sentence in said]
    found = _in_order(_with_same(folder, found))
    missing, note = _missing(folder, found)
    return Results(folder.name, found, missing, notes + note)


def _with_same(folder: Path, cells: Sequence[CellResult]) -> list[CellResult]:
    """The cells, and those that one of them stands for because they differ in nothing."""
    by_name = {cell.run.cell: cell for cell in cells}
    return [
        *cells,
        *(
            replace(by_name[of], run=by_name[of].run.updated(cell=name, variant=variant))
            for name, (of, variant) in Plan.read(folder).same.items()
            if of in by_name and name not in by_name
        ),
    ]


def _read_cell(folder: Path, wanted: Callable[[str], bool]) -> tuple[CellResult | None, list[str]]:
    """A cell, None where it cannot be reported, and what is to be said about it."""
    try:
        has_rows = (folder / ITERATIONS_FILE).is_file()
        run = RunRecord.read(folder)
    except RecordError as error:
        return None, [f"{RUN_FILE}: {error.fault}; left out"]
    except OSError as error:
        return None, [f"{RUN_FILE} cannot be read ({one_line(error, 200)}); left out"]
    if run is None:
        return None, [f"has iterations but no {RUN_FILE}; left out"] if has_rows else []
    if not has_rows:
        reason = (run.error or "no reason given").splitlines()[-1]
        said = {
            "failed": f"failed before its first iteration ({one_line(reason, 200)})",
            "finished": f"is finished, but has no {ITERATIONS_FILE}; left out",
        }
        return None, [said[run.status]] if run.status in said else []
    try:
        content = read_file(folder / ITERATIONS_FILE)
        columns, notes = _finite(read_columns(content, wanted))
    except (OSError, ValueError) as error:
        return None, [f"{ITERATIONS_FILE} cannot be read ({one_line(error, 200)}); left out"]
    if content and not content.endswith(b"\n"):
        notes.append(f"the last row of {ITERATIONS_FILE} is half written; it is left out")
    return (CellResult(run, columns) if columns else None), notes


def _finite(columns: dict[str, Floats]) -> tuple[dict[str, Floats], list[str]]:
    """The columns that can be averaged and drawn, and what is to be said about the others.

    Raises:
        ValueError: no return is a finite number.
    """
    kept, notes = {}, []
    for name, values in columns.items():
        lost = np.flatnonzero(~np.isfinite(values))
        if len(lost) == 0:
            kept[name] = values
        elif name != RETURN:
            notes.append(f"{name} of row {lost[0] + 1} is not a finite number; it is left out")
        elif len(lost) == len(values):
            raise ValueError("no return is a finite number")
        else:
            kept[name] = finite(values)
            others = f" and of {len(lost) - 1} more" if len(lost) > 1 else ""
            notes.append(
                f"the return of row {lost[0] + 1}{others} is not a finite number; the one before "
                "is taken in its place"
            )
    numbers = columns.get("iteration", np.zeros(0))
    gaps = np.flatnonzero(numbers != np.arange(1, len(numbers) + 1))
    if len(gaps):
        notes.append(
            f"row {gaps[0] + 1} of {ITERATIONS_FILE} says iteration "
            f"{figure(numbers[gaps[0]], 15)}; rows are taken as they come"
        )
    return kept, notes


def _in_order(cells: Iterable[CellResult]) -> list[CellResult]:
    found = list(cells)
    places = [
        {name: place for place, name in enumerate(in_paper_order(names))}
        for names in (
            [cell.run.environment for cell in found],
            [cell.run.algorithm for cell in found],
            [cell.run.method for cell in found],
        )
    ]
    return sorted(
        found,
        key=lambda cell: (
            places[0][cell.run.environment],
            places[1][cell.run.algorithm],
            places[2][cell.run.method],
            # the variant that the others are compared with comes first
            (cell.series.variant not in ("", "reference"), cell.series.variant),
            cell.run.seed,
        ),
    )


def _missing(folder: Path, cells: Sequence[CellResult]) -> tuple[list[str], list[str]]:
    """Names of the planned cells that are not there, and a note where the plan had to be guessed.

    The plan is a file beside the cells. Without it the cells that are there are crossed, unless
    they have so little in common that most of the combinations cannot have been planned.
    """
    planned = Plan.read(folder).cells
    if planned is not None:
        have = {cell.run.cell for cell in cells}
        return [name for name in planned if name not in have], []
    if not cells:
        return [], []
    places = {(c.run.environment, c.run.algorithm, c.series, c.run.seed): None for c in cells}
    axes = [list(dict.fromkeys(values)) for values in zip(*places, strict=True)]
    if math.prod(map(len, axes)) > MOST_CROSSED * len(places):
        note = "which cells were planned is not known; those that are there have little in common"
        return [], [note]
    axes[-1].sort()
    names = [
        "_".join([environment, algorithm, *filter(None, series), f"s{seed}"])
        for environment, algorithm, series, seed in product(*axes)
        if (environment, algorithm, series, seed) not in places
    ]
    note = "which cells were planned is not known; those that are there were crossed"
    return names, [note]
