"""Runs a search in its folder, one generation of cells after the other."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rllib_lpdm.grid.folder import Begun, existing_runs, prepared
from rllib_lpdm.grid.run import Outcome, run_cells
from rllib_lpdm.grid.session import session
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted
from rllib_lpdm.searches.generations import Generation, SearchSchedule
from rllib_lpdm.searches.outcome import write
from rllib_lpdm.searches.studies import Search


def run_search(
    search: Search,
    output: str | Path,
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    wandb: str = "disabled",
) -> tuple[Outcome, SearchRecord | None]:
    """Trains the cells of a search and writes the search's files beside them.

    The arguments and errors are those of :func:`~rllib_lpdm.grid.run.run_experiment`.

    Returns:
        The outcome of the last cells that ran, with the failures of all cells. Then the record of
        the search; None where it was ended early.
    """
    folder = results_folder(output) / search.experiment.name
    failed: dict[str, str] = {}
    outcome: Outcome | None = None
    planned = dict.fromkeys(search.names())
    with prepared(folder, resume=resume, overwrite=overwrite) as outdated, ExitStack() as to_end:
        schedule = SearchSchedule(search, folder)
        schedule.is_outdated = bool(outdated)
        for generation in schedule.generations():
            todo, begun, failures = _remaining(schedule, generation)
            failed |= failures
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
                planned=list(planned | dict.fromkeys(cell.name for cell in generation.cells)),
                outdated=outdated,
                address=address,
                max_concurrent=max_concurrent,
                wandb=wandb,
            )
            outdated, schedule.is_outdated = [], False
            failed |= outcome.failed
            if outcome.signal or outcome.disk_error:
                under_way = wanted - set(outcome.finished)
                done = [
                    name
                    for name, run in schedule.records().items()
                    if run.status == "finished" and name not in under_way
                ]
                return replace(outcome, finished=done, failed=failed), None
        ended = replace(outcome or Outcome(folder, [], {}), failed=failed)
        return ended, write(schedule)


def _remaining(
    schedule: SearchSchedule, generation: Generation
) -> tuple[list[Cell], Begun, dict[str, str]]:
    """Returns the cells to train, all that the folder holds, and why others failed for good.

    Raises:
        UserError: a cell was begun under other settings, or cannot go on.
    """
    runs = schedule.records()
    # a cell that a later generation has taken further is not asked to take that back
    as_begun = [_with_begun_iterations(cell, runs.get(cell.name)) for cell in generation.cells]
    begun = existing_runs(schedule.folder, as_begun) if runs else Begun({}, {}, [])
    if begun.unusable:
        raise UserError(next(iter(begun.unusable.values())))
    for note in begun.notes:
        print(note, flush=True)
    todo: list[Cell] = []
    failures: dict[str, str] = {}
    for cell in generation.cells:
        run = begun.runs.get(cell.name)
        if run is not None and run.iteration >= (cell.settings.iterations or 0):
            continue
        if generation.over and run is not None and run.status == "failed":
            failures[cell.name] = ((run.error or "").strip() or "failed").splitlines()[-1]
        else:
            todo.append(cell)
    return todo, begun, failures


def _with_begun_iterations(cell: Cell, run: RunRecord | None) -> Cell:
    """Returns the cell with the iterations that it was begun with, where those are more."""
    known = run.settings.get("iterations") if run else None
    if not isinstance(known, int) or known <= (cell.settings.iterations or 0):
        return cell
    return replace(cell, settings=cell.settings.model_copy(update={"iterations": known}))


def _say(generation: Generation, todo: list[Cell], begun: Begun) -> None:
    going_on = sum(cell.name in begun.runs and begun.runs[cell.name].iteration > 0 for cell in todo)
    print(
        f"{generation.title}: {counted(len(generation.cells), 'cell')}, {len(todo)} to run"
        + (f", {going_on} of them from a checkpoint" if going_on else ""),
        flush=True,
    )
