"""What the driver of a grid spends on a cell, however long the cell itself takes."""

import io
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

from benchmarks.measure import Row, against_limit
from rllib_lpdm.grid.cell import new_record
from rllib_lpdm.grid.progress import Progress
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.grid.queue import TrialWatch
from rllib_lpdm.grid.trackers.follower import CellFollower, wandb_follower
from rllib_lpdm.grid.trials import run_trials
from rllib_lpdm.results.iterations import IterationWriter
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.columns import column
from rllib_lpdm.schema.environments import EnvironmentSpec
from rllib_lpdm.schema.experiment import Cell, Experiment

CELLS = 10_000


class _Stub(tune.Trainable):
    """A cell that is over at once."""

    def setup(self, config: dict[str, Any], job: dict[str, Any]) -> None:
        pass

    def step(self) -> dict[str, Any]:
        counts = dict.fromkeys(("iterations", "env_steps", "new_iterations", "new_env_steps"), 1)
        return {**counts, "score": 0.0, "seconds": 0.0, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        metrics.pop("config", None)
        return metrics


ENVIRONMENTS = ("Hopper", "Walker2d", "Ant", "Pusher")


def grid(cells: int = CELLS) -> list[Row]:
    """Expands an experiment, and runs its cells under Tune with a stub in the cells' place."""
    started = time.process_time()
    all_cells = grid_of(cells)
    job = {
        "cells": {cell.name: cell for cell in all_cells},
        "folder": Path("nowhere"),
        "command": "",
        "session": "",
    }
    progress = Progress(all_cells, {}, stream=io.StringIO())
    watch = TrialWatch(all_cells, job, progress, CellFollower(None))
    run_trials(job, watch, trainable=_Stub)
    if len(watch.ended) != cells:
        raise RuntimeError(f"{cells - len(watch.ended)} of {cells} stubs did not end")
    milliseconds = 1000 * (time.process_time() - started) / cells
    return [_of_driver("grid", f"{cells:,} cells", milliseconds, 10.0, "ms/cell")]


def grid_of(count: int, **settings: Any) -> list[Cell]:
    """So many cells of one iteration, of several environments, algorithms and methods."""
    experiment = Experiment(
        name="grid",
        environments=tuple(EnvironmentSpec(id=f"{name}-v4") for name in ENVIRONMENTS),
        algorithms=("reinforce", "ppo"),
        methods=("bp", "lpdm"),
        seeds=tuple(range(-(-count // 16))),
        changes={"iterations": 1, **settings},
    )
    return experiment.cells()[:count]


def wandb(cells: int = 20) -> list[Row]:
    """Logs rows of many cells at once to W&B's offline files, through the real client."""
    _, row = logged(cells)
    return [_of_driver("wandb", f"{cells} runs at once, offline", 1000 * row, 1.0, "ms/row")]


def logged(cells: int = 20, reports: int = 20, width: int = 1) -> tuple[float, float]:
    """Logs rows of many cells at once to W&B's offline files, through the real client.

    Args:
        cells: how many.
        reports: by which their rows come.
        width: rows that make a point in W&B.

    Returns:
        CPU seconds of this process for a run, and for a row of it.
    """
    per_report = 25
    rows = per_report * (reports + 1)
    settings = {"iterations": rows, "wandb_points": -(-rows // width)}
    with tempfile.TemporaryDirectory() as directory:
        folders = [_written_cell(Path(directory) / f"cell{k}", k, settings) for k in range(cells)]
        sink = wandb_follower("offline", Path(directory), "benchmark")
        opened = (0, 0.0)
        for report in range(reports + 1):
            for folder, log in folders:
                log.append([_row(report * per_report + i + 1) for i in range(per_report)])
                sink.update(folder)
            if not sink.wait(120):
                raise RuntimeError(f"W&B has {sink.rows} rows after two minutes")
            if report == 0:  # opening the runs is not a matter of rows
                opened = (sink.rows, sink.cpu_seconds)
        before_end = sink.cpu_seconds
        row = (before_end - opened[1]) / (sink.rows - opened[0])
        for folder, log in folders:
            sink.finish(folder, failed=False)
            log.close()
        sink.wait(120)
        sink.close()
    of_runs = sink.cpu_seconds - before_end + opened[1] - opened[0] * row
    return of_runs / cells, row


def _written_cell(
    folder: Path, seed: int, settings: dict[str, int]
) -> tuple[Path, IterationWriter]:
    cell = Cell("Hopper-v4", "ppo", "lpdm", seed, CellSettings.model_validate(settings))
    new_record(cell, None, "", "").updated(**provenance()).write(folder)
    return folder, IterationWriter(folder)


def _row(iteration: int) -> dict[str, float]:
    parts = ("hidden_1", "hidden_2", "hidden_3", "policy_head", "value_head")
    return {
        **dict.fromkeys(("iteration", "env_steps", "episodes"), iteration),
        **{name: math.sin(iteration) for name in ("episode_return", "episode_length", "seconds")},
        **{column("distance_loss", k): math.cos(iteration + k) for k in (1, 2, 3)},
        **{column("distance_error", k): math.cos(iteration - k) for k in (1, 2, 3)},
        **{f"grad_norm_{part}": math.exp(-iteration) for part in parts},
        **dict.fromkeys(("policy_loss", "value_loss", "kl", "skipped_steps"), 1 / iteration),
    }


def _of_driver(benchmark: str, case: str, figure: float, limit: float, unit: str) -> Row:
    compared_with = "the limit, CPU time of the driver"
    return against_limit(benchmark, case, figure, limit, compared_with=compared_with, unit=unit)
