"""Runs a search: one generation of cells after the other, in a folder that says how far it is."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from rllib_lpdm.grid.folder import Begun, existing_runs, prepared
from rllib_lpdm.grid.run import Outcome, run_cells
from rllib_lpdm.grid.session import session
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted
from rllib_lpdm.searches.generations import Generation, Progression
from rllib_lpdm.searches.outcome import write
from rllib_lpdm.searches.studies import Search


@dataclass(frozen=True)
class SearchOutcome:
    """How a search ended.

    Attributes:
        folder: the search's.
        last: how its last cells did; None where there was nothing to do.
        failed: names of all cells that failed for good, with the reason.
        record: what was found; None where the search did not come to its end.
    """

    folder: Path
    last: Outcome | None = None
    failed: dict[str, str] = field(default_factory=dict)
    record: SearchRecord | None = None


def run_search(
    search: Search,
    output: str | Path,
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    wandb: str = "disabled",
) -> SearchOutcome:
    """Trains the cells of a search and writes what it found beside them.

    Args:
        search: what is searched.
        output, address, max_concurrent, resume, overwrite, wandb: see
            :func:`~rllib_lpdm.grid.run.run_experiment`.

    Raises:
        UserError: as for an experiment; or a cell's files are damaged.
    """
    folder = results_folder(output) / search.experiment.name
    failed: dict[str, str] = {}
    outcome: Outcome | None = None
    names = search.names()
    with prepared(folder, resume=resume, overwrite=overwrite) as outdated, ExitStack() as to_end:
        progression = Progression(search, folder)
        progression.outdated = bool(outdated)
        for generation in progression.generations():
            todo, begun = _left(progression, generation)
            failed |= _failures(generation, todo, begun)
            if not todo:
                continue
            _say(generation, todo, begun)
            if outcome is None:  # one Ray for all generations: each start takes seconds
                to_end.enter_context(session(search.experiment, todo, address))
            wanted = {cell.name for cell in todo} | begun.finished
            outcome = run_cells(
                search.experiment,
                folder,
                [cell for cell in generation.cells if cell.name in wanted],
                begun,
                planned=list(dict.fromkeys([*names, *(cell.name for cell in generation.cells)])),
                outdated=outdated,
                address=address,
                max_concurrent=max_concurrent,
                wandb=wandb,
            )
            outdated, progression.outdated = [], False
            failed |= outcome.failed
            if outcome.signal or outcome.disk_error:
                under_way = wanted - set(outcome.finished)
                done = [name for name in _finished(progression) if name not in under_way]
                return SearchOutcome(folder, replace(outcome, finished=done), failed)
        return SearchOutcome(folder, outcome, failed, write(progression))


def _finished(progression: Progression) -> list[str]:
    return [name for name, run in progression.records().items() if run.status == "finished"]


def _left(progression: Progression, generation: Generation) -> tuple[list[Cell], Begun]:
    """The cells that a generation has still to train, and what the folder has of it.

    Raises:
        UserError: a cell was begun under other settings, or cannot go on.
    """
    runs = progression.records()
    # a cell that a later generation has taken further is not asked to take that back
    as_begun = [_as_far_as(cell, runs.get(cell.name)) for cell in generation.cells]
    begun = Begun({}, {}, []) if not runs else existing_runs(progression.folder, as_begun)
    if begun.unusable:
        raise UserError(next(iter(begun.unusable.values())))
    for note in begun.notes:
        print(note, flush=True)
    todo = [
        cell
        for cell in generation.cells
        if _falls_short(cell, begun) and not (generation.over and _has_failed(cell, begun))
    ]
    return todo, begun


def _as_far_as(cell: Cell, run: RunRecord | None) -> Cell:
    """The cell with the iterations that it was begun with, where those are more."""
    known = run.settings.get("iterations") if run else None
    if not isinstance(known, int) or known <= (cell.settings.iterations or 0):
        return cell
    return replace(cell, settings=cell.settings.model_copy(update={"iterations": known}))


def _has_come(cell: Cell, begun: Begun) -> int:
    return begun.runs[cell.name].iteration if cell.name in begun.runs else 0


def _falls_short(cell: Cell, begun: Begun) -> bool:
    return _has_come(cell, begun) < (cell.settings.iterations or 0)


def _has_failed(cell: Cell, begun: Begun) -> bool:
    return cell.name in begun.runs and begun.runs[cell.name].status == "failed"


def _failures(generation: Generation, todo: Sequence[Cell], begun: Begun) -> dict[str, str]:
    """The reasons of cells that failed in an earlier run and are not tried again."""
    again = {cell.name for cell in todo}
    return {
        cell.name: ((begun.runs[cell.name].error or "").strip() or "failed").splitlines()[-1]
        for cell in generation.cells
        if cell.name not in again and _falls_short(cell, begun) and _has_failed(cell, begun)
    }


def _say(generation: Generation, todo: Sequence[Cell], begun: Begun) -> None:
    going_on = sum(_has_come(cell, begun) > 0 for cell in todo)
    print(
        f"{generation.title}: {counted(len(generation.cells), 'cell')}, {len(todo)} to run"
        + (f", {going_on} of them from a checkpoint" if going_on else ""),
        flush=True,
    )
