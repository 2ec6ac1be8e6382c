"""The scripts for plain hosts: where they refuse; the survival tests run a grid on two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER


@pytest.mark.parametrize("arguments", [["plain-head.sh"], ["plain-worker.sh", "10.0.0.1"]])
def test_a_public_address_is_refused(arguments):
    script, *rest = arguments
    ended = subprocess.run(
        [CLUSTER / script, *rest, "8.8.8.8"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: 8.8.8.8 is not a private address; Ray must not face the world\n"
    )
