"""The compilation of kernels: once, before they run, and kept on disk where there is room."""

import time
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

_entries: Final[list[tuple[Any, str]]] = []
_ready = False


def jit(function: Callable[..., Any]) -> Any:
    """Compiles a function by numba, with numpy's division and without Python's lock."""
    return numba.njit(error_model="numpy", nogil=True)(function)


def kernel(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorates a function that Python calls; the functions that it calls need :func:`jit`.

    Args:
        signature: the types of result and arguments, as numba writes them.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = jit(function)
        _entries.append((compiled, signature))
        return compiled

    return decorate


@intrinsic  # type: ignore[untyped-decorator]
def wide_vectors(typing_context: Any) -> Any:
    """Asks for vectors of 512 bits in the function that calls it, where the processor has them.

    On many processors LLVM takes half as wide ones, because the few wide instructions of ordinary
    programs slow these down. These loops become up to a third faster, with the same results.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@jit
def room(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns a new array, not filled, at an address where a line of the cache begins.

    A vector of 512 bits is one such line. At any other address it would be read from two.
    """
    count = 1
    for size in shape:
        count *= size
    memory = np.empty(count + 15, np.float32)
    start = -memory.ctypes.data // 4 % 16
    return memory[start : start + count].reshape(shape)


def compile_kernels() -> float:
    """Makes all kernels ready, from numba's cache where they are in it.

    Later calls, of this function or of a kernel, compile nothing: no iteration's time holds a
    compilation. A cache that cannot be read or written, on a read-only or full disk, costs the time
    of a compilation and nothing else.

    Returns:
        The seconds it took if it compiled anything, else 0.
    """
    global _ready
    if _ready or numba.config.DISABLE_JIT:
        return 0.0
    started = time.perf_counter()
    for compiled, signature in _entries:
        _compile(compiled, signature)
    _ready = True
    compiled_any = any(compiled.stats.cache_misses for compiled, _ in _entries)
    return time.perf_counter() - started if compiled_any else 0.0


def _compile(compiled: Any, signature: str) -> None:
    try:
        compiled.enable_caching()
        compiled.compile(signature)
    except Exception:  # numba passes on what the disk or a damaged file raises
        compiled._cache.disable()
        compiled.compile(signature)
    compiled.disable_compile()
