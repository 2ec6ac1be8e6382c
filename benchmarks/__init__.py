"""Speed and memory, each figure beside what it is compared with, measured in one run."""

from collections.abc import Callable

from benchmarks.grid import grid, wandb
from benchmarks.kernels import learners, matching, processor
from benchmarks.measure import Row
from benchmarks.report import report
from benchmarks.scale import scale
from benchmarks.training import iterations, ppo, reinforce, runner
from benchmarks.updates import local_update, memory

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "runner": runner,
    "reinforce": reinforce,
    "ppo": ppo,
    "iterations": iterations,
    "matching": matching,
    "processor": processor,
    "local_update": local_update,
    "learners": learners,
    "memory": memory,
    "grid": grid,
    "wandb": wandb,
    "scale": scale,
    "report": report,
}

__all__ = ["BENCHMARKS", "Row"]
