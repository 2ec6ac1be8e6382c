"""Speed and memory, each figure beside what it is compared with, measured in one run."""

from collections.abc import Callable

from rllib_lpdm.benchmarks.grid import grid, wandb
from rllib_lpdm.benchmarks.kernels import learners, matching, processor
from rllib_lpdm.benchmarks.measure import Row
from rllib_lpdm.benchmarks.report import report
from rllib_lpdm.benchmarks.scale import scale
from rllib_lpdm.benchmarks.training import iterations, ppo, reinforce, runner
from rllib_lpdm.benchmarks.updates import local_update, memory

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
