"""Trains recorded cells again from their records, and compares the curves bit for bit."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.grid.cell import algorithm_config, kernel_of
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.grid.session import session
from rllib_lpdm.policies.saved import differences, read_record, recorded_cell
from rllib_lpdm.results.iterations import RETURN, Row, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE, PUBLISHED_RUNS, RUN_FILE
from rllib_lpdm.results.published import as_published, is_published, read_published
from rllib_lpdm.results.record import RunRecord, read_runs
from rllib_lpdm.results.scores import finite, first_full, smoothed
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.experiment import Cell, Experiment
from rllib_lpdm.schema.messages import UserError, counted, described, no_folder, one_line

Array = NDArray[Any]
Columns = Mapping[str, Array]  # (rows,) each, by name
NOT_COMPARED = "seconds"  # the only column that differs from run to run
TOLERANCE = 0.1  # share of the range of the recorded smoothed scores


class Difference(NamedTuple):
    """The first number that differs from the record."""

    row: int  # from 1
    column: str
    recorded: Any
    now: Any  # None where the column is missing


@dataclass(frozen=True)
class Verification:
    """The comparison of a cell's new rows with the recorded rows.

    Attributes:
        rows: number of rows that were compared.
        difference: the first, in the order of rows; None where all bits are the same.
        changed: versions and processor that have changed since, with both values.
        commit: the record's commit, where another one is checked out now.
        distance: the largest difference of the smoothed scores, as a share of the recorded range;
            None without a difference, or where nothing has changed since.
    """

    cell: str
    rows: int
    difference: Difference | None
    changed: Sequence[str]
    commit: str | None
    distance: float | None

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Tells whether all is the same, or near enough after versions or processor changed."""
        return self.difference is None or (self.distance is not None and self.distance <= tolerance)


@dataclass(frozen=True)
class RecordedCell:
    """A recorded cell that can be trained again.

    Attributes:
        cell: the cell, with as many iterations as are compared.
        columns: its recorded columns, without ``seconds``.
        rounded: gives a column, by its name and values, the record's precision.
    """

    cell: Cell
    run: RunRecord
    columns: Columns
    rounded: Callable[[str, Array], Array]

    def verify(self, tell: Callable[[int], None] = lambda rows: None) -> Verification:
        """Trains the cell and compares its rows up to the first difference.

        Where versions or processor have changed, it goes on to the last row, for the scores. It
        calls `tell` with the number of rows that are done.

        Raises:
            UserError: the training ends before the last row.
        """
        changed, commit = _changes(self.run, self.cell)
        rows: list[Row] = []
        difference: Difference | None = None
        for block in _trained(self.cell):
            if difference is None:
                difference = self._first_difference(block, len(rows))
            rows += block
            tell(len(rows))
            if difference is not None and not changed:
                break
        compared = len(rows) if difference is None else difference.row
        distance = None
        if difference is not None and changed:
            now = np.array([row[RETURN] for row in rows], np.float64)
            distance = score_distance(self.columns[RETURN].astype(np.float64), now)
            compared = len(self.columns[RETURN])
        return Verification(self.run.cell, compared, difference, changed, commit, distance)

    def _first_difference(self, rows: Sequence[Row], start: int) -> Difference | None:
        """Compares rows with the recorded rows from index `start` on."""
        found: list[Difference] = []
        for name, values in self.columns.items():
            recorded = values[start : start + len(rows)]
            if name not in rows[0]:
                found.append(Difference(start + 1, name, recorded[0], None))
                continue
            now = self.rounded(name, np.array([row[name] for row in rows], recorded.dtype))
            same = (recorded == now) & (np.signbit(recorded) == np.signbit(now))
            both_nan = (recorded != recorded) & (now != now)  # any NaN equals any other
            if not (same | both_nan).all():
                k = int(np.argmin(same | both_nan))
                found.append(Difference(start + k + 1, name, recorded[k], now[k]))
        return min(found, key=lambda difference: difference.row, default=None)


def recorded_cells(
    folder: Path, iterations: int | None = None, imports: Sequence[str] = ()
) -> tuple[list[RecordedCell], list[str]]:
    """Reads the cells that are recorded in a folder.

    Args:
        folder: a cell's, an experiment's or a published one; behind a URL too, as a UPath.
        iterations: the most rows of a cell that are compared; None for all.
        imports: modules that register environments.

    Returns:
        The cells that can be trained again, and why others cannot.

    Raises:
        OSError: a published file cannot be read.
        UserError: no cell is recorded there, or a published file is damaged.
    """
    faults: dict[str, str] = {}
    run = read_record(folder)
    found: list[tuple[RunRecord, Path, Columns | None]]
    if run is not None:
        found = [(run, folder / RUN_FILE, None)]
    elif is_published(folder):
        published = read_published(folder).values()
        found = [(run, folder / PUBLISHED_RUNS, columns) for run, columns in published]
    elif not folder.is_dir():
        raise UserError(no_folder(folder))
    else:
        runs, faults = read_runs(folder)
        if not runs and not faults:
            raise UserError(f"{folder} holds no cells: no folder in it has a {RUN_FILE}")
        found = [(run, folder / name / RUN_FILE, None) for name, run in runs.items()]
    cells, reasons = [], list(faults.values())
    for one in found:
        try:
            cells.append(_prepared(*one, iterations, tuple(imports)))
        except UserError as error:
            reasons.append(str(error))
    return cells, reasons


def _prepared(
    run: RunRecord,
    source: Path,
    published: Columns | None,
    iterations: int | None,
    imports: tuple[str, ...],
) -> RecordedCell:
    """Checks that a cell can be trained here, and reads its rows where they are not published.

    Raises:
        UserError: the cell cannot be trained here, or has no rows.
    """
    cell = recorded_cell(run, source)
    rounded = as_published if published is not None else lambda column, values: values
    try:
        columns = published or read_columns(
            read_file(source.with_name(ITERATIONS_FILE)), lambda column: True
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{cell.name}: its rows cannot be read: {one_line(error)}") from None
    compared = {
        name: rounded(name, values[:iterations])
        for name, values in columns.items()
        if name != NOT_COMPARED
    }
    if not len(compared.get(RETURN, ())):
        raise UserError(f"{cell.name} has no rows yet")
    settings = cell.settings.model_copy(update={"iterations": len(compared[RETURN])})
    cell = dataclasses.replace(cell, settings=settings, imports=imports)
    return RecordedCell(cell, run, compared, rounded)


def _trained(cell: Cell) -> Iterator[list[Row]]:
    """Yields a cell's rows, block by block, to its last iteration."""
    algo = None
    try:
        algo = algorithm_config(cell).build_algo()
        while not algo.finished:
            algo.train()
            yield algo.iteration_rows
    except Exception as error:  # environments raise anything
        done = algo.iterations_done if algo is not None else 0
        raise UserError(
            f"{cell.name}: training ended after {counted(done, 'iteration')}: {described(error)}"
        ) from error
    finally:
        if algo is not None:
            algo.stop()


def score_distance(recorded: Array, now: Array) -> float:
    """Returns the distance of two runs by their smoothed scores, where the window is full.

    Args:
        recorded: (iterations,) mean episode returns.
        now: the same of the other run.

    Returns:
        The largest difference as a share of the range of the recorded scores; infinite where they
        are all the same and the others are not.
    """
    begin = first_full(len(recorded))
    before, after = (smoothed(finite(returns))[begin:] for returns in (recorded, now))
    largest, span = float(np.abs(after - before).max()), float(np.ptp(before))
    if largest == 0:
        return 0.0
    return largest / span if span > 0 else float("inf")


def _changes(run: RunRecord, cell: Cell) -> tuple[list[str], str | None]:
    """Returns changed versions and processor, with both values, and a commit that has changed.

    Entries that a record lacks are not compared.
    """
    now = provenance()
    pairs: dict[str, tuple[Any, Any]] = {
        name: (version, now["versions"].get(name)) for name, version in run.versions.items()
    }
    pairs |= {
        name: (run.hardware[name], now["hardware"][name])
        for name in ("cpu", "machine")
        if name in run.hardware
    }
    if "kernel" in run.model_fields_set:
        pairs["kernel"] = run.kernel, kernel_of(cell)
    same_commit = run.git_commit in (None, now["git_commit"])
    return differences(pairs), None if same_commit else run.git_commit


def ray_for(cells: Sequence[RecordedCell]) -> AbstractContextManager[Any]:
    """Starts Ray in this process, with the resources that the cells need."""
    experiment = Experiment("verify", (), (), (), (), in_process=True)
    return session(experiment, [recorded.cell for recorded in cells], None)
