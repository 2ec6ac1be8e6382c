"""Ray for an experiment: in this process alone, on this machine, or on a cluster."""

import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray

from rllib_lpdm.experiment.resources import check_resources, helpers
from rllib_lpdm.experiment.spec import Cell, Experiment, ExperimentError
from rllib_lpdm.local_learning.kernels import compile_kernels


@contextmanager
def session(experiment: Experiment, cells: Sequence[Cell], address: str | None) -> Iterator[None]:
    """Ray for an experiment: in this process alone, on this machine, or on a cluster.

    Before it starts, what the cells will load is compiled.
    """
    seconds = compile_kernels()
    if seconds:
        print(f"compiled losses and acting, once on this machine: {seconds:.0f} s", flush=True)
    if experiment.in_process:
        others = max(helpers(cell.settings) for cell in cells)
        with _ray_session(None, num_cpus=1 + others):
            yield
    else:
        with _ray_session(address) as can_grow:
            if not can_grow:
                check_resources(cells)
            yield


@contextmanager
def _ray_session(address: str | None, num_cpus: int | None = None) -> Iterator[bool]:
    """Joins a cluster, or starts Ray on this machine for as long as the context lasts.

    Yields:
        Whether it is a cluster, which may have nodes later that it has not now.
    """
    if os.environ.get("RAY_ADDRESS") == "":
        del os.environ["RAY_ADDRESS"]
    address = address or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield address is not None or len(ray.nodes()) > 1
        return
    if not sys.stdout.isatty():  # Ray's messages would be coloured in a log, too
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    print(f"joining the Ray cluster at {address}" if address else "starting Ray", flush=True)
    try:
        if address:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            start_ray(num_cpus)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ExperimentError(
            f"no Ray cluster at {address}: {error}" if address else f"Ray did not start: {error}"
        ) from error
    try:
        yield address is not None
    finally:
        leave_ray()


def start_ray(num_cpus: int | None = None) -> None:
    """Ray on this machine, for this process alone, and quiet.

    Args:
        num_cpus: that it hands out; None for all.
    """
    # A process for each CPU would load Ray at once, however few are needed.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    ray.init(
        address="local",  # else it would join any Ray that runs on this machine
        num_cpus=num_cpus,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


def leave_ray() -> None:
    """``ray.shutdown()``, during which no thread collects garbage.

    Tune leaves references to Ray's objects in cycles. Where another thread, such as W&B's, collects
    one of them while Ray shuts down, Ray ends this process.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        gc.collect()
    finally:
        try:
            ray.shutdown()
        finally:
            if enabled:
                gc.enable()
