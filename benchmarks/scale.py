"""What the driver of a thousand cells at once spends, and how many cells one driver carries.

The cells are calls that wait in one process, where real ones would train in a thousand; to the
driver they look the same. Rows are written and logged as of real cells, of a few at once.
"""

import asyncio
import contextlib
import io
import os
import random
import re
import time
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray.tune.execution.class_cache import _ActorClassCache

from benchmarks.grid import grid_of, logged
from benchmarks.measure import Row, against_limit
from rllib_lpdm.grid.progress import Progress
from rllib_lpdm.grid.queue import TrialWatch
from rllib_lpdm.grid.resources import REPORTS
from rllib_lpdm.grid.trackers.follower import CellFollower
from rllib_lpdm.grid.trials import run_trials
from rllib_lpdm.schema.experiment import Cell

CELLS = 1000
HOUR = 3600.0  # that a cell lasts
ROWS, POINTS = 10_000, 1000  # that it writes, and that W&B gets
SETTLE, WINDOW = 5.0, 30.0  # seconds
SHARE = 0.5  # of a core that a driver may take, so that no cell waits long for its answer


class _Host:
    """All cells: a report comes after a while, each cell's at its own time."""

    def __init__(self, interval: float) -> None:
        self._interval, self._over = interval, asyncio.Event()

    async def train(self) -> dict[str, Any]:
        counts = dict.fromkeys(("iterations", "env_steps", "new_iterations", "new_env_steps"), 1)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), random.uniform(0, 2 * self._interval))
        return {**counts, "score": 0.0, "seconds": 1.0, "done": self._over.is_set()}

    async def end(self) -> None:
        self._over.set()

    async def reset(self, *args: Any, **kwargs: Any) -> bool:
        return True

    async def stop(self) -> None:
        """Others are still at work."""

    async def get_auto_filled_metrics(self, **kwargs: Any) -> dict[str, Any]:
        return {}


class _Class:
    """To Tune the class of a trial's actor, which is always the host."""

    __class__ = ray.actor.ActorClass

    def __init__(self, host: Any) -> None:
        self._host = host

    def options(self, **kwargs: Any) -> "_Class":
        return self

    def remote(self, **kwargs: Any) -> Any:
        return self._host


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watch(TrialWatch):
    """Measures the driver for a while after all cells have begun, then has them end.

    Attributes:
        core: the share of a core that was used.
        memory: MiB of the driver and the services that it started.
        rate: reports a second.
        spent: CPU seconds before and after.
    """

    def __init__(
        self,
        cells: list[Cell],
        job: dict[str, Any],
        progress: Progress,
        host: Any,
        window: float,
    ) -> None:
        super().__init__(cells, job, progress, CellFollower(None))
        self._host, self._window = host, window
        self._waiting, self._reports = len(cells), 0
        self._began: tuple[float, float, int] | None = None
        self._settled = float("inf")
        self.core = self.rate = self.memory = 0.0
        self.spent = -time.process_time()

    def on_trial_start(self, *args: Any, **info: Any) -> None:
        super().on_trial_start(*args, **info)
        self._waiting -= 1
        if not self._waiting:
            self._settled = time.monotonic() + SETTLE

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        super().on_trial_result(*args, **info)
        self._reports += 1

    def on_step_end(self, *args: Any, **info: Any) -> None:
        super().on_step_end(*args, **info)
        now, used = time.monotonic(), time.process_time()
        if self._began is None and now > self._settled:
            self._began = now, used, self._reports
            self.spent += used
        elif self._began is not None and not self.rate and now > self._began[0] + self._window:
            began, before, reports = self._began
            self.core = (used - before) / (now - began)
            self.rate = (self._reports - reports) / (now - began)
            self.spent -= used
            self.memory = resident()
            self._host.end.remote()


def resident() -> float:
    """MiB of this process and its children, such as Ray's GCS and raylet; Linux only, else 0."""
    kilobytes, own = 0, str(os.getpid())
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # the process has ended
            fields = dict(re.findall(r"^(Pid|PPid|VmRSS):\s+(\d+)", status.read_text(), re.M))
            if own in (fields["Pid"], fields["PPid"]):
                kilobytes += int(fields.get("VmRSS", 0))
    return kilobytes / 1024


def scale(cells: int = CELLS) -> list[Row]:
    """Costs of a report, a cell and a row, the driver's load and memory, the cells it carries."""
    usual, often = steady(cells, cells / REPORTS), steady(cells, cells / REPORTS / 5)
    report = (often.core - usual.core) / (often.rate - usual.rate)
    cell = usual.spent / cells
    run, row, point = _logging()
    core = usual.core + cells / HOUR * (cell + run + ROWS * row + POINTS * point)
    carried = SHARE / core * cells
    at_once = f"{cells:,} at once"
    return [
        _limited(f"a report, {at_once}", 1000 * report, 5.0, "ms"),
        _limited(f"a cell, {at_once}", 1000 * cell, 10.0, "ms"),
        _limited("a row that is read", 1000 * row, 0.05, "ms"),
        _limited("a point in W&B", 1000 * point, 0.2, "ms"),
        _limited("a run in W&B", 1000 * run, 100.0, "ms"),
        against_limit(
            "scale", f"memory, {at_once}", usual.memory, 2048.0,
            compared_with="the limit, driver, GCS, raylet", unit="MiB",
        ),
        _limited(f"reports of {at_once}", usual.core, 0.2, "core"),
        _limited(f"cells of an hour, {at_once}", core, 0.2, "core"),
        Row(
            "scale", f"cells of an hour, {SHARE} core", carried, 2000.0, "the least that is asked",
            "cells", carried / 2000, ">= 1", carried >= 2000,
        ),
    ]  # fmt: skip


def steady(cells: int, interval: float, window: float = WINDOW) -> Watch:
    """The driver while so many cells report, each so many seconds after its last report."""
    host = ray.remote(_Host).options(num_cpus=0, max_concurrency=2 * cells).remote(interval)
    all_cells = grid_of(cells, cpus=1e-4)
    job = {"cells": {c.name: c for c in all_cells}, "folder": Path("nowhere")}
    progress = Progress(all_cells, {}, stream=_Terminal())
    with mock.patch.object(_ActorClassCache, "get", return_value=_Class(host)):
        watch = Watch(all_cells, job, progress, host, window)
        with progress:
            run_trials(job, watch)
    watch.spent += time.process_time()
    ray.kill(host)
    if len(watch.ended) != cells:
        raise RuntimeError(f"{cells - len(watch.ended)} of {cells} cells did not end")
    return watch


def _logging() -> tuple[float, float, float]:
    """CPU seconds of the driver for a run in W&B, a row that it reads, and a point that it logs."""
    width = ROWS // POINTS
    run, every_row = logged()
    _, of_many = logged(width=width)
    point = (every_row - of_many) / (1 - 1 / width)
    return run, every_row - point, point


def _limited(case: str, figure: float, limit: float, unit: str) -> Row:
    compared_with = "the limit, CPU time of the driver"
    return against_limit("scale", case, figure, limit, compared_with=compared_with, unit=unit)
