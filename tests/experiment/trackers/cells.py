"""Folders of cells that have rows but were never trained."""

import csv
import statistics
import time

from rllib_lpdm.schema.columns import metric_name
from tests.experiment.files import write_run

HEADER = (
    "iteration,env_steps,episodes,episode_return,episode_length,seconds,"
    "distance_loss_1,grad_norm_hidden_1,policy_loss"
)
SETTINGS = {"lr": 0.001, "hidden_sizes": [64, 128]}
PROVENANCE = {"git_commit": "c0ffee", "versions": {"ray": "2.60"}, "hardware": {"cores": 2}}


def make_cell(parent, number=0, **entries):
    """The folder of a cell without rows."""
    folder = parent / f"CartPole-v1_ppo_lpdm_s{number}"
    record = {
        "cell": folder.name,
        "environment": "CartPole-v1",
        "algorithm": "ppo",
        "method": "lpdm",
        "variant": None,
        "seed": number,
        "settings": SETTINGS,
        **PROVENANCE,
        "command": "python -m somewhere --secret",
        "status": "running",
        "run_id": f"{number:08x}",
    }
    write_run(folder, record | entries)
    return folder


def line(iteration, seconds=0.5):
    numbers = [iteration, 10 * iteration, iteration, iteration / 3, iteration / 7, seconds]
    return ",".join(map(str, [*numbers, 1 / iteration, 2 / iteration, -iteration / 9])) + "\n"


def append(folder, first, last, seconds=0.5):
    """Rows first..last, after a header where the file is new."""
    path = folder / "iterations.csv"
    with path.open("a") as file:
        if file.tell() == 0:
            file.write(HEADER + "\n")
        file.writelines(line(iteration, seconds) for iteration in range(first, last + 1))


def cut_back(folder, rows):
    path = folder / "iterations.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: rows + 1]))


def rows_of(folder):
    with (folder / "iterations.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def expected(folder, width=1, budget=None):
    """What W&B shall hold of a cell: (step, values) of each point, which is of `width` rows."""
    logged, rows = [], rows_of(folder)
    for first in range(0, len(rows), width):
        of_point = rows[first : first + width]
        if len(of_point) == width or of_point[-1]["iteration"] == budget:
            logged.append((int(of_point[-1]["iteration"]), _point(of_point)))
    return logged


def _point(rows):
    means = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    means |= {name: rows[-1][name] for name in ("env_steps", "episodes")}
    values = {metric_name(name): value for name, value in means.items()}
    values["speed/steps_per_second"] = 10 * len(rows) / sum(row["seconds"] for row in rows)
    del values["update/iteration"]
    return values


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return value
