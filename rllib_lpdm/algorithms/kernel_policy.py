"""The policy's forward pass while collecting, by compiled loops where there are some."""

from typing import Any

import numba
from numpy.typing import NDArray

from rllib_lpdm.local_learning.kernels import compile_kernels, forward

Array = NDArray[Any]


def acts_by_kernel(activation: str, black_box: object = None) -> bool:
    """Whether :class:`KernelPolicy` plays a policy of fully connected layers."""
    return activation == "tanh" and black_box is None and not numba.config.DISABLE_JIT


class KernelPolicy:
    """The policy's forward pass for one observation, with tanh after the hidden layers.

    Args:
        layers: weight (out, in) and bias (out,) of the hidden layers and of the policy head, which
            are copied.
    """

    def __init__(self, layers: list[tuple[Array, Array]]) -> None:
        compile_kernels()
        self._packed = forward.packed(layers)

    def __call__(self, observation: Array) -> Array:
        """(d_x,) float32 observation -> (size,) outputs of the policy head."""
        outputs: Array = forward.forward(observation, *self._packed)
        return outputs

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a policy in another process; its arrays in Ray's store are read-only there."""
        compile_kernels()
        parameters, sizes = state["_packed"]
        self._packed = parameters.copy(), sizes.copy()
