"""The two action distributions: sampling in numpy, log-probabilities and gradients in torch.

Both give gradients by the policy head's outputs by hand, and a loss needs no autograd.
"""

import math
from typing import Any

import gymnasium as gym
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_lpdm.local_learning.kernels import compile_kernels
from rllib_lpdm.local_learning.kernels.forward import bounded

Array = NDArray[Any]


class Categorical:
    """Discrete actions; the policy head's outputs are logits.

    Both distributions have these methods, whose ``outputs`` are those of the policy head.
    """

    action_shape: tuple[int, ...] = ()
    action_dtype: type = np.int64

    def __init__(self, space: gym.spaces.Discrete) -> None:
        self.size = int(space.n)
        self._start = int(space.start)

    def noise(self, rng: np.random.Generator, steps: int) -> Array:
        """Returns (steps, size) float32 noise, enough to draw one action a row."""
        return rng.gumbel(size=(steps, self.size)).astype(np.float32)

    def sample(self, outputs: Array, noise: Array) -> Any:
        """Returns the action of (size,) outputs and a row of noise; may overwrite the outputs."""
        return (outputs + noise).argmax()

    def mode(self, outputs: Array) -> Any:
        """Returns the most probable action of the (size,) outputs."""
        return outputs.argmax()

    def to_env(self, action: Any) -> Any:
        """Returns the action in the environment's form and within its bounds."""
        return int(action) + self._start

    def log_prob(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (N,) log-probabilities, and their (N, size) gradient by the outputs."""
        log_probs = torch.log_softmax(outputs, dim=1)
        index = actions.unsqueeze(1)
        gradient = log_probs.exp().neg_()
        gradient.scatter_add_(1, index, gradient.new_ones(index.shape))
        return log_probs.gather(1, index).squeeze(1), gradient

    def kl(self, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (N,) KL(old || new), and its (N, size) gradient by the new outputs."""
        old_log_probs = torch.log_softmax(old, dim=1)
        new_log_probs = torch.log_softmax(new, dim=1)
        old_probs = old_log_probs.exp()
        divergence = (old_probs * (old_log_probs - new_log_probs)).sum(1)
        return divergence, new_log_probs.exp_().sub_(old_probs)


class FixedGaussian:
    """Continuous actions: the outputs are means, the standard deviation is fixed.

    Actions are clipped for the environment only; the unclipped action enters the log-probability.
    """

    action_dtype: type = np.float32

    def __init__(self, space: gym.spaces.Box, std: float) -> None:
        self.size = math.prod(space.shape)
        self.action_shape: tuple[int, ...] = (self.size,)
        self.std = std
        self._shape = space.shape
        self._dtype = space.dtype
        self._flat = len(space.shape) == 1 and space.dtype == np.float32
        self._compiled = self._flat and not numba.config.DISABLE_JIT
        compile_kernels()
        self._low = space.low.flatten()  # copies: bounds out of Ray's store are read-only
        self._high = space.high.flatten()
        self._log_normaliser = self.size * (math.log(std) + 0.5 * math.log(2.0 * math.pi))

    def noise(self, rng: np.random.Generator, steps: int) -> Array:
        noise = rng.standard_normal((steps, self.size), dtype=np.float32)
        noise *= np.float32(self.std)
        return noise

    def sample(self, outputs: Array, noise: Array) -> Any:
        outputs += noise
        return outputs

    def mode(self, outputs: Array) -> Any:
        return outputs

    def to_env(self, action: Any) -> Any:
        if self._compiled:  # clipping in numpy takes 5 % of a step of HalfCheetah-v4
            return bounded(action, self._low, self._high)
        clipped = np.maximum(action, self._low)
        np.minimum(clipped, self._high, clipped)
        return clipped if self._flat else clipped.reshape(self._shape).astype(self._dtype)

    def log_prob(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        gradient = (actions - outputs).mul_(1.0 / self.std**2)
        log_prob = gradient.square().sum(1).mul_(-0.5 * self.std**2).sub_(self._log_normaliser)
        return log_prob, gradient

    def kl(self, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        gradient = (new - old).mul_(1.0 / self.std**2)
        return gradient.square().sum(1).mul_(0.5 * self.std**2), gradient


ActionDistribution = Categorical | FixedGaussian


def action_distribution(space: gym.Space, action_std: float) -> ActionDistribution:
    """Returns the distribution for an action space; raises ValueError for one of another kind."""
    if isinstance(space, gym.spaces.Discrete):
        return Categorical(space)
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return FixedGaussian(space, action_std)
    raise ValueError(
        f"unsupported action space {space}: rllib_lpdm trains Discrete and floating-point Box "
        "actions; wrap the environment to offer one of them"
    )
