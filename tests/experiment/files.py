"""Experiment files written for a test."""

import json
from pathlib import Path

import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "tune_configs"
SMALL = {
    "environments": ["CartPole-v1"],
    "algorithms": ["ppo"],
    "methods": ["lpdm"],
    "settings": {"iterations": 2},
}


def write(folder, file="file.yaml", /, **entries):
    """A file with some entries of its own, or none of them where the value is None."""
    content = {key: value for key, value in (SMALL | entries).items() if value is not None}
    path = folder / file
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def read_run(cell):
    """What the ``run.json`` of a cell's folder says; None where it has none."""
    path = cell / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_run(cell, content):
    cell.mkdir(parents=True, exist_ok=True)
    (cell / "run.json").write_text(json.dumps(content), encoding="utf-8")
