import gc
import os

# Before torch is imported, here and in every process that a test starts: small tensors gain nothing
# from threads, and several processes of several threads each wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from rllib_lpdm.grid.signals import handlers_kept

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "rllib_lpdm/local_learning/kernels/__pycache__"
STARTUP = str(ROOT / "tests/startup")
COMPILED = "*.py{}{}.nbi".format(*sys.version_info)
COMPILE = "from rllib_lpdm.local_learning.kernels import compile_kernels; compile_kernels()"
# Processes that tests start have this package, whatever folder they work in, and start sooner.
if STARTUP not in os.environ.get("PYTHONPATH", ""):
    others = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [STARTUP, str(ROOT), str(ROOT / "examples"), *others]
    )
# Nor does each of them compile the package's sources for itself where the environment forbids to
# keep what was compiled: to Python this variable is unset when it is empty.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
sys.dont_write_bytecode = False
gc.set_threshold(700, 10, 10)  # Python's: what is said above is for other processes than pytest's
gc.disable()  # what is imported stays, and is not searched for garbage while tests are collected


def pytest_configure(config):
    """In a fresh clone the kernels are compiled once, while the tests are collected.

    Each of several processes would otherwise do it for itself.
    """
    if not hasattr(config, "workerinput") and not any(CACHE.glob(COMPILED)):
        config.compiling = subprocess.Popen(
            [sys.executable, "-c", COMPILE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


@pytest.fixture(scope="session")
def ray_session():
    """Ray on this machine, with CPUs enough for a few small actors; one for all tests."""
    from rllib_lpdm.grid.session import leave_ray, start_ray  # not by the process that waits

    start_ray(num_cpus=4)
    yield
    leave_ray()


@pytest.fixture(autouse=True)
def _signals():
    """A test that trains by Tune's own call leaves Tune's handlers behind."""
    with handlers_kept():
        yield


@pytest.fixture(autouse=True, scope="session")
def _quiet_gymnasium():
    """The paper's environments are asked for by name, old versions and all."""
    gym.logger.min_level = gym.logger.ERROR


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no process ends with a long one by itself."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """No later search for garbage looks through what was loaded and collected either."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config):
    if hasattr(config, "compiling"):
        config.compiling.wait()
    gc.freeze()
