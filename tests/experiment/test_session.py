"""How a run leaves Ray."""

import subprocess
import sys

import pytest
import ray

ABANDONS = """
import gc, sys, weakref
import ray
from rllib_lpdm.experiment import session

class Cycle:
    def __init__(self):
        self.reference, self.itself = ray.put(0), self

gc.disable()
shutdown = ray.shutdown
with session._ray_session(sys.argv[1]):
    gone = weakref.ref(Cycle())
    assert gone() is not None
    ray.shutdown = lambda: (print("gone before:", gone() is None), shutdown())
"""


@pytest.mark.slow
def test_references_left_in_cycles_are_gone_before_ray_shuts_down(ray_session):
    address = ray.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-c", ABANDONS, address],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "gone before: True" in ended.stdout
