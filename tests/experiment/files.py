"""Experiment files written for a test."""

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
