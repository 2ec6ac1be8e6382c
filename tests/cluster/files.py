"""The files of ``cluster/`` as the tests read them."""

import re
from pathlib import Path

import yaml
from ray.scripts.scripts import cli

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
PINS = dict(re.findall(r"^([\w.-]+)==([^\s;]+)$", (ROOT / "constraints.txt").read_text(), re.M))
TEXTS = {
    path.name: path.read_text(encoding="utf-8") for path in CLUSTER.iterdir() if path.is_file()
}


class _Stack(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, which are read as their arguments."""


_Stack.add_multi_constructor(
    "!", lambda loader, suffix, node: (suffix, str(getattr(node, "value", None)))
)


def documents(name):
    """The documents of a YAML file."""
    return list(yaml.load_all(TEXTS[name], Loader=_Stack))


def launcher():
    (config,) = documents("launcher-aws.yaml")
    return config


def rayjob():
    (job,) = (one for one in documents("kuberay-rayjob.yaml") if one["kind"] == "RayJob")
    return job


def shell_texts():
    """Every piece of shell: scripts, commands within YAML, code blocks of the README."""
    texts = {
        name: text for name, text in TEXTS.items() if text.startswith("#!/usr/bin/env bash")
    } | {"kuberay-rayjob.yaml entrypoint": rayjob()["spec"]["entrypoint"]}
    for key, value in launcher().items():
        if key.endswith("commands"):
            texts |= {f"launcher-aws.yaml {key} {i}": command for i, command in enumerate(value)}
    blocks = re.findall(r"^( *)```\n(.*?)^ *```", TEXTS["README.md"], re.M | re.S)
    texts |= {f"README.md block {i}": text for i, (_, text) in enumerate(blocks)}
    return texts


def invocations(program):
    """What follows ``program`` on every command line in the files, prose included."""
    lines = re.sub(r"\\\n\s*", "", "\n".join([*TEXTS.values(), *shell_texts().values()]))
    return sorted(set(re.findall(rf"(?<![\w./-]){program}([^\n`'|;&)\]]*)", lines)))


def options_of_ray(command):
    """All that may be given to one of the commands of ``ray``."""
    params = cli.commands[command].params
    return {option for one in params for option in (*one.opts, *one.secondary_opts)}
