"""An experiment's folder: locked, checked against the experiment, and listed."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.results.layout import (
    CHECKPOINTS,
    ITERATIONS_FILE,
    LOCK_FILE,
    PLAN_FILE,
    REPORT_FOLDER,
    RUN_FILE,
    SEARCH_FILE,
    TUNED_FILE,
    WANDB,
    checkpoint_iteration,
    checkpoint_name,
)
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.record import RecordError, RunRecord, read_runs
from rllib_lpdm.results.storage import drop_unfinished_files, is_remote, locked
from rllib_lpdm.schema.cell_settings import CellSettings, own_settings
from rllib_lpdm.schema.experiment import Cell, Experiment
from rllib_lpdm.schema.messages import UserError, counted, fault, listed

# What is in the folder besides cells.
OURS = (PLAN_FILE, WANDB, REPORT_FOLDER, SEARCH_FILE, TUNED_FILE)


# -- the folder itself ----------------------------------------------------------------------------


@contextmanager
def prepared(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[list[Path]]:
    """The folder, made or checked as asked, and locked against a second run.

    Yields:
        What is to be deleted from it.

    Raises:
        UserError: it holds something, and nothing was asked for; or it is not an experiment's
            folder, so that overwriting it would delete something else; or another run uses it.
    """
    with ExitStack() as until_the_end:
        with _disk_errors_explained(folder):
            existing = _entries(folder)
            if existing and not (resume or overwrite):
                raise UserError(
                    f"{folder} exists: --resume continues it, --overwrite deletes it first"
                )
            folder.mkdir(parents=True, exist_ok=True)
            until_the_end.enter_context(locked(folder))
            if not is_remote(folder):
                drop_unfinished_files(folder)
                existing = _entries(folder)
            if overwrite:
                _check_deletable(folder, existing)
        yield existing if overwrite else []


@contextmanager
def _disk_errors_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # behind a URL, of any class
        if not isinstance(error, OSError) and not is_remote(folder):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: cannot be used: {reason}") from error


def _entries(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    return [entry for entry in folder.iterdir() if entry.name != LOCK_FILE]


def _check_deletable(folder: Path, entries: Sequence[Path]) -> None:
    """Raises UserError where deleting an entry would delete what is not the experiment's."""
    for entry in entries:
        if not is_remote(folder) and entry.is_symlink():
            raise UserError(
                f"{folder}: --overwrite would delete {entry.name!r}, which is a link; delete it "
                "yourself, or choose another --output"
            )
        if not (entry.name in OURS or _is_cell(entry)):
            raise UserError(
                f"{folder}: --overwrite would delete {entry.name!r}, which is not a cell; "
                "choose another --output"
            )


def delete(folder: Path, entries: Sequence[Path]) -> None:
    for entry in entries:
        if is_remote(folder):
            entry.fs.rm(entry.path, recursive=True)  # type: ignore[attr-defined]
        elif entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _is_cell(entry: Path) -> bool:
    """Whether it is a cell's folder, or what is left of one that was killed as it began."""
    if not entry.is_dir():
        return False
    names = [file.name for file in entry.iterdir()]
    return RUN_FILE in names or (bool(names) and all(n.startswith(f".{RUN_FILE}.") for n in names))


def write_plan(folder: Path, experiment: Experiment, planned: Sequence[str]) -> None:
    """Lists the cells, so that a later ``--resume`` can say what was added."""
    with _disk_errors_explained(folder):
        Plan(list(planned), experiment.throwaway, experiment.same).write(folder)


# -- the cells in it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """What an experiment's folder has of its cells.

    Attributes:
        runs: the records of those that have begun; where files were lost, or the experiment asks
            for more iterations, a finished one is running again.
        unusable: why others cannot go on, with the way out, by name.
        notes: what else is to be said.
    """

    runs: dict[str, RunRecord]
    unusable: dict[str, str]
    notes: list[str]

    @property
    def finished(self) -> set[str]:
        done = {name for name, run in self.runs.items() if run.status == "finished"}
        return done - self.unusable.keys()


def existing_runs(folder: Path, cells: Sequence[Cell]) -> Begun:
    """What a folder has of an experiment's cells.

    Raises:
        UserError: a cell was begun under other settings, or has more iterations than it is
            asked for.
    """
    runs, damaged = read_runs(folder) if folder.exists() else ({}, {})
    names = {cell.name for cell in cells}
    begun = Begun(
        {name: run for name, run in runs.items() if name in names},
        {name: reason for name, reason in damaged.items() if name in names},
        [],
    )
    present = _present_files(folder, begun.runs)
    changed: dict[str, str] = {}
    for cell in cells:
        if cell.name in begun.runs:
            changes = _compare(begun, folder, cell, *present(cell.name))
            if changes:
                changed[cell.name] = ", ".join(changes)
    if changed:
        name, changes_of_it = next(iter(changed.items()))
        others = f" (and {counted(len(changed) - 1, 'more cell')})" if len(changed) > 1 else ""
        raise UserError(
            f"{folder / name} was run with other settings: {changes_of_it}{others}; "
            "undo the change, give the run another name, or --overwrite"
        )
    return begun


# Whether a cell has an iterations.csv, and the iterations of its checkpoints.
Files = tuple[bool, set[int]]


def _present_files(folder: Any, runs: dict[str, RunRecord]) -> Callable[[str], Files]:
    """Looks for the files of cells, behind a URL with one request for all."""
    if not is_remote(folder):
        return lambda name: (
            (folder / name / ITERATIONS_FILE).is_file(),
            set(checkpoints(folder / name)),
        )
    root = folder.path.rstrip("/")
    rows = {path.split("/")[-2] for path in folder.fs.glob(f"{root}/*/{ITERATIONS_FILE}")}
    found = {tuple(path.split("/")[-3:]) for path in folder.fs.glob(f"{root}/*/{CHECKPOINTS}/*")}
    return lambda name: (
        name in rows,
        {  # one that run.json does not name was lost on its way
            checkpoint_iteration(checkpoint) or 0
            for checkpoint in runs[name].checkpoints
            if (name, CHECKPOINTS, checkpoint) in found
        },
    )


def _compare(begun: Begun, folder: Path, cell: Cell, has_rows: bool, made: set[int]) -> list[str]:
    """How the cell's settings have changed since it began; notes what the cell lacks."""
    run, done = begun.runs[cell.name], max(made, default=0)
    try:
        own_settings(cell.algorithm, run.settings)
    except ValidationError as error:
        path = folder / cell.name / RUN_FILE
        begun.unusable[cell.name] = str(RecordError(path, f"settings.{fault(error)}"))
        return []
    wanted, begun_with = cell.settings.iterations or 0, run.settings.get("iterations")
    if done and not has_rows:
        begun.unusable[cell.name] = (
            f"{folder / cell.name} has lost its {ITERATIONS_FILE}; delete the folder to run the "
            "cell again"
        )
    elif run.status == "finished" and done < run.iteration:
        goes_on = f"goes on from iteration {done}" if done else "begins again"
        begun.notes.append(f"{cell.name} was finished, but has lost its checkpoint; it {goes_on}")
        run = run.updated(checkpoints=tuple(map(checkpoint_name, sorted(made))), status="running")
    elif run.status == "finished" and begun_with is not None and begun_with < wanted:
        run = run.updated(status="running")
    begun.runs[cell.name] = run
    if not run.settings or not (done or run.status == "finished"):
        return []
    before = {**_DEFAULTS, **run.settings, "environment_spec": run.environment_spec}
    now = {**cell.settings.of_training(), "environment_spec": cell.environment_record}
    if done <= wanted:  # more of them can be asked for later
        del now["iterations"]
    return [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]


_DEFAULTS = CellSettings.model_validate({}).of_training()


def say_what_resumes(folder: Path, cells: Sequence[Cell], begun: Begun) -> None:
    """Prints how many cells are finished and go on, and how the plan has changed."""
    planned = set(begun.runs) if (plan := Plan.read(folder).cells) is None else set(plan)
    names = {cell.name for cell in cells}
    unfinished = names - begun.finished - begun.unusable.keys()
    continued = sum(bool(begun.runs[name].checkpoints) for name in unfinished & begun.runs.keys())
    print(
        f"resuming: {len(begun.finished)} of {counted(len(cells), 'cell')} "
        f"{'is' if len(cells) == 1 else 'are'} finished already, "
        f"{continued} go on from a checkpoint, {len(unfinished) - continued} begin"
        + (f", {len(begun.unusable)} cannot go on" if begun.unusable else "")
    )
    for note in begun.notes:
        print(note)
    if planned and names - planned:
        print(f"new in the file: {listed(sorted(names - planned), 1)}")
    if planned - names:
        print(f"no longer in the file, and left as they are: {listed(sorted(planned - names), 1)}")
    sys.stdout.flush()
