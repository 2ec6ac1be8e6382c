"""The report of the paper's whole grid: how long it takes on two cores, and how much memory."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.measure import CORES, Row, against_limit
from rllib_lpdm.grid.cell import new_record
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.methods import METHODS
from rllib_lpdm.results.layout import ITERATIONS_FILE, REPORT_FOLDER
from rllib_lpdm.results.paper import published
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.columns import column
from rllib_lpdm.schema.experiment import Cell

ITERATIONS = 5000
SEEDS = 10
LAYERS = 3


def report(iterations: int = ITERATIONS, seeds: int = SEEDS) -> list[Row]:
    """Makes up the files of a finished grid, 720 cells, and runs the report's command on them."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "grid"
        _write_grid(folder, iterations, seeds)
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "rllib_lpdm.report", str(folder), "--paper"],
            stdout=subprocess.DEVNULL,
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, CORES[:2])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status or not (folder / REPORT_FOLDER / "index.html").is_file():
            raise RuntimeError(f"the report ended with status {os.waitstatus_to_exitcode(status)}")
    cells = len(published()) * seeds
    case = f"{cells} cells x {iterations} iterations"
    figures = ((seconds, 60, "s"), (usage.ru_maxrss / 1024, 2048, "MiB"))
    return [
        against_limit(
            "report", case, figure, limit, compared_with="the limit, on two cores", unit=unit
        )
        for figure, limit, unit in figures
    ]


def _write_grid(folder: Path, iterations: int, seeds: int) -> None:
    """Files of the size and shape of a real grid's; every curve is its own random walk."""
    settings = CellSettings.model_validate({"iterations": iterations})
    random = np.random.default_rng(0)
    names = []
    for environment, algorithm, method in published():
        for seed in range(seeds):
            cell = Cell(environment, algorithm, method, seed, settings)
            record = new_record(cell, None, "made up", "")
            record = record.updated(**provenance(), status="finished")
            names.append(cell.name)
            record.write(folder / cell.name)
            table = pa.table(_columns(random, iterations, method))
            pa.csv.write_csv(
                table,
                folder / cell.name / ITERATIONS_FILE,
                pa.csv.WriteOptions(quoting_style="none"),
            )
    Plan(names).write(folder)


def _columns(random: np.random.Generator, iterations: int, method: str) -> dict[str, object]:
    lengths = random.integers(20, 500, iterations)
    of_layers = ["grad_norm_hidden"]
    if METHODS[method].matches_distances:
        of_layers += ["distance_loss", "distance_error"]
    names = [column(metric, layer) for metric in of_layers for layer in range(1, LAYERS + 1)]
    names += ["grad_norm_policy_head", "grad_norm_value_head", "policy_loss", "value_loss", "kl"]
    return {
        "iteration": np.arange(1, iterations + 1),
        "env_steps": lengths.cumsum(),
        "episodes": np.arange(1, iterations + 1),
        "episode_return": random.normal(0.1, 5, iterations).cumsum(),
        "episode_length": lengths.astype(float),
        "seconds": random.exponential(0.01, iterations),
        "skipped_steps": np.zeros(iterations),
        **{name: random.exponential(1, iterations) for name in names},
    }
