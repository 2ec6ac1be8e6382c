"""What a run leaves, as tests compare it."""

import numpy as np

from tests.experiment.files import read_run


def trace(cell_folder):
    """All that must not depend on what happened on the way: rows without `seconds`, weights."""
    header, *rows = [
        line.split(",") for line in (cell_folder / "iterations.csv").read_text().splitlines()
    ]
    seconds = header.index("seconds")
    curve = [row[:seconds] + row[seconds + 1 :] for row in [header, *rows]]
    weights = {
        (file.parent.name, name): array.tobytes()
        for file in cell_folder.glob("checkpoints/*/weights.npz")
        for name, array in np.load(file).items()
    }
    assert weights
    return curve, weights


def progress_of(cell_folder):
    """Iteration of the newest checkpoint, 0 without one."""
    names = [path.name for path in cell_folder.glob("checkpoints/iteration_*")]
    return max((int(name.removeprefix("iteration_")) for name in names), default=0)


def status(cell_folder):
    run = read_run(cell_folder)
    return run and run["status"]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
