"""What a cell's processes reserve of a machine or a cluster."""

import functools
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from rllib_lpdm.schema.cell_settings import RunSettings
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, figure

REPORTS = 20.0  # a second, of all cells together
REFRESH = 60.0  # seconds for which the cluster's size is taken as known


def usable_cpus(root: Path = Path("/")) -> int:
    """Counts the CPUs that this process may use; at least one.

    ``taskset``, a control group's quota or Slurm may allow fewer than the machine has.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
    """
    allowed = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0))
    limits = [float(allowed or os.cpu_count() or 1), *_quotas(root)]
    task = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if task.isdecimal():
        limits.append(int(task))
    return max(1, int(min(limits)))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs' time that the control groups of this process may use, where they have a limit."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # there is none on macOS
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        below = top / path.lstrip("/")
        for folder in (below, *below.parents[: len(below.parts) - len(top.parts)]):
            try:
                if controllers:
                    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    quota, period = (float((folder / name).read_text()) for name in names)
                else:
                    quota, period = map(float, (folder / "cpu.max").read_text().split())
            except (OSError, ValueError):  # no such group in this container, or no limit
                continue
            if quota > 0 and period > 0:
                yield quota / period


def check_resources(cells: Sequence[Cell]) -> None:
    """Refuses cells that this machine cannot hold.

    Raises:
        UserError: names the setting.
    """
    largest = max(cells, key=lambda cell: cell.settings.cpus + helpers(cell.settings))
    settings = largest.settings
    needed = settings.cpus + helpers(settings)
    available = ray.cluster_resources().get("CPU", 0)
    if needed > available:
        name = max(("env_runners", "learners"), key=lambda name: int(getattr(settings, name)))
        name = "cpus" if settings.cpus > available else name
        raise UserError(
            f"settings.{name}: {largest.name} needs {figure(needed, 15)} CPUs, "
            f"{figure(settings.cpus, 15)} for itself and one for each runner and learner, but "
            f"there are {available:.0f}"
        )
    for cell in cells:
        if cell.settings.placement == "STRICT_SPREAD" and helpers(cell.settings):
            raise UserError(
                f"settings.placement: {cell.name}: STRICT_SPREAD puts every process on a node of "
                "its own, and there is one node"
            )


def report_interval(cell: Cell, job: dict[str, Any]) -> float:
    """Seconds between two reports of a cell, so that all at once make REPORTS a second.

    A cell does not know how many run beside it: it takes as many as would find room if all were
    like it.

    Args:
        cell: the cell.
        job: what all cells share: ``cells``, and ``max_concurrent`` if that is limited.
    """
    places = _cpus(int(time.monotonic() // REFRESH)) / (cell.settings.cpus + helpers(cell.settings))
    return min(len(job["cells"]), places, job.get("max_concurrent") or math.inf) / REPORTS


@functools.lru_cache(maxsize=1)
def _cpus(period: int) -> float:
    """Of the cluster, which may have grown in every new period."""
    return float(ray.cluster_resources().get("CPU", 0))


def helpers(settings: RunSettings) -> int:
    """Processes of a cell beside its own."""
    return settings.env_runners + settings.learners


@functools.cache
def _bundles(cpus: float, helpers: int, placement: str) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory(
        [{"CPU": cpus}, *[{"CPU": 1.0}] * helpers], strategy=placement
    )


def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """One bundle for a cell's process, and one CPU for each of its remote runners and learners."""
    return _bundles(*config["cell"]["resources"])
