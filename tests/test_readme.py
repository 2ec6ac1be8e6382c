"""The README's Python runs as it stands, and what it names exists."""

import re

import pytest

from tests.experiment.files import CONFIGS

ROOT = CONFIGS.parent
README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_python_block_runs_as_it_stands(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {})


def test_it_can_be_read_at_a_sitting():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
