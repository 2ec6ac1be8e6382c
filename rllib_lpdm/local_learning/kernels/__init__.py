"""The paper's distances by numba: L1, single precision, on the CPU."""

from rllib_lpdm.local_learning.kernels import loops, ties, values
from rllib_lpdm.local_learning.kernels.compilation import compile_kernels

__all__ = ["compile_kernels", "loops", "ties", "values"]
