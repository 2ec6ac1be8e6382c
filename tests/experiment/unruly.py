"""Environments and trials that give trouble, for processes that Ray starts."""

import errno
import os
import sys

import gymnasium as gym
import ray
from ray import tune

from rllib_lpdm.grid.trainable import CellTrainable


class Unruly(gym.Wrapper):
    """CartPole with trouble at one of the steps of its life.

    Args:
        step: the number of that step.
        trouble: called then, with how often it was called before in any process.
        calls: a file that gets a byte with every call.
    """

    def __init__(self, step, trouble, calls):
        super().__init__(gym.make("CartPole-v1"))
        self._left, self._trouble, self._calls = step, trouble, calls

    def step(self, action):
        self._left -= 1
        if self._left == 0:
            with self._calls.open("ab") as file:
                before = file.tell()
                file.write(b".")
            self._trouble(before)
        return super().step(action)


def exit_then_raise(before):
    if not before:
        os._exit(137)  # as when the kernel is out of memory
    raise RuntimeError("the physics broke")


def always_raise(before):
    raise RuntimeError(f"the physics broke at {object()}")  # with another address each time


def find_no_room(before):
    raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/cache")


def raise_then_behave(before):
    if not before:
        raise RuntimeError("the physics broke")


def behave(before):
    pass


class Unable(CellTrainable):
    """One environment's cell cannot even begin, as on a node where something is missing."""

    def setup(self, config, job):
        if config["cell"]["name"].startswith("Absent"):
            raise ImportError("no such module on this node")
        super().setup(config, job)


def register(name, step, trouble, calls):
    """Makes an environment known to this process, and to those of the present Ray session."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def create(config=None):
        return Unruly(step, trouble, calls)

    gym.register(name, entry_point=create)
    tune.register_env(name, create)
