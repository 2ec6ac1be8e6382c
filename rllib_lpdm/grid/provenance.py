"""What made a number: versions, git commit and hardware of this process."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("rllib-lpdm", "ray", "torch", "numpy", "numba", "gymnasium", "mujoco")


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions, git commit and hardware of this process, for ``run.json``."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "hardware": {
            "machine": platform.machine(),
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "gpus": _gpu_names(),
        },
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_commit() -> str | None:
    """The commit of the package's source tree, with ``-dirty`` where it has changes.

    An installation without its sources, such as a container image, may name it in GIT_COMMIT.
    """
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return os.environ.get("GIT_COMMIT") or None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _gpu_names() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
