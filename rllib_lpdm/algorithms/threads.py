"""One thread for numpy and torch, in every process that a cell runs in."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController

_controller = functools.cache(ThreadpoolController)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Context in which BLAS and OpenMP use one thread, as they do in Ray's workers.

    The work of a cell is too small for more threads. Their number would change the order of
    floating-point sums, and so the last bits of a run.
    """
    before = torch.get_num_threads()
    if before != 1:  # torch's own BLAS, which the controller does not see, follows torch only
        torch.set_num_threads(1)
    try:
        with _controller().limit(limits=1):
            yield
    finally:
        if before != 1:
            torch.set_num_threads(before)
