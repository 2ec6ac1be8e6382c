"""Recorded curves, trained again from what is recorded of them and compared bit for bit."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.grid.cell import algorithm_config, kernel_of
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.grid.session import session
from rllib_lpdm.policies.saved import recorded_cell
from rllib_lpdm.results.iterations import RETURN, Row, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE, PUBLISHED_RUNS, RUN_FILE
from rllib_lpdm.results.published import as_published, is_published, read_published
from rllib_lpdm.results.record import RecordError, RunRecord, read_runs
from rllib_lpdm.results.scores import finite, first_full, smoothed
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.experiment import Cell, Experiment
from rllib_lpdm.schema.messages import UserError, counted, described, no_folder, one_line, shown

Array = NDArray[Any]
NOT_COMPARED = "seconds"  # the only column that differs from run to run
TOLERANCE = 0.1  # share of the range of the recorded smoothed scores


@dataclass(frozen=True)
class Recorded:
    """A cell as it was recorded.

    Attributes:
        run: what it was.
        source: the file that says so.
        read: (iterations,) each of its columns, in the precision in which they were kept.
        kept: gives a column, by its name and values, that precision.
    """

    run: RunRecord
    source: Path
    read: Callable[[], Mapping[str, Array]]
    kept: Callable[[str, Array], Array] = lambda column, values: values


@dataclass(frozen=True)
class Difference:
    """The first number that is another one.

    Attributes:
        row: its iteration, from 1.
        column: its name.
        recorded, now: the two numbers, or None where there is none any more.
    """

    row: int
    column: str
    recorded: Any
    now: Any


@dataclass(frozen=True)
class Verification:
    """A cell that was trained again.

    Attributes:
        cell: its name.
        rows: number of rows that were compared.
        difference: the first, in the order of rows; None where all bits are the same.
        changed: what is not as it was when the record was made: versions and processor.
        commit: that of the record, where it is another one.
        distance: where there is a difference and something has changed: the largest difference of
            the smoothed scores, as a share of the range of the recorded ones.
    """

    cell: str
    rows: int
    difference: Difference | None
    changed: Sequence[str]
    commit: str | None
    distance: float | None

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Whether all is the same, or near enough where versions or processor have changed."""
        return self.difference is None or (self.distance is not None and self.distance <= tolerance)


def recorded_cells(folder: Path) -> tuple[list[Recorded], dict[str, str]]:
    """What is recorded in a place.

    Args:
        folder: a cell's, an experiment's or a published one; behind a URL too, as a UPath.

    Returns:
        The cells that can be trained again, and of others why they cannot, by name.

    Raises:
        UserError: there is nothing.
    """
    try:
        run = RunRecord.read(folder)
    except RecordError as error:
        raise UserError(f"{folder / RUN_FILE} is damaged: {error.fault}") from None
    except OSError as error:
        raise UserError(f"{folder / RUN_FILE} cannot be read: {one_line(error)}") from None
    if run is not None:
        return [_of_folder(folder, run)], {}
    if is_published(folder):
        return _of_published(folder), {}
    if not folder.is_dir():
        raise UserError(no_folder(folder))
    runs, damaged = read_runs(folder)
    if not runs and not damaged:
        raise UserError(f"{folder} holds no cells: no folder in it has a {RUN_FILE}")
    return [_of_folder(folder / name, run) for name, run in runs.items()], damaged


def _of_folder(folder: Path, run: RunRecord) -> Recorded:
    def read() -> Mapping[str, Array]:
        return read_columns(read_file(folder / ITERATIONS_FILE), lambda column: True)

    return Recorded(run, folder / RUN_FILE, read)


def _of_published(folder: Path) -> list[Recorded]:
    try:
        cells = read_published(folder)
    except (UserError, OSError) as error:
        raise UserError(one_line(error, 600)) from None
    found = []
    for run, columns in cells.values():
        kept = {name: as_published(name, values) for name, values in columns.items()}
        found.append(Recorded(run, folder / PUBLISHED_RUNS, kept.copy, as_published))
    return found


@dataclass(frozen=True)
class Again:
    """A recorded cell that can be trained again.

    Attributes:
        cell: as it is trained, for as many iterations as are compared.
        run: what is recorded of it.
        columns: (rows,) each, without ``seconds``.
        kept: as of :class:`Recorded`.
    """

    cell: Cell
    run: RunRecord
    columns: Mapping[str, Array]
    kept: Callable[[str, Array], Array]

    @classmethod
    def of(
        cls, recorded: Recorded, iterations: int | None = None, imports: Sequence[str] = ()
    ) -> "Again":
        """Reads what is to be compared.

        Args:
            recorded: the cell.
            iterations: compare so many rows at most.
            imports: modules that register its environment.

        Raises:
            UserError: it cannot be trained here, or has no rows.
        """
        cell = recorded_cell(recorded.run, recorded.source)
        try:
            columns = recorded.read()
        except (OSError, ValueError) as error:
            raise UserError(f"{cell.name}: its rows cannot be read: {one_line(error)}") from None
        kept = {
            name: values[:iterations] for name, values in columns.items() if name != NOT_COMPARED
        }
        if not len(kept.get(RETURN, ())):
            raise UserError(f"{cell.name} has no rows yet")
        settings = cell.settings.model_copy(update={"iterations": len(kept[RETURN])})
        cell = dataclasses.replace(cell, settings=settings, imports=tuple(imports))
        return cls(cell, recorded.run, kept, recorded.kept)

    def verify(self, tell: Callable[[int], None] = lambda rows: None) -> Verification:
        """Trains the cell and compares, up to the first difference.

        Where versions or processor have changed it goes on to the last row, for the scores.

        Args:
            tell: is given the number of rows so far.

        Raises:
            UserError: training ends before the last row.
        """
        changed, commit = changes(self.run, self.cell)
        count = len(self.columns[RETURN])
        rows: list[Row] = []
        difference: Difference | None = None
        for block in _trained(self.cell):
            rows += block
            tell(len(rows))
            if difference is None:
                difference = self._first_difference(block, len(rows) - len(block))
            if difference is not None and not changed:
                break
        compared = len(rows) if difference is None else difference.row
        distance = None
        if difference is not None and changed:
            now = np.array([row[RETURN] for row in rows], np.float64)
            distance = score_distance(self.columns[RETURN].astype(np.float64), now)
            compared = count
        return Verification(self.run.cell, compared, difference, changed, commit, distance)

    def _first_difference(self, rows: Sequence[Row], start: int) -> Difference | None:
        """Of some rows, of which the first is row ``start`` of the record, counted from 0."""
        found: list[Difference] = []
        for name, values in self.columns.items():
            recorded = values[start : start + len(rows)]
            if name not in rows[0]:
                found.append(Difference(start + 1, name, recorded[0], None))
                continue
            now = self.kept(name, np.array([row[name] for row in rows], recorded.dtype))
            differing = np.flatnonzero(~_same_bits(recorded, now))
            if len(differing):
                k = int(differing[0])
                found.append(Difference(start + k + 1, name, recorded[k], now[k]))
        return min(found, key=lambda difference: difference.row, default=None)


def _same_bits(left: Array, right: Array) -> NDArray[np.bool_]:
    """Elementwise, for numbers of one type; NaN is NaN, whatever its bits."""
    same = (left == right) & (np.signbit(left) == np.signbit(right))
    both_nan: NDArray[np.bool_] = (left != left) & (right != right)
    return same | both_nan


def _trained(cell: Cell) -> Iterator[list[Row]]:
    """A cell's rows, block by block, to its last iteration."""
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
    """How far two runs are apart: by their smoothed scores, where the window is full.

    Args:
        recorded: (iterations,) mean episode returns.
        now: the same of the other run.

    Returns:
        The largest difference as a share of the range of the recorded scores; infinite where they
        are all the same and the others are not.
    """
    begin = first_full(len(recorded))
    theirs, ours = (smoothed(finite(returns))[begin:] for returns in (recorded, now))
    largest = float(np.abs(ours - theirs).max())
    span = float(np.ptp(theirs))
    if largest == 0:
        return 0.0
    return largest / span if span > 0 else float("inf")


def changes(run: RunRecord, cell: Cell) -> tuple[list[str], str | None]:
    """What is not as it was: versions and processor with both values, and the recorded commit.

    What a record does not say is not compared.
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
    changed = [
        f"{name} {shown(then)} then, {shown(today)} now"
        for name, (then, today) in pairs.items()
        if then != today
    ]
    same_commit = run.git_commit is None or run.git_commit == now["git_commit"]
    return changed, None if same_commit else run.git_commit


@contextlib.contextmanager
def ray_for(cells: Sequence[Again]) -> Iterator[None]:
    """Ray in this process, as cells need it."""
    experiment = Experiment("verify", (), (), (), (), in_process=True)
    with session(experiment, [again.cell for again in cells], None):
        yield
