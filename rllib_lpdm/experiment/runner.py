"""Runs an experiment's cells: under Tune, many at once, or one by one in this process."""

import dataclasses
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import ray

from rllib_lpdm.experiment.cell import CellRun
from rllib_lpdm.experiment.progress import Progress
from rllib_lpdm.experiment.spec import Cell, CellSettings, Experiment, ExperimentError
from rllib_lpdm.experiment.trackers.wandb import wandb_follower
from rllib_lpdm.experiment.trials import (
    TrialWatch,
    check_resources,
    quiet_environments,
    run_trials,
    termination_as_interrupt,
)
from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.results.layout import LOCK_FILE, PLAN_FILE, REPORT_FOLDER, RUN_FILE, WANDB
from rllib_lpdm.results.record import RunRecord, read_runs
from rllib_lpdm.results.storage import is_remote, results_folder, write_whole

OURS = (PLAN_FILE, WANDB, REPORT_FOLDER)  # what is in the folder besides cells

Runs = dict[str, RunRecord]


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
        ExperimentError: the folder exists and neither ``resume`` nor ``overwrite`` was given; it
            cannot be written, or another run uses it; a cell in it has other settings; no Ray
            answers at the address.
    """
    cells = experiment.cells()
    folder = results_folder(output) / experiment.name
    with _prepared(folder, resume=resume, overwrite=overwrite) as outdated:
        runs = {} if overwrite else existing_runs(folder, cells)
        finished = {cell.name for cell in cells if _status(runs, cell) == "finished"}
        if resume:
            _say_what_resumes(folder, cells, runs, finished)
        job: dict[str, Any] = {
            "cells": {cell.name: cell for cell in cells},
            "folder": folder,
            "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
            "session": uuid.uuid4().hex,
        }
        wandb_files = Path(f"{experiment.name}-wandb") if is_remote(folder) else folder
        sink = wandb_follower(wandb, wandb_files, experiment.name)
        progress = Progress(
            cells, {name: runs[name].score for name in finished}, begun=_begun(runs)
        )
        pending = [cell for cell in cells if cell.name not in finished]
        watch = TrialWatch(pending, job, progress, sink)
        signals: list[int] = []
        sync = None
        try:
            for name in finished:  # its last rows may have been under way to W&B
                sink.complete(folder / name, runs[name])
            if pending:
                with _session(experiment, pending, address), termination_as_interrupt() as signals:
                    _delete(folder, outdated)
                    _write_plan(folder, experiment, cells)
                    if experiment.in_process:
                        with suppress(KeyboardInterrupt):  # the outcome tells of it
                            _run_here(pending, job, watch, progress)
                    else:
                        with progress:
                            run_trials(job, watch, max_concurrent)
        finally:
            sync = sink.close()
    interrupted = pending and watch.queue.open and not watch.disk_error
    failed = {name: watch.failed[name] for name in job["cells"] if name in watch.failed}
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
            watch.finish(cell.name, f"{type(error).__name__}: {error}")
            if len(cells) == 1:
                raise
        finally:
            if run is not None:
                run.close()


def _begun(runs: Runs) -> dict[str, tuple[int, float | None]]:
    """Of cells that have a checkpoint and are not finished, its iteration and their score."""
    return {
        name: (run.iteration, run.score)
        for name, run in runs.items()
        if run.checkpoints and run.status != "finished"
    }


# -- the experiment's folder ----------------------------------------------------------------------


@contextmanager
def _prepared(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[list[Path]]:
    """The folder, made or checked as asked, and locked against a second run.

    Yields:
        What is to be deleted from it.

    Raises:
        ExperimentError: it holds something, and nothing was asked for; or it is not an experiment's
            folder, so that overwriting it would delete something else; or another run uses it.
    """
    lock = None
    try:
        with _disk_errors_explained(folder):
            existing = _entries(folder)
            if existing and not (resume or overwrite):
                raise ExperimentError(
                    f"{folder} exists: --resume continues it, --overwrite deletes it first"
                )
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder)
            if overwrite:
                _check_deletable(folder, existing)
        yield existing if overwrite else []
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def _disk_errors_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except ExperimentError:
        raise
    except Exception as error:  # behind a URL, of any class
        if not isinstance(error, OSError) and not is_remote(folder):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ExperimentError(f"{folder}: cannot be used: {reason}") from error


def _entries(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    return [entry for entry in folder.iterdir() if entry.name != LOCK_FILE]


def _check_deletable(folder: Path, entries: Sequence[Path]) -> None:
    for entry in entries:
        if not (entry.name in OURS or _is_cell(entry)):
            raise ExperimentError(
                f"{folder}: --overwrite would delete {entry.name!r}, which is not a cell; "
                "choose another --output"
            )


def _delete(folder: Path, entries: Sequence[Path]) -> None:
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


def _locked(folder: Path) -> Any:
    """A lock that ends with this process; none where the file system knows no locks."""
    if is_remote(folder):
        return None
    lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ExperimentError(
            f"{folder} is in use by another run; wait for it or stop it"
        ) from None
    except NotImplementedError:
        return None
    return lock


def existing_runs(folder: Path, cells: Sequence[Cell]) -> Runs:
    """``run.json`` of every cell that a folder has, if the cells can be continued.

    Raises:
        ExperimentError: a ``run.json`` is damaged, or a cell was begun under other settings.
    """
    runs, damaged = read_runs(folder) if folder.exists() else ({}, {})
    for message in damaged.values():
        raise ExperimentError(message)
    _check_unchanged(folder, cells, runs)
    return runs


def _status(runs: Runs, cell: Cell) -> str | None:
    return runs[cell.name].status if cell.name in runs else None


def _check_unchanged(folder: Path, cells: Sequence[Cell], runs: Runs) -> None:
    """Refuses to go on with cells whose curve began under other settings."""
    changed: dict[str, str] = {}
    for cell in cells:
        run = runs.get(cell.name)
        if run is None:
            continue
        begun = run.checkpoints if is_remote(folder) else checkpoints(folder / cell.name)
        if run.settings and (begun or run.status == "finished"):
            before = {**_DEFAULTS, **run.settings, "environment_spec": run.environment_spec}
            after = cell.settings.of_training() | {"environment_spec": cell.environment_record}
            changes = [
                f"{name} was {before[name]}, is {value}"
                for name, value in after.items()
                if before[name] != value
            ]
            if changes:
                changed[cell.name] = ", ".join(changes)
    if changed:
        name, changes_of_it = next(iter(changed.items()))
        others = f" (and {len(changed) - 1} more cells)" if len(changed) > 1 else ""
        raise ExperimentError(
            f"{folder / name} was run with other settings: {changes_of_it}{others}; "
            "undo the change, give the run another name, or --overwrite"
        )


_DEFAULTS = CellSettings.model_validate({}).of_training()


def _say_what_resumes(folder: Path, cells: Sequence[Cell], runs: Runs, finished: set[str]) -> None:
    try:
        planned = set(json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError):  # an older folder, or a new one
        planned = set(runs)
    names = {cell.name for cell in cells}
    continued = sum(bool(runs[n].checkpoints) for n in names - finished if n in runs)
    print(
        f"resuming: {len(finished)} of {len(cells)} cells are finished already, "
        f"{continued} go on from a checkpoint, {len(cells) - len(finished) - continued} begin"
    )
    if planned and names - planned:
        print(f"new in the file: {_some(names - planned)}")
    if planned - names:
        print(f"no longer in the file, and left as they are: {_some(planned - names)}")
    sys.stdout.flush()


def _some(names: set[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{min(names)}{others}"


def is_throwaway(folder: Path) -> bool:
    """Whether what a folder holds is of a run that said itself that it has no value."""
    try:
        plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        return isinstance(plan, dict) and plan.get("throwaway") is True
    except (OSError, ValueError, RecursionError):
        return False


def _write_plan(folder: Path, experiment: Experiment, cells: Sequence[Cell]) -> None:
    """Lists the cells, so that a later ``--resume`` can say what was added."""
    plan = {"throwaway": experiment.throwaway, "cells": [cell.name for cell in cells]}
    text = json.dumps(plan) + "\n"
    with _disk_errors_explained(folder):
        write_whole(folder / PLAN_FILE, text.encode())


@contextmanager
def _session(experiment: Experiment, cells: Sequence[Cell], address: str | None) -> Iterator[None]:
    """Ray for an experiment: in this process alone, on this machine, or on a cluster."""
    if experiment.in_process:
        helpers = max(cell.settings.env_runners + cell.settings.learners for cell in cells)
        with _ray_session(None, num_cpus=1 + helpers):
            yield
    else:
        with _ray_session(address) as can_grow:
            if not can_grow:
                check_resources(cells)
            yield


@contextmanager
def _ray_session(address: str | None, num_cpus: int | None = None) -> Iterator[bool]:
    """Joins a cluster, or starts Ray on this machine for as long as the context lasts.

    Yields:
        Whether it is a cluster, which may have nodes later that it has not now.
    """
    if os.environ.get("RAY_ADDRESS") == "":
        del os.environ["RAY_ADDRESS"]
    address = address or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield len(ray.nodes()) > 1
        return
    if not sys.stdout.isatty():  # Ray's messages would be coloured in a log, too
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    print(f"joining the Ray cluster at {address}" if address else "starting Ray", flush=True)
    try:
        ray.init(
            address=address,
            num_cpus=None if address else num_cpus,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ExperimentError(
            f"no Ray cluster at {address}: {error}" if address else f"Ray did not start: {error}"
        ) from error
    try:
        yield address is not None
    finally:
        ray.shutdown()
