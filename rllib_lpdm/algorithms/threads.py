"""One thread for numpy and torch, whatever process a cell runs in."""

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def single_threaded() -> AbstractContextManager[Any]:
    """Context in which BLAS and OpenMP use one thread, as they do in Ray's workers.

    The work of a cell is too small for more, and the order of floating-point sums, so the last bits
    of a run, would depend on the number of threads.
    """
    limit: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limit


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
