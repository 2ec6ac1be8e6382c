"""Compiled loops: the paper's L1 distances, and a policy that acts; in single precision."""

from rllib_lpdm.local_learning.kernels import acting, gradient, loops, values
from rllib_lpdm.local_learning.kernels.compilation import compile_kernels

__all__ = ["acting", "compile_kernels", "gradient", "loops", "values"]
