"""The README's Python runs as it stands, and what it names exists."""

import re
import shutil
import subprocess

import pytest

from tests.experiment.files import CONFIGS

ROOT = CONFIGS.parent
README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
(TUNER,) = [block for block in BLOCKS if "tune.Tuner" in block]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def run(block, folder):
    """The names that a block leaves, which runs in a repository and leaves no other file there."""
    shutil.copy(ROOT / ".gitignore", folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    names = {}
    exec(compile(block, str(README), "exec"), names)
    status = ["git", "status", "--porcelain"]
    left = subprocess.run(status, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert left == "?? .gitignore\n"
    return names


@pytest.mark.parametrize("block", sorted({*BLOCKS} - {TUNER}), ids=range(len(BLOCKS) - 1))
def test_a_python_block_runs_as_it_stands(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(block, tmp_path)


def test_a_config_with_what_tune_has_to_choose_is_trained_by_a_tuner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = run(TUNER, tmp_path)["results"]
    assert not results.errors
    chosen = {(result.config["method"], result.config["seed"]) for result in results}
    assert chosen == {("bp", 1000), ("lpdm", 1000)}
    assert all(1e-4 <= result.config["lr"] <= 1e-2 for result in results)
    lengths = sorted(result.metrics["training_iteration"] for result in results)
    assert lengths in ([2, 4], [4, 4])  # the first goes on, the other unless it is worse


def test_it_can_be_read_at_a_sitting():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
