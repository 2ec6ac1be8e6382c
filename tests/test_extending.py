"""What docs/extending.md adds is one file and one entry each, and a grid runs with all of it."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import ray

from tests.test_docs import BLOCK, DOCS, ROOT

BLOCKS = BLOCK.findall((DOCS / "extending.md").read_text(encoding="utf-8"))


def add(root, block):
    """Writes a block of the page to where its first line says: a file, or an entry of a table."""
    place, _, content = block.removeprefix("# ").partition("\n")
    name, _, table = place.partition(": ")
    if not table:
        (root / name).write_text(content, encoding="utf-8")
        return
    imported, entry = content.split("\n\n")
    text = (root / name).read_text(encoding="utf-8")
    text, found = re.subn(rf"^({table}\b.*= \{{\n)", rf"\g<1>{entry}", text, flags=re.M)
    assert found == 1
    text = re.sub(r"^from rllib_lpdm", f"{imported}\nfrom rllib_lpdm", text, count=1, flags=re.M)
    (root / name).write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_what_the_page_adds_is_all_that_a_grid_needs(tmp_path, ray_session):
    shutil.copytree(ROOT / "rllib_lpdm", tmp_path / "rllib_lpdm")
    for language, block in BLOCKS:
        if language in ("py", "yaml"):
            add(tmp_path, block)

    imports = ["--import", "walks", "--import", "lines", "--import", "unit_rows"]
    quietly = ["--set", "in_process=true", "--wandb", "disabled"]
    address = ray.get_runtime_context().gcs_address  # spares another Ray
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
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
