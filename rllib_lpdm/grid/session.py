"""Ray for an experiment: in this process alone, on this machine, or on a cluster."""

import atexit
import gc
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from rllib_lpdm.grid import signals
from rllib_lpdm.grid.resources import check_resources, helpers, usable_cpus
from rllib_lpdm.local_learning.kernels import compile_kernels
from rllib_lpdm.schema.experiment import Cell, Experiment
from rllib_lpdm.schema.messages import UserError, one_line

MAX_SOCKET = 103  # bytes of a socket's name, on macOS; Linux takes four more
POLL = 1.0  # seconds between two looks at Ray's processes
SOCKET = "session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # Ray's longest


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
    if address:
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray raises many classes
            raise UserError(f"no Ray cluster at {address}: {one_line(error)}") from error
    else:
        start_ray(num_cpus)
    over = threading.Event()
    if not address:
        threading.Thread(target=_watch_ray, args=(over,), daemon=True).start()
    try:
        yield address is not None
    finally:
        over.set()
        leave_ray()


def _watch_ray(over: threading.Event) -> None:
    """Ends this process, with one line, when the GCS or raylet that it started has ended.

    Ray itself ends it only a minute later, and says nothing of the run. Where a signal has ended
    them, the run ends by that signal.
    """
    node: Any = ray._private.worker._global_node
    while not over.wait(POLL):
        names = [name for name, _ in node.dead_processes() if name in ("gcs_server", "raylet")]
        if names and not over.wait(POLL) and not signals.received:
            print(
                f"\nerror: Ray's {names[0]} has ended, and the run with it; to go on, start it "
                "again with --resume",
                file=sys.stderr,
                flush=True,
            )
            node.kill_all_processes(check_alive=False)
            os._exit(1)  # Ray's own threads would wait for what has ended


def start_ray(num_cpus: int | None = None) -> None:
    """Starts Ray on this machine, quietly and for this process alone.

    Args:
        num_cpus: how many CPUs Ray hands out; None for all that this process may use.

    Raises:
        UserError: Ray did not start.
    """
    # A process for each CPU would load Ray at once, however few are needed.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    parent = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    folder, own = os.path.abspath(os.path.join(parent, "ray")), ""
    try:
        if len(os.fsencode(os.path.join(folder, SOCKET))) > MAX_SOCKET:
            own = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray opens its folder to all users
            folder = os.path.join(own, "ray")
        ray.init(
            address="local",  # else it would join any Ray that runs on this machine
            num_cpus=num_cpus or usable_cpus(),
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=folder,
        )
    except Exception as error:  # Ray raises a bare one after a timeout
        if isinstance(error, OSError) and error.filename:
            way_out = "set RAY_TMPDIR to a folder that can be written"
        else:
            way_out = f"look at the logs in {folder}/session_latest/logs and at the RAY_* variables"
        raise UserError(f"Ray did not start: {one_line(error)}; {way_out}") from error
    if own:  # where Ray does not start, the folder stays with the logs
        atexit.register(shutil.rmtree, own, ignore_errors=True)


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
