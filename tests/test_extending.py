"""The files of docs/extending.md are all that a grid needs, and none is in the package."""

import json
import os
import subprocess
import sys

import pytest
import ray

from tests.test_docs import BLOCK, DOCS, ROOT

BLOCKS = BLOCK.findall((DOCS / "extending.md").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_what_the_page_adds_is_all_that_a_grid_needs(tmp_path, ray_session):
    names = []
    for language, block in BLOCKS:
        if language in ("py", "yaml"):
            name, _, content = block.removeprefix("# ").partition("\n")
            (tmp_path / name).write_text(content, encoding="utf-8")
            names.append(name)
    imports = [w for name in names if name.endswith(".py") for w in ("--import", name[:-3])]
    quietly = ["--set", "in_process=true", "--wandb", "disabled"]
    address = ray.get_runtime_context().gcs_address  # spares another Ray
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ["PYTHONPATH"]])
    program = f"""
from rllib_lpdm import report, tune

assert tune.main({["extended.yaml", *imports, *quietly]}) == 0
assert report.main(["results/extended"]) == 0
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cells = sorted((tmp_path / "results" / "extended").glob("*/run.json"))
    assert [cell.parent.name for cell in cells] == [
        f"short-walk_{algorithm}_{method}_s0"
        for algorithm in ("imitation", "ppo")
        for method in ("lpdm", "lpdm_unit")
    ]
    for cell in cells:
        assert json.loads(cell.read_text(encoding="utf-8"))["status"] == "finished"
        assert len((cell.parent / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 4
