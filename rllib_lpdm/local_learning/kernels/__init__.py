"""Compiled loops: the paper's L1 distances, and a policy that acts; in single precision."""

from rllib_lpdm.local_learning.kernels import forward, gradient, loops, values
from rllib_lpdm.local_learning.kernels.compilation import compile_kernels

__all__ = ["compile_kernels", "forward", "gradient", "loops", "values"]
