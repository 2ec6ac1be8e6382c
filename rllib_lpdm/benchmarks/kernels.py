"""Local losses by numba: against torch, and shared by two processes."""

import functools
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.benchmarks.measure import Row, compare
from rllib_lpdm.local_learning import LayerAdam, LocalMLP
from rllib_lpdm.local_learning.distances import metric_of
from rllib_lpdm.local_learning.kernels.matching import KernelMatching
from rllib_lpdm.local_learning.matching import Matching, TorchMatching
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, Shards, WholeBatch

ROWS = (64, 128, 500, 1000, 2000)
WIDTHS = (64, 128, 256)
ENTRIES_A_ROUND = 2**22  # of distance matrices
INPUTS = 17
SHARED_ROWS, SHARED_UPDATES, SHARED_ROUNDS = 2048, 3, 7


def matching() -> list[Row]:
    """Distances, loss and gradient of one layer's outputs, by numba against torch."""
    rows = []
    for count in ROWS:
        inputs = torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(count))
        kernel = KernelMatching(count, None, WHOLE_BATCH)
        reference = TorchMatching(metric_of("l1"), "l1", None, WHOLE_BATCH)
        for width in WIDTHS:
            outputs = torch.tanh(inputs @ torch.randn(INPUTS, width) / math.sqrt(INPUTS))
            rows.append(
                compare(
                    "matching",
                    f"{count} rows, {width} units",
                    functools.partial(_microseconds, kernel, inputs, outputs),
                    functools.partial(_microseconds, reference, inputs, outputs),
                    compared_with="the same in torch",
                    unit="us",
                    at_most=0.4,
                )
            )
    return rows


def _microseconds(matching: Matching, inputs: torch.Tensor, outputs: torch.Tensor) -> float:
    """Of one matching, on average."""
    repetitions = max(1, ENTRIES_A_ROUND // len(inputs) ** 2)
    with single_threaded(), torch.inference_mode():
        target = matching.target(inputs, None)
        started = time.perf_counter()
        for _ in range(repetitions):
            matching.step(outputs, target, False, False)
        return 1e6 * (time.perf_counter() - started) / repetitions


def learners() -> list[Row]:
    """Updates of hidden layers from 2048 rows by two processes, a core each, against one."""
    with _Updates(1) as alone, _Updates(2) as together:
        return [
            compare(
                "learners",
                f"{SHARED_ROWS} rows, two learners",
                together.measure,
                alone.measure,
                compared_with="one learner",
                unit="ms",
                at_most=0.65,
                rounds=SHARED_ROUNDS,
            )
        ]


class _Updates:
    """Processes that share the updates of some layers, and wait in between."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes, self._processes = [], []
        for rank in range(processes):
            ours, theirs = context.Pipe()
            arguments = theirs, rank, processes, self._folder.name
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "_Updates":
        return self

    def measure(self) -> float:
        """Milliseconds an update, of the slowest process."""
        for pipe in self._pipes:
            pipe.send(True)
        return max(pipe.recv() for pipe in self._pipes)

    def __exit__(self, *exception: object) -> None:
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()
        self._folder.cleanup()


def _serve(pipe: Any, rank: int, processes: int, folder: str) -> None:
    if hasattr(os, "sched_setaffinity"):  # the benchmark's own process keeps to one core
        os.sched_setaffinity(0, {rank % (os.cpu_count() or 1)})
    torch.set_num_threads(1)
    shards: WholeBatch = WHOLE_BATCH
    if processes > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes
        )
        shards = Shards()
    torch.manual_seed(0)
    network = LocalMLP(INPUTS, (64, 128, 256))
    optimizers = [LayerAdam(layer.parameters(), lr=3e-4) for layer in network.layers]
    observations = torch.randn(SHARED_ROWS, INPUTS)
    update: Callable[[], Any] = functools.partial(
        network.learn, observations, optimizers, max_gradient_norm=0.5, shards=shards
    )
    while pipe.recv():
        seconds = []
        for _ in range(SHARED_UPDATES):
            started = time.perf_counter()
            update()
            seconds.append(time.perf_counter() - started)
        pipe.send(1e3 * statistics.median(seconds))
    if processes > 1:
        torch.distributed.destroy_process_group()
