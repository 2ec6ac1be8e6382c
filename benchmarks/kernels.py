"""Local losses by numba: against torch, against the processor, and shared by two processes."""

import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import CORES, Row, compare
from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.local_learning import LayerAdam, LocalMLP
from rllib_lpdm.local_learning.kernels.compilation import wide_vectors
from rllib_lpdm.local_learning.kernels.kernel_matching import KernelMatching
from rllib_lpdm.local_learning.pair_matching import Matching, TorchMatching
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, Shards, WholeBatch

ROWS = (64, 128, 500, 1000, 2000)
WIDTHS = (64, 128, 256)
ENTRIES_A_ROUND = 2**22  # of distance matrices
# Of each of the N^2 d entries: a difference, its absolute value and their sum, for half of the
# pairs; for the gradient a comparison and a sum, for all.
OPERATIONS = 3 / 2 + 2
LANES, TERMS, TIMES = 1024, 8, 20_000
INPUTS = 17
SHARED_ROWS, SHARED_UPDATES, SHARED_ROUNDS = 2048, 3, 7


def matching() -> list[Row]:
    """Distances, loss and gradient of one layer's outputs, by numba against torch."""
    reference = TorchMatching("l1", None, WHOLE_BATCH)
    return [
        compare(
            "matching",
            case(len(inputs), outputs.shape[1]),
            functools.partial(_microseconds, kernel, inputs, outputs),
            functools.partial(_microseconds, reference, inputs, outputs),
            compared_with="the same in torch",
            unit="us",
            at_most=0.4,
        )
        for kernel, inputs, outputs in _layers()
    ]


def processor() -> list[Row]:
    """The same against what their operations cost at least, as fast as this core adds numbers."""
    return [
        compare(
            "processor",
            case(len(inputs), outputs.shape[1]),
            functools.partial(_microseconds, kernel, inputs, outputs),
            functools.partial(_limit, *outputs.shape),
            compared_with="its operations alone",
            unit="us",
        )
        for kernel, inputs, outputs in _layers()
    ]


def case(rows: int, units: int) -> str:
    """What a row of either table is called."""
    return f"{rows} rows, {units} units"


def _layers() -> Iterator[tuple[KernelMatching, torch.Tensor, torch.Tensor]]:
    """Inputs (N, 17) and outputs (N, d)."""
    for count in ROWS:
        inputs = torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(count))
        kernel = KernelMatching(count, None, WHOLE_BATCH)
        for width in WIDTHS:
            yield kernel, inputs, torch.tanh(inputs @ torch.randn(INPUTS, width) / INPUTS**0.5)


def _limit(rows: int, units: int) -> float:
    """Microseconds of a matching's operations at the rate of additions in registers."""
    sums, terms = np.zeros(LANES, np.float32), np.ones(TERMS, np.float32)
    add_up(sums, terms, 1)
    started = time.process_time()
    add_up(sums, terms, TIMES)
    rate = LANES * TERMS * TIMES / (time.process_time() - started)
    return 1e6 * OPERATIONS * rows**2 * units / rate


@numba.njit  # type: ignore[untyped-decorator]
def add_up(sums: NDArray[np.float32], terms: NDArray[np.float32], times: int) -> None:
    """Adds all of the terms to every sum, a number of times."""
    wide_vectors()
    for _ in range(times):
        for lane in range(LANES):
            total = sums[lane]
            for k in range(TERMS):
                total += terms[k]
            sums[lane] = total


def _microseconds(matching: Matching, inputs: torch.Tensor, outputs: torch.Tensor) -> float:
    """Of one matching, on average."""
    repetitions = max(1, ENTRIES_A_ROUND // len(inputs) ** 2)
    with single_threaded(), torch.inference_mode():
        target = matching.target(inputs, None)
        started = time.process_time()
        for _ in range(repetitions):
            matching.step(outputs, target, False, False)
        return 1e6 * (time.process_time() - started) / repetitions


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
            core = CORES[rank % len(CORES)]
            arguments = theirs, rank, processes, self._folder.name, core
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


def _serve(pipe: Any, rank: int, processes: int, folder: str, core: int) -> None:
    if hasattr(os, "sched_setaffinity"):  # the benchmark's own process keeps to one core
        os.sched_setaffinity(0, {core})
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
