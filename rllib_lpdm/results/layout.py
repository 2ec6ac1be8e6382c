"""Names of the files and folders of an experiment and of its cells.

::

    <output>/<experiment>/            .experiment.json, .lock, report/, wandb/
                                      of a search also search.json, tuned.yaml
    <output>/<experiment>/<cell>/     run.json, iterations.csv, tensorboard/
        checkpoints/iteration_00000100/weights.npz
"""

import re
from pathlib import Path

RUN_FILE, ITERATIONS_FILE, CHECKPOINTS, TENSORBOARD = (
    *("run.json", "iterations.csv", "checkpoints", "tensorboard"),
)
WEIGHTS_FILE = "weights.npz"  # of a checkpoint
# beside the cells
PLAN_FILE, LOCK_FILE, REPORT_FOLDER, WANDB = ".experiment.json", ".lock", "report", "wandb"
# in place of the cells' folders where they are published
PUBLISHED_RUNS, PUBLISHED_SCORES, PUBLISHED_VERSIONS, PUBLISHED_SUMS, PUBLISHED_CURVES = (
    *("runs.jsonl", "scores.csv", "versions.txt", "SHA256SUMS", "curves"),
)
SEARCH_FILE, TUNED_FILE = "search.json", "tuned.yaml"
MIB = 2**20
# A file that is longer is not read. These are far above what the largest runs write.
MOST_BYTES = {
    RUN_FILE: 16 * MIB,
    PLAN_FILE: 64 * MIB,
    SEARCH_FILE: 256 * MIB,
    ITERATIONS_FILE: 512 * MIB,
    WEIGHTS_FILE: 2048 * MIB,
    PUBLISHED_RUNS: 512 * MIB,
    PUBLISHED_CURVES: 1024 * MIB,  # of one environment
}


def checkpoint_name(iteration: int) -> str:
    """The folder of the checkpoint after an iteration, counted from 1."""
    return f"iteration_{iteration:08d}"


def checkpoint_iteration(path: Path | str) -> int | None:
    """The iteration of a checkpoint's folder; None for a name that is no checkpoint's."""
    name = path if isinstance(path, str) else path.name
    found = re.fullmatch(r"iteration_([0-9]{8,})", name)
    return int(found[1]) if found else None


def cell_folders(folder: Path) -> list[Path]:
    """The folders in an experiment's folder that hold a ``run.json``, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))
