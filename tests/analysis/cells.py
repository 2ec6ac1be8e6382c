"""Cells made for a test: as objects, and as folders."""

import json

import numpy as np

from rllib_lpdm.analysis.cells import CellResult
from rllib_lpdm.results.record import RunRecord


def record(**run):
    """What ``run.json`` says of a finished cell, with some entries of its own."""
    place = {"environment": "CartPole-v1", "algorithm": "ppo", "method": "bp", "variant": None}
    run = {**place, "seed": 0, "status": "finished", **run}
    names = [run[key] for key in place if run[key]]
    return {"cell": "_".join([*names, f"s{run['seed']}"]), **run}


def cell(returns, columns=None, **run):
    """A cell with these returns, and with more columns by their names."""
    columns = {"episode_return": returns} | (columns or {})
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    return CellResult(RunRecord(**record(**run)), arrays)


def seeds(runs, **run):
    """Cells that differ by their seed, one for each run's returns."""
    return [cell(returns, seed=seed, **run) for seed, returns in enumerate(runs)]


def write_cell(folder, returns=(1.0, 2.0), **run):
    """The folder of a cell, which is named like the cell."""
    content = record(**run)
    path = folder / content["cell"]
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    rows = "".join(f"{i},{10 * i},{value!r}\n" for i, value in enumerate(returns, 1))
    header = "iteration,env_steps,episode_return\n"
    (path / "iterations.csv").write_text(header + rows, encoding="utf-8")
    return path


def write_plan(folder, *names):
    """The names of the planned cells: those in the folder, and more."""
    cells = [*(path.name for path in folder.iterdir() if path.is_dir()), *names]
    (folder / ".experiment.json").write_text(json.dumps({"cells": cells}), encoding="utf-8")
