"""Random streams addressed by counters instead of carried along as state.

A random number depends on the run's seed and on its address: the purpose, the iteration, and the
episode or epoch. It does not depend on the process that draws it, or on earlier draws. So any
number of runners, a resumed run and a reused worker all see the same numbers.
"""

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """The purpose of a stream; streams of different purposes never overlap."""

    INITIALISATION = 0
    EPISODE = 1
    SHUFFLE = 2
    ROWS = 3
    EVALUATION = 4
    PRETRAINING = 5
    FEEDBACK = 6


def stream(seed: int, purpose: Purpose, iteration: int = 0, index: int = 0) -> np.random.Generator:
    """Returns the generator at one address.

    Args:
        seed: the run's seed, 0 <= seed < 2**64.
        purpose: the use of the numbers.
        iteration: the paper's iteration, from 0.
        index: episode, epoch or minibatch within the iteration, from 0.

    Returns:
        A generator over Philox, whose 256-bit counter starts at the address. The low 64 bits count
        the draws within the stream.
    """
    return np.random.Generator(
        np.random.Philox(key=[seed, 0], counter=[0, purpose, iteration, index])
    )


def integer_seed(generator: np.random.Generator) -> int:
    """Draws a seed for libraries that take an int: 31 bits, as ``env.reset`` and torch accept."""
    return int(generator.integers(2**31))
