"""The README's Python runs as it stands, and nothing in it is left to fill in."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_python_block_runs_as_it_stands(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {})


def test_every_file_and_link_within_the_repository_exists():
    text = README.read_text(encoding="utf-8")
    assert "@@" not in text
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`(tune_configs/[a-z_.]+)`", text)
    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []
