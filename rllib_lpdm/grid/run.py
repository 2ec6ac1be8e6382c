"""Runs an experiment's cells: under Tune, many at once, or one by one in this process."""

import dataclasses
import shlex
import signal
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rllib_lpdm.grid.cell import CellRun, quiet_environments
from rllib_lpdm.grid.folder import (
    Begun,
    delete,
    existing_runs,
    prepared,
    say_what_resumes,
    write_plan,
)
from rllib_lpdm.grid.progress import Progress
from rllib_lpdm.grid.queue import TrialWatch
from rllib_lpdm.grid.session import session
from rllib_lpdm.grid.signals import termination_as_interrupt
from rllib_lpdm.grid.trackers.follower import wandb_follower
from rllib_lpdm.grid.trials import run_trials
from rllib_lpdm.results.storage import is_remote, results_folder
from rllib_lpdm.schema.experiment import Cell, Experiment
from rllib_lpdm.schema.messages import UserError, described


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the cells of an experiment ended.

    Attributes:
        folder: the experiment's folder.
        finished: names of the cells that reached their last iteration.
        failed: names of the cells that failed for good, with the last line of the error.
        signal: number of the signal that ended the run early, None where none did.
        disk_error: why nothing could be written any more, None where everything could.
        sync: the command that uploads W&B's offline files, None where there are none.
    """

    folder: Path
    finished: list[str]
    failed: dict[str, str]
    signal: int | None = None
    disk_error: str | None = None
    sync: str | None = None


def run_experiment(
    experiment: Experiment,
    output: str | Path,
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    wandb: str = "disabled",
) -> Outcome:
    """Trains every cell of an experiment into ``<output>/<name>/<cell>/``.

    Args:
        experiment: what to run.
        output: the results folder, reachable from every node of a cluster, or an fsspec URL.
        address: a Ray cluster to join; by default that of RAY_ADDRESS, else this machine alone.
        max_concurrent: cells that run at once; None for as many as there are CPUs.
        resume: continue an existing folder: finished cells are kept, others go on from their
            checkpoints.
        overwrite: delete an existing folder first.
        wandb: ``online``, ``offline`` or ``disabled``.

    Raises:
        UserError: the folder exists and neither ``resume`` nor ``overwrite`` was given; it
            cannot be written, or another run uses it; a cell in it has other settings; no Ray
            answers at the address.
    """
    cells = experiment.cells()
    folder = results_folder(output) / experiment.name
    with prepared(folder, resume=resume, overwrite=overwrite) as outdated:
        begun = Begun({}, {}, []) if overwrite else existing_runs(folder, cells)
        if len(begun.unusable) == len(cells):
            raise UserError(next(iter(begun.unusable.values())))
        if resume:
            say_what_resumes(folder, cells, begun)
        return run_cells(
            experiment,
            folder,
            cells,
            begun,
            planned=[cell.name for cell in cells],
            outdated=outdated,
            address=address,
            max_concurrent=max_concurrent,
            wandb=wandb,
        )


def run_cells(
    experiment: Experiment,
    folder: Path,
    cells: Sequence[Cell],
    begun: Begun,
    *,
    planned: Sequence[str],
    outdated: Sequence[Path] = (),
    address: str | None = None,
    max_concurrent: int | None = None,
    wandb: str = "disabled",
) -> Outcome:
    """Trains cells in an experiment's folder, which is prepared and this run's alone.

    Args:
        experiment: whose cells they are.
        folder: its folder.
        cells: those to train.
        begun: what the folder has of them.
        planned: names of all cells that the folder is to have.
        outdated: what is deleted before the first cell begins.
        address, max_concurrent, wandb: see :func:`run_experiment`.

    Raises:
        UserError: the folder cannot be written; no Ray answers at the address.
    """
    finished = begun.finished
    usable = [cell for cell in cells if cell.name not in begun.unusable]
    pending = [cell for cell in usable if cell.name not in finished]
    job: dict[str, Any] = {
        "cells": {cell.name: cell for cell in cells},
        "folder": folder,
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "session": uuid.uuid4().hex,
    }
    wandb_files = Path(f"{experiment.name}-wandb") if is_remote(folder) else folder
    sink = wandb_follower(wandb, wandb_files, experiment.name)
    scores = {name: begun.runs[name].score for name in finished}
    progress = Progress(usable, scores, begun=_checkpointed(begun))
    watch = TrialWatch(pending, job, progress, sink)
    signals: list[int] = []
    sync = None
    try:
        for name in finished:  # its last rows may have been under way to W&B
            sink.complete(folder / name, begun.runs[name])
        if pending:
            with session(experiment, pending, address), termination_as_interrupt() as signals:
                delete(folder, outdated)
                write_plan(folder, experiment, planned)
                if experiment.in_process:
                    with suppress(KeyboardInterrupt):  # the outcome tells of it
                        _run_here(pending, job, watch, progress)
                else:
                    with progress:
                        run_trials(job, watch, max_concurrent)
    finally:
        sync = sink.close()
    interrupted = pending and watch.queue.open and not watch.disk_error
    reasons = begun.unusable | watch.failed
    failed = {cell.name: reasons[cell.name] for cell in cells if cell.name in reasons}
    done = finished | (watch.ended - failed.keys())
    return Outcome(
        folder,
        [cell.name for cell in cells if cell.name in done],
        failed,
        next(iter(signals), signal.SIGINT) if interrupted else None,
        watch.disk_error,
        sync,
    )


def _run_here(
    cells: Sequence[Cell], job: dict[str, Any], watch: TrialWatch, progress: Progress
) -> None:
    """One cell after the other in this process, each once: for a debugger."""
    quiet_environments()
    for cell in cells:
        progress.started(cell.name)
        run: CellRun | None = None
        try:
            run = CellRun(cell, job["folder"] / cell.name, job["command"], job["session"])
            while not run.finished:
                watch.report(cell.name, run.step())
            watch.finish(cell.name)
        except Exception as error:
            watch.finish(cell.name, described(error))
            if len(cells) == 1:
                raise
        finally:
            if run is not None:
                run.close()


def _checkpointed(begun: Begun) -> dict[str, tuple[int, float | None]]:
    """Of cells that go on from a checkpoint, its iteration and their score."""
    return {
        name: (run.iteration, run.score)
        for name, run in begun.runs.items()
        if run.checkpoints and name not in begun.finished
    }
