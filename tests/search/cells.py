"""Searches whose cells' folders are written by hand, from made-up curves."""

import json

import numpy as np

from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.searches import outcome
from rllib_lpdm.searches.generations import SearchSchedule
from rllib_lpdm.searches.search_run import run_search
from rllib_lpdm.searches.studies import Search
from tests.experiment.files import write

SPACE = {
    "lr": {"log": [1e-5, 1e-1]},
    "grad_clip": {"choice": [0.1, 0.5, None]},
}
SECTION = {"configurations": 8, "seeds": [1000, 1001], "space": SPACE}


def search_file(folder, section=None, /, **entries):
    """An experiment file with a search, some of whose entries are a test's own."""
    entries = {
        "algorithms": ["reinforce"],
        "settings": {"iterations": 100, "hidden_sizes": [4]},
        **entries,
    }
    return write(folder, "search.yaml", search=SECTION | (section or {}), **entries)


def load(folder, section=None, changes=(), /, **entries):
    return Search.of(load_experiment(search_file(folder, section, **entries), changes))


def end(folder, cell, curve, most=None):
    """Writes the folder of a cell that has ended; of one whose curve is None, of a failed one.

    Args:
        curve: takes the cell and the iterations, from 1, and gives the returns.
        most: iterations after which it was killed, at a checkpoint.
    """
    wanted = cell.settings.iterations
    done = wanted if most is None else min(most, wanted)
    returns = curve(cell, np.arange(1, done + 1))
    failed = returns is None
    path = folder / cell.name
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob("checkpoints/*"):
        old.rmdir()
    if not failed:
        rows = "".join(
            f"{i},{10 * i},{value!r},0.5\n" for i, value in enumerate(returns.tolist(), 1)
        )
        header = "iteration,env_steps,episode_return,seconds\n"
        (path / "iterations.csv").write_text(header + rows, encoding="utf-8")
        (path / "checkpoints" / f"iteration_{done:08d}").mkdir(parents=True)
    content = {
        "cell": cell.name,
        "environment": cell.environment,
        "algorithm": cell.algorithm,
        "method": cell.method,
        "seed": cell.seed,
        "variant": cell.variant,
        "settings": cell.settings.model_dump(mode="json"),
        "checkpoints": [] if failed else [f"iteration_{done:08d}"],
        "status": "failed" if failed else "finished" if done == wanted else "running",
        "error": "Boom: it broke" if failed else None,
    }
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")


def played(search, output, curve):
    """A search whose cells all end as a curve says; what it found."""
    schedule = SearchSchedule(search, output / search.experiment.name)
    for generation in schedule.generations():
        for cell in generation.cells:
            end(schedule.folder, cell, curve)
    return outcome.write(schedule)


def found(search, output):
    """What the command's own run says of cells that have all finished, without Ray."""
    _, record = run_search(search, output, resume=True)
    return record


def peak(cell, iterations, at=1e-3):
    """Returns that are the higher the nearer the learning rate is to the best one."""
    height = 100 - 10 * abs(np.log10(cell.settings.lr / at))
    return np.full(len(iterations), height) + cell.seed % 10 / 1e6
