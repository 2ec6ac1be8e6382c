"""What W&B's own reader finds in its offline files."""

import json
import subprocess

import pytest

from tests.experiment.trackers.cells import wait_for

wandb = pytest.importorskip("wandb")


def offline_files(directory):
    return sorted((directory / "wandb").glob("offline-run-*/run-*.wandb"))


def read(path):
    """A whole file, which W&B's service may still be writing when the client's run has finished."""

    def ended():
        found = read_so_far(path)
        return found if "exit" in found[2] else None

    return wait_for(ended)


def read_so_far(path):
    """A file's run record, its rows as (step, values), and its other records by type.

    Of the summary all updates are joined; ``metrics`` are the definitions of axes.
    """
    command = [wandb.util.get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    result = subprocess.run(
        [*command, "--run-file", str(path), str(path.parent.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    run, rows, other = None, [], {"summary": {}, "metrics": []}
    for record in map(json.loads, result.stdout.splitlines()):
        content = record.get(record["type"])
        if record["type"] == "run":
            run = content
        elif record["type"] == "history":
            values = {k: v for k, v in content["item"].items() if not k.startswith("_")}
            rows.append((content["item"]["_step"], values))
        elif record["type"] == "summary":
            other["summary"] |= content["update"]
        elif record["type"] == "metric":
            other["metrics"].append(content)
        else:
            other[record["type"]] = content
    return run, rows, other


def read_one(directory):
    (path,) = offline_files(directory)
    return read(path)
