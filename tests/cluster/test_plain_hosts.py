"""The scripts for plain hosts: what they refuse; the survival tests run a grid on two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER


def refusal(home, script, *words):
    """What a script says that starts nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    ended = subprocess.run(
        [CLUSTER / script, *words],
        env=kept | {"HOME": str(home), "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 1
    return ended.stderr


@pytest.mark.parametrize("words", [["plain-head.sh"], ["plain-worker.sh", "10.0.0.1"]])
def test_a_public_address_is_refused(tmp_path, words):
    said = refusal(tmp_path, *words, "8.8.8.8")
    assert said == "error: 8.8.8.8 is not a private address; Ray must not face the world\n"


@pytest.mark.slow
def test_a_worker_without_the_token_says_what_is_missing(tmp_path):
    said = refusal(tmp_path, "plain-worker.sh", "127.0.0.1", "127.0.0.1")
    assert "copy ~/.ray/auth_token" in said
